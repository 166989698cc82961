//! msr_leave_set, msr_filter_set: the rules for RDMSR and WRMSR in a VM. R11 is the VM.

use std::sync::Arc;

use cpu_engine::{MsrFilter, MsrRange};

use crate::abi::msr as abi;
use crate::abi::msr::mv_msr_filter_t;
use crate::call::Call;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is MV_MSR_LEAVE_*: which refusals leave.
pub fn leave_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let leave = call.regs.r12;
    if leave & !abi::MV_MSR_LEAVE_ALL != 0 {
        return Err(Failure::Reg2);
    }
    vm.change_msr_rules(|rules| {
        rules.leave_invalid = leave & abi::MV_MSR_LEAVE_INVALID != 0;
        rules.leave_unknown = leave & abi::MV_MSR_LEAVE_UNKNOWN != 0;
        rules.leave_denied = leave & abi::MV_MSR_LEAVE_DENIED != 0;
    });
    Ok(Outcome::Done)
}

/// R12 is 0 or 1: whether the guest can read PLATFORM_INFO.
pub fn platform_info_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let hide = match call.regs.r12 {
        0 => true,
        1 => false,
        _ => return Err(Failure::Reg2),
    };
    vm.change_msr_rules(|rules| rules.hide_platform_info = hide);
    Ok(Outcome::Done)
}

/// Adds the range on the page to the filter in the making. Refused where a flag is unknown, the range
/// has too many MSRs, or there are too many ranges.
pub fn filter_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let page: mv_msr_filter_t = call.pp.page()?.read();
    let has = |flag: u64| page.flags & flag != 0;
    let too_many = u64::from(page.count) > abi::MV_MSR_FILTER_MAX_MSRS;
    if page.flags & !abi::MV_MSR_FILTER_ALL != 0 || too_many {
        return Err(Failure::Unknown);
    }
    let mut making = vm.msr_filter_in_the_making();
    if has(abi::MV_MSR_FILTER_FIRST) {
        *making = MsrFilter { deny: has(abi::MV_MSR_FILTER_DENY), ranges: Vec::new() };
    }
    if page.count != 0 {
        if making.ranges.len() as u64 >= abi::MV_MSR_FILTER_MAX_RANGES {
            return Err(Failure::Unknown);
        }
        making.ranges.push(MsrRange {
            read: has(abi::MV_MSR_FILTER_READ),
            write: has(abi::MV_MSR_FILTER_WRITE),
            first: page.first,
            count: page.count,
            allowed: page.bitmap[..(page.count as usize).div_ceil(8)].to_vec(),
        });
    }
    if has(abi::MV_MSR_FILTER_LAST) {
        let filter = std::mem::take(&mut *making);
        let filter = (filter != MsrFilter::default()).then(|| Arc::new(filter));
        vm.change_msr_rules(|rules| rules.filter = filter);
    }
    Ok(Outcome::Done)
}
