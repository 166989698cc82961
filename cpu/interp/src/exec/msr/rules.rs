//! Which values the MSRs can hold. The checks are those of KVM where it checks more or less than
//! the manuals.

use cpu_defs::{cpuid_bit as bit, msr};

use crate::features::Features;

/// Who accesses an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// RDMSR, WRMSR.
    Guest,
    /// The host, which may also set what a guest can only read.
    Host,
}

/// What a rule looks at.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub features: &'a Features,
    pub index: u32,
    pub value: u64,
    /// The present value.
    pub old: u64,
    pub origin: Origin,
}

/// Whether a write is legal.
pub(super) type Rule = fn(Write) -> bool;

pub(super) fn any(_: Write) -> bool {
    true
}

pub(super) fn zero(write: Write) -> bool {
    write.value == 0
}

/// Only the host writes it.
pub(super) fn host_only(write: Write) -> bool {
    write.origin == Origin::Host
}

/// Only the host writes it, and nothing but 0.
pub(super) fn host_zero(write: Write) -> bool {
    write.origin == Origin::Host && write.value == 0
}

/// Memory types 0, 1, 4, 5, 6 and 7 in each of eight fields.
pub(super) fn is_pat(value: u64) -> bool {
    value.to_le_bytes().into_iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

fn is_mtrr_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

/// Type, fixed-range enable, enable.
pub(super) fn mtrr_default(write: Write) -> bool {
    write.value & !0xCFF == 0 && is_mtrr_type(write.value as u8)
}

/// Eight types.
pub(super) fn mtrr_fixed(write: Write) -> bool {
    write.value.to_le_bytes().into_iter().all(is_mtrr_type)
}

/// Even numbers are bases with a type, odd ones masks with a valid bit.
pub(super) fn mtrr_variable(write: Write) -> bool {
    let beyond = u64::MAX << write.features.max_phy_addr;
    if (write.index - msr::IA32_MTRR_PHYSBASE0).is_multiple_of(2) {
        is_mtrr_type(write.value as u8) && write.value & (beyond | 0xF00) == 0
    } else {
        write.value & (beyond | 0x7FF) == 0
    }
}

/// All errors on or off, where the bank control exists.
pub(super) fn mcg_ctl(write: Write) -> bool {
    matches!(write.value, 0 | u64::MAX)
}

/// In turn CTL, STATUS, ADDR and MISC of each bank. CTL is all on or all off, but for bits that
/// systems are known to clear (10) or to set alone (0); a guest can only clear STATUS.
pub(super) fn mc_bank(write: Write) -> bool {
    match (write.index - msr::IA32_MC0_CTL) % 4 {
        0 => write.value == 0 || write.value | 1 << 10 | 1 == u64::MAX,
        1 => write.origin == Origin::Host || write.value == 0,
        _ => true,
    }
}

/// Corrected-error interrupts enabled, and their threshold.
pub(super) fn mc_ctl2(write: Write) -> bool {
    write.value & !(1 << 30 | 0x7FFF) == 0
}

/// FEAT_CTL cannot be changed once it is locked.
pub(super) fn feat_ctl(write: Write) -> bool {
    write.origin == Origin::Host || write.old & 1 == 0
}

/// IBRS, STIBP and SSBD, each where it is announced.
pub(super) fn spec_ctrl(write: Write) -> bool {
    let announced = |bits: &[_], mask| {
        let any = bits.iter().any(|&bit| write.features.has(bit));
        if any || write.origin == Origin::Host { mask } else { 0 }
    };
    let legal = announced(&[bit::SPEC_CTRL, bit::IBRS], 1)
        | announced(&[bit::STIBP, bit::AMD_STIBP], 2)
        | announced(&[bit::SSBD, bit::AMD_SSBD], 4);
    write.value & !legal == 0
}

/// IBPB.
pub(super) fn pred_cmd(write: Write) -> bool {
    write.value & !1 == 0
}

/// The bits that say that there is no branch trace and no PEBS are read-only.
pub(super) fn misc_enable(write: Write) -> bool {
    write.origin == Origin::Host || (write.value ^ write.old) & 0x1800 == 0
}

/// CPUID faulting.
pub(super) fn misc_features(write: Write) -> bool {
    write.value & !1 == 0
}

/// McStatusWrEn and TscFreqSel; bits 3, 6 and 8 are dropped by the table.
pub(super) fn hwcr(write: Write) -> bool {
    write.value & !(1 << 18 | 1 << 24 | super::table::HWCR_DROPPED) == 0
}

/// LFENCE is serialising.
pub(super) fn de_cfg(write: Write) -> bool {
    write.value & !2 == 0
}

/// Last branches and single steps on branches, both without effect.
pub(super) fn debugctl(write: Write) -> bool {
    write.value & !3 == 0
}
