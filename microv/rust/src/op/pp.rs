//! mv_pp_op: the calling thread, its shared page, and what the processor can do.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use cpu_defs::CpuidEntry;
use cpu_engine::{CodeLimit, Personality, supported_cpuid_as, supported_msrs};
use zerocopy::FromZeros;

use crate::abi::id::MV_MAX_CODE_CACHE_MIB;
use crate::abi::index;
use crate::abi::list::mv_rdl_t;
use crate::call::Call;
use crate::cdl;
use crate::host_memory::HostMemory;
use crate::outcome::{Failure, OpResult, Outcome};
use crate::page::SharedPage;
use crate::rdl::{self, Query};

/// Carries out operation `index` of the group.
pub fn call(call: &mut Call, index: u64) -> OpResult {
    match index {
        index::MV_PP_OP_PPID_IDX_VAL => Ok(Outcome::Value(call.pp.id().into())),
        index::MV_PP_OP_ONLINE_PPS_IDX_VAL => Ok(Outcome::Value(call.machine.pps.taken() as u64)),
        index::MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL => {
            call.pp.clear_page();
            Ok(Outcome::Done)
        }
        index::MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL => set_shared_page_gpa(call),
        index::MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL => {
            Ok(Outcome::Value(call.pp.page().map_or(0, SharedPage::gpa)))
        }
        index::MV_PP_OP_SET_PERSONALITY_IDX_VAL => set_personality(call),
        index::MV_PP_OP_SET_CODE_CACHE_IDX_VAL => set_code_cache(call),
        index::MV_PP_OP_CPUID_GET_SUPPORTED_IDX_VAL => cpuid_get_supported(call),
        index::MV_PP_OP_CPUID_GET_SUPPORTED_LIST_IDX_VAL => {
            cdl::answer(call.pp.page()?, &supported_cpuid(call))?;
            Ok(Outcome::Done)
        }
        index::MV_PP_OP_MSR_GET_SUPPORTED_IDX_VAL => msr_get_supported(call),
        index::MV_PP_OP_MSR_GET_SUPPORTED_LIST_IDX_VAL => msr_get_supported_list(call),
        index::MV_PP_OP_MSR_GET_FEATURE_LIST_IDX_VAL => msr_get_feature_list(call),
        index::MV_PP_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL => {
            cdl::answer(call.pp.page()?, &crate::hyperv::supported_cpuid(true))?;
            Ok(Outcome::Done)
        }
        index::MV_PP_OP_TSC_GET_KHZ_IDX_VAL => {
            let khz = call.pp.tsc_khz.map_or_else(cpu_engine::host_tsc_khz, NonZeroU32::get);
            Ok(Outcome::Value(khz.into()))
        }
        index::MV_PP_OP_TSC_SET_KHZ_IDX_VAL => tsc_set_khz(call),
        _ => Err(Failure::Unsupported),
    }
}

/// R11 is the address of a page of this process; one that is set must be cleared first.
fn set_shared_page_gpa(call: &mut Call) -> OpResult {
    let page = SharedPage::new(call.regs.r11, &HostMemory::now()).ok_or(Failure::Reg1)?;
    call.pp.set_page(page)?;
    Ok(Outcome::Done)
}

/// R11 is the frequency in kHz that VSs created from this PP get; 0 and what 32 bits cannot hold are
/// refused.
fn tsc_set_khz(call: &mut Call) -> OpResult {
    let khz = u32::try_from(call.regs.r11).ok().and_then(NonZeroU32::new);
    call.pp.tsc_khz = Some(khz.ok_or(Failure::Reg1)?);
    Ok(Outcome::Done)
}

/// R11 is 0 for Intel, 1 for AMD; VSs that exist stay as they are.
fn set_personality(call: &Call) -> OpResult {
    let personality = match call.regs.r11 {
        0 => Personality::Intel,
        1 => Personality::Amd,
        _ => return Err(Failure::Reg1),
    };
    call.machine.personality.set(personality);
    Ok(Outcome::Done)
}

const _: () = assert!(CodeLimit::MOST_MIB as u64 == MV_MAX_CODE_CACHE_MIB);

/// R11 is in MiB; VMs that exist keep what they have.
fn set_code_cache(call: &Call) -> OpResult {
    CodeLimit::from_mib(call.regs.r11).ok_or(Failure::Reg1)?;
    call.machine.code_cache_mib.store(call.regs.r11, Ordering::Relaxed);
    Ok(Outcome::Done)
}

/// The processor's and those of the paravirtual interface, which a new VS does not show by itself.
fn supported_cpuid(call: &Call) -> Vec<CpuidEntry> {
    let mut table = supported_cpuid_as(call.machine.personality.get());
    table.extend(cpu_paravirt::features::supported_cpuid());
    table.sort_by_key(|entry| (entry.function, entry.index));
    table
}

fn all_supported_msrs(call: &Call) -> Vec<u32> {
    let own = supported_msrs(call.machine.personality.get());
    let hyperv = cpu_paravirt::hyperv::msr::SAVED.iter().copied();
    // Of a page for ends of interrupts the last word is KVM's, for it is restored last.
    own.into_iter().chain(hyperv).chain(cpu_paravirt::msr::all()).collect()
}

/// The first entry of the list on the page is the question and becomes the answer.
fn cpuid_get_supported(call: &Call) -> OpResult {
    let answered = cdl::answer_one(call.pp.page()?, &supported_cpuid(call));
    answered.map(|()| Outcome::Done).ok_or(Failure::Unknown)
}

/// R10 = 1 where the MSR in R11[31:0] can be read and written, else 0.
fn msr_get_supported(call: &Call) -> OpResult {
    let msr = u32::try_from(call.regs.r11).map_err(|_| Failure::Reg1)?;
    Ok(Outcome::Value(all_supported_msrs(call).contains(&msr).into()))
}

/// All supported MSRs from index reg1 on (MV_RDL_FLAG_ALL), or 1 and 0 for those listed.
fn msr_get_supported_list(call: &Call) -> OpResult {
    let page = call.pp.page()?;
    let mut list: mv_rdl_t = page.read();
    let supported = all_supported_msrs(call);
    match rdl::query(&list, supported.len())? {
        Query::AllFrom(start) => {
            let rest = &supported[start..];
            let count = rest.len().min(list.entries.len());
            for (entry, msr) in list.entries.iter_mut().zip(rest) {
                (entry.reg, entry.val) = ((*msr).into(), 1);
            }
            list.num_entries = count as u64;
            list.reg[1] = (rest.len() - count) as u64;
        }
        Query::Listed => {
            for entry in rdl::entries(&mut list) {
                let msr = u32::try_from(entry.reg).map_err(|_| Failure::Unknown)?;
                entry.val = supported.contains(&msr).into();
            }
        }
    }
    page.write(0, &list);
    Ok(Outcome::Done)
}

/// The MSRs that describe the processor, with their values.
fn msr_get_feature_list(call: &Call) -> OpResult {
    let features = cpu_engine::feature_msrs(call.machine.personality.get());
    let mut list = mv_rdl_t::new_zeroed();
    for (entry, (msr, value)) in list.entries.iter_mut().zip(&features) {
        (entry.reg, entry.val) = ((*msr).into(), *value);
    }
    list.num_entries = features.len().min(list.entries.len()) as u64;
    call.pp.page()?.write(0, &list);
    Ok(Outcome::Done)
}
