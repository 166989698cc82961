//! The synthetic MSRs: numbers, and what announces each.
//!
//! TLFS, "Synthetic MSRs"; `include/asm-generic/hyperv-tlfs.h`.

use std::ops::RangeInclusive;

use super::cpuid::{Announced, access, feature};

/// Which system the guest is; 0 takes the hypercall page away.
pub const GUEST_OS_ID: u32 = 0x4000_0000;
/// The hypercall page, and [`ENABLED`].
pub const HYPERCALL: u32 = 0x4000_0001;
/// The processor's number in sets of processors.
pub const VP_INDEX: u32 = 0x4000_0002;
/// 1 resets the system.
pub const RESET: u32 = 0x4000_0003;
/// Time that the processor was executed, 100 ns.
pub const VP_RUNTIME: u32 = 0x4000_0010;
/// Reference time, 100 ns.
pub const TIME_REF_COUNT: u32 = 0x4000_0020;
/// The page of [`super::reference_time`], and [`ENABLED`].
pub const REFERENCE_TSC: u32 = 0x4000_0021;
/// Of the time-stamp counter, Hz.
pub const TSC_FREQUENCY: u32 = 0x4000_0022;
/// Of the local APIC's timer, Hz.
pub const APIC_FREQUENCY: u32 = 0x4000_0023;
/// Which of SGDT, SIDT, SLDT and STR user code must not execute, by bit.
pub const NPIEP_CONFIG: u32 = 0x4000_0040;
/// End of interrupt.
pub const EOI: u32 = 0x4000_0070;
/// Interrupt command.
pub const ICR: u32 = 0x4000_0071;
/// Task priority.
pub const TPR: u32 = 0x4000_0072;
/// The assist page, and [`ENABLED`].
pub const VP_ASSIST_PAGE: u32 = 0x4000_0073;
/// Synthetic interrupt controller.
pub const SCONTROL: u32 = 0x4000_0080;
/// Its version.
pub const SVERSION: u32 = 0x4000_0081;
/// Its page of event flags, and [`ENABLED`].
pub const SIEFP: u32 = 0x4000_0082;
/// Its page of messages, and [`ENABLED`].
pub const SIMP: u32 = 0x4000_0083;
/// A message was taken.
pub const EOM: u32 = 0x4000_0084;
/// The first of its 16 sources.
pub const SINT0: u32 = 0x4000_0090;
/// The last of them.
pub const SINT15: u32 = 0x4000_009F;
/// The first of four timers; then its count, then the next timer.
pub const STIMER0_CONFIG: u32 = 0x4000_00B0;
/// The last count.
pub const STIMER3_COUNT: u32 = 0x4000_00B7;
/// A read waits for an interrupt, even one that the processor does not take.
pub const GUEST_IDLE: u32 = 0x4000_00F0;
/// The debugger's interface.
pub const SYNDBG_CONTROL: u32 = 0x4000_00F1;
/// What became of the debugger's request.
pub const SYNDBG_STATUS: u32 = 0x4000_00F2;
/// A packet to be sent.
pub const SYNDBG_SEND_BUFFER: u32 = 0x4000_00F3;
/// Where received packets go.
pub const SYNDBG_RECV_BUFFER: u32 = 0x4000_00F4;
/// Where it is said that one waits.
pub const SYNDBG_PENDING_BUFFER: u32 = 0x4000_00F5;
/// How the debugger's interface is used.
pub const SYNDBG_OPTIONS: u32 = 0x4000_00FF;
/// The first of five numbers about a crash.
pub const CRASH_P0: u32 = 0x4000_0100;
/// The last of them.
pub const CRASH_P4: u32 = 0x4000_0104;
/// [`CRASH_NOTIFY`]: the guest has crashed; for the host, whether that can be told.
pub const CRASH_CTL: u32 = 0x4000_0105;
/// An interrupt when the counter's frequency has changed.
pub const REENLIGHTENMENT_CONTROL: u32 = 0x4000_0106;
/// The host is to keep the counter's frequency until the guest knows the new one.
pub const TSC_EMULATION_CONTROL: u32 = 0x4000_0107;
/// It does.
pub const TSC_EMULATION_STATUS: u32 = 0x4000_0108;
/// A timer of executed time: vector, and whether it runs.
pub const UNHALTED_TIMER_CONFIG: u32 = 0x4000_0114;
/// Its period, 100 ns.
pub const UNHALTED_TIMER_COUNT: u32 = 0x4000_0115;
/// 1: CPUID shows that the counter is invariant, if it is.
pub const TSC_INVARIANT_CONTROL: u32 = 0x4000_0118;

/// In MSRs that name a page: it is in use. The page is in bits 63:12.
pub const ENABLED: u64 = 1;
/// In [`HYPERCALL`]: the guest cannot change it any more.
pub const HYPERCALL_LOCKED: u64 = 2;
/// Bit 63 of [`CRASH_CTL`].
pub const CRASH_NOTIFY: u64 = 1 << 63;
/// What [`APIC_FREQUENCY`] holds.
pub const APIC_HZ: u64 = 1_000_000_000;

/// Where MSRs of Hyper-V are; not every number is one.
pub const RANGES: [RangeInclusive<u32>; 7] = [
    GUEST_OS_ID..=SINT15,
    STIMER0_CONFIG..=STIMER3_COUNT,
    GUEST_IDLE..=SYNDBG_PENDING_BUFFER,
    SYNDBG_OPTIONS..=SYNDBG_OPTIONS,
    CRASH_P0..=TSC_EMULATION_STATUS,
    UNHALTED_TIMER_CONFIG..=UNHALTED_TIMER_COUNT,
    TSC_INVARIANT_CONTROL..=TSC_INVARIANT_CONTROL,
];

/// Those that a client saves and restores, in the order of KVM_GET_MSR_INDEX_LIST: that of restoring.
pub const SAVED: &[u32] = &[
    GUEST_OS_ID,
    HYPERCALL,
    TIME_REF_COUNT,
    REFERENCE_TSC,
    TSC_FREQUENCY,
    APIC_FREQUENCY,
    CRASH_P0,
    CRASH_P0 + 1,
    CRASH_P0 + 2,
    CRASH_P0 + 3,
    CRASH_P4,
    CRASH_CTL,
    RESET,
    VP_INDEX,
    VP_RUNTIME,
    SCONTROL,
    STIMER0_CONFIG,
    VP_ASSIST_PAGE,
    REENLIGHTENMENT_CONTROL,
    TSC_EMULATION_CONTROL,
    TSC_EMULATION_STATUS,
    TSC_INVARIANT_CONTROL,
    NPIEP_CONFIG,
    UNHALTED_TIMER_CONFIG,
    UNHALTED_TIMER_COUNT,
    SYNDBG_OPTIONS,
    SYNDBG_CONTROL,
    SYNDBG_STATUS,
    SYNDBG_SEND_BUFFER,
    SYNDBG_RECV_BUFFER,
    SYNDBG_PENDING_BUFFER,
];

/// Whether an MSR is Hyper-V's.
#[must_use]
pub fn is_hyperv(index: u32) -> bool {
    RANGES.iter().any(|range| range.contains(&index))
}

/// Whether an MSR is a register of the local APIC.
#[must_use]
pub const fn is_apic(index: u32) -> bool {
    matches!(index, EOI | ICR | TPR)
}

/// Whether an MSR is the synthetic interrupt controller's or one of its timers'.
#[must_use]
pub const fn is_synic(index: u32) -> bool {
    is_timer(index) || matches!(index, SCONTROL..=EOM | SINT0..=SINT15)
}

/// Whether an MSR is one of a synthetic timer.
#[must_use]
pub const fn is_timer(index: u32) -> bool {
    matches!(
        index,
        STIMER0_CONFIG..=STIMER3_COUNT | UNHALTED_TIMER_CONFIG..=UNHALTED_TIMER_COUNT
    )
}

/// Whether CPUID announces an MSR.
#[must_use]
pub const fn is_announced(announced: &Announced, index: u32) -> bool {
    let access = match index {
        GUEST_OS_ID | HYPERCALL => access::HYPERCALL,
        GUEST_IDLE => access::GUEST_IDLE,
        VP_RUNTIME => access::VP_RUNTIME,
        TIME_REF_COUNT => access::TIME_REF_COUNT,
        VP_INDEX => access::VP_INDEX,
        RESET => access::RESET,
        REFERENCE_TSC => access::REFERENCE_TSC,
        SCONTROL..=EOM | SINT0..=SINT15 => access::SYNIC,
        STIMER0_CONFIG..=STIMER3_COUNT => access::SYNTHETIC_TIMERS,
        EOI..=VP_ASSIST_PAGE => access::APIC,
        TSC_FREQUENCY | APIC_FREQUENCY => access::FREQUENCIES,
        REENLIGHTENMENT_CONTROL..=TSC_EMULATION_STATUS => access::REENLIGHTENMENT,
        TSC_INVARIANT_CONTROL => access::TSC_INVARIANT,
        NPIEP_CONFIG => return announced.features & feature::NPIEP != 0,
        UNHALTED_TIMER_CONFIG..=UNHALTED_TIMER_COUNT
            if announced.features & feature::UNHALTED_TIMER == 0 =>
        {
            return false;
        }
        UNHALTED_TIMER_CONFIG..=UNHALTED_TIMER_COUNT => access::SYNTHETIC_TIMERS,
        CRASH_P0..=CRASH_CTL => return announced.features & feature::CRASH_MSRS != 0,
        SYNDBG_OPTIONS | SYNDBG_CONTROL..=SYNDBG_PENDING_BUFFER => {
            return announced.features & feature::DEBUG_MSRS != 0;
        }
        _ => return false,
    };
    announced.access & access != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_00m_what_is_saved_is_hypervs() {
        assert!(SAVED.iter().all(|&index| is_hyperv(index)));
        assert!(
            ![0x3FFF_FFFF, 0x4000_00A0, 0x4000_00B8, 0x4000_00EF, 0x4000_0109]
                .into_iter()
                .any(is_hyperv)
        );
    }

    #[test]
    fn hv_24_every_msr_has_its_bit() {
        let all = Announced { enabled: true, access: !0, features: !0, ..Announced::default() };
        let none = Announced::default();
        for &index in SAVED.iter().chain(&[EOI, ICR, TPR, SCONTROL, SINT15, STIMER3_COUNT]) {
            assert!(is_announced(&all, index), "{index:#x}");
            assert!(!is_announced(&none, index), "{index:#x}");
        }
        assert!(!is_announced(&all, GUEST_OS_ID + 4));
    }
}
