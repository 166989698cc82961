//! CPUID of Hyper-V: which leaves there are, and what their bits announce.
//!
//! TLFS, "Feature and Interface Discovery"; the values are those of KVM_GET_SUPPORTED_HV_CPUID, less
//! what is not there: enlightened VMCSs.

use cpu_defs::{CpuidEntry, find_cpuid};

/// Highest leaf and vendor.
pub const VENDOR: u32 = 0x4000_0000;
/// EAX says whose interface it is.
pub const INTERFACE: u32 = 0x4000_0001;
/// Build and version.
pub const VERSION: u32 = 0x4000_0002;
/// What the partition may use: [`access`], [`privilege`], [`feature`].
pub const FEATURES: u32 = 0x4000_0003;
/// What the guest had better do: [`recommend`].
pub const RECOMMENDATIONS: u32 = 0x4000_0004;
/// Numbers of processors.
pub const LIMITS: u32 = 0x4000_0005;
/// Features for nested hypervisors.
pub const NESTED: u32 = 0x4000_000A;
/// Vendor of the debugger's interface.
pub const DEBUG_VENDOR: u32 = 0x4000_0080;
/// EAX says whose debugger's interface it is.
pub const DEBUG_INTERFACE: u32 = 0x4000_0081;
/// What the debugger's interface has: [`KERNEL_DEBUGGING`].
pub const DEBUG_CAPABILITIES: u32 = 0x4000_0082;

/// "Hv#1" in EAX of [`INTERFACE`]: the guest is one of Hyper-V's.
pub const HV_1: u32 = u32::from_le_bytes(*b"Hv#1");
/// In EAX of [`DEBUG_CAPABILITIES`]: the debugger's MSRs and hypercalls are there.
pub const KERNEL_DEBUGGING: u32 = 1 << 1;

/// Processors that a partition can have, and logical processors.
const MAX_PROCESSORS: u32 = 1024;
const MAX_LOGICAL_PROCESSORS: u32 = 64;
/// Of a spin lock, before the hypervisor is told.
const SPIN_RETRIES: u32 = 0xFFF;
/// Windows Server 2016.
const BUILD: u32 = 0x3839;
const VERSION_10_0: u32 = 10 << 16;
/// In EAX of [`NESTED`]: bitmaps of MSRs may be marked unchanged.
const NESTED_MSR_BITMAP: u32 = 1 << 19;
const SIGNATURE: [&[u8; 4]; 3] = [b"Linu", b"x KV", b"M Hv"];

/// EAX of [`FEATURES`]: MSRs.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod access {
    pub const VP_RUNTIME: u32 = 1 << 0;
    pub const TIME_REF_COUNT: u32 = 1 << 1;
    pub const SYNIC: u32 = 1 << 2;
    pub const SYNTHETIC_TIMERS: u32 = 1 << 3;
    pub const APIC: u32 = 1 << 4;
    pub const HYPERCALL: u32 = 1 << 5;
    pub const VP_INDEX: u32 = 1 << 6;
    pub const RESET: u32 = 1 << 7;
    pub const REFERENCE_TSC: u32 = 1 << 9;
    pub const GUEST_IDLE: u32 = 1 << 10;
    pub const FREQUENCIES: u32 = 1 << 11;
    pub const REENLIGHTENMENT: u32 = 1 << 13;
    pub const TSC_INVARIANT: u32 = 1 << 15;
}

/// EBX of [`FEATURES`]: hypercalls.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod privilege {
    pub const PARTITION_ID: u32 = 1 << 1;
    pub const POST_MESSAGES: u32 = 1 << 4;
    pub const SIGNAL_EVENTS: u32 = 1 << 5;
    pub const DEBUGGING: u32 = 1 << 11;
    pub const VP_REGISTERS: u32 = 1 << 17;
    pub const EXTENDED_HYPERCALLS: u32 = 1 << 20;
    pub const START_VIRTUAL_PROCESSOR: u32 = 1 << 21;
}

/// EDX of [`FEATURES`].
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod feature {
    pub const GUEST_DEBUGGING: u32 = 1 << 1;
    pub const XMM_INPUT: u32 = 1 << 4;
    pub const FREQUENCY_MSRS: u32 = 1 << 8;
    pub const CRASH_MSRS: u32 = 1 << 10;
    pub const DEBUG_MSRS: u32 = 1 << 11;
    pub const NPIEP: u32 = 1 << 12;
    pub const EXTENDED_RANGES: u32 = 1 << 14;
    pub const XMM_OUTPUT: u32 = 1 << 15;
    pub const SINT_POLLING: u32 = 1 << 17;
    pub const HYPERCALL_MSR_LOCK: u32 = 1 << 18;
    pub const DIRECT_TIMERS: u32 = 1 << 19;
    pub const UNHALTED_TIMER: u32 = 1 << 23;
}

/// EAX of [`RECOMMENDATIONS`].
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod recommend {
    pub const REMOTE_TLB_FLUSH: u32 = 1 << 2;
    pub const APIC_ACCESS: u32 = 1 << 3;
    pub const RELAXED_TIMING: u32 = 1 << 5;
    pub const NO_AUTO_EOI: u32 = 1 << 9;
    pub const CLUSTER_IPI: u32 = 1 << 10;
    pub const EX_PROCESSOR_MASKS: u32 = 1 << 11;
    pub const NO_CORE_SHARING: u32 = 1 << 18;
}

/// What a host made of this crate has.
const ACCESS: u32 = access::VP_RUNTIME
    | access::TIME_REF_COUNT
    | access::SYNIC
    | access::SYNTHETIC_TIMERS
    | access::APIC
    | access::HYPERCALL
    | access::VP_INDEX
    | access::RESET
    | access::REFERENCE_TSC
    | access::FREQUENCIES
    | access::REENLIGHTENMENT
    | access::TSC_INVARIANT;
const PRIVILEGES: u32 = privilege::PARTITION_ID
    | privilege::POST_MESSAGES
    | privilege::SIGNAL_EVENTS
    | privilege::DEBUGGING
    | privilege::VP_REGISTERS
    | privilege::EXTENDED_HYPERCALLS;
const FEATURE: u32 = feature::GUEST_DEBUGGING
    | feature::XMM_INPUT
    | feature::FREQUENCY_MSRS
    | feature::CRASH_MSRS
    | feature::DEBUG_MSRS
    | feature::NPIEP
    | feature::EXTENDED_RANGES
    | feature::XMM_OUTPUT
    | feature::HYPERCALL_MSR_LOCK;
const RECOMMEND: u32 = recommend::REMOTE_TLB_FLUSH
    | recommend::APIC_ACCESS
    | recommend::RELAXED_TIMING
    | recommend::NO_AUTO_EOI
    | recommend::EX_PROCESSOR_MASKS;
/// Only with a local APIC beside the processor.
const ACCESS_WITH_APIC: u32 = access::GUEST_IDLE;
const PRIVILEGES_WITH_APIC: u32 = privilege::START_VIRTUAL_PROCESSOR;
const FEATURE_WITH_APIC: u32 =
    feature::DIRECT_TIMERS | feature::UNHALTED_TIMER | feature::SINT_POLLING;
const RECOMMEND_WITH_APIC: u32 = recommend::CLUSTER_IPI;

/// The leaves that a guest can have, in the order of KVM_GET_SUPPORTED_HV_CPUID. `shares_cores`: two
/// threads of the host's processor can be on one core. `local_apic`: there is one beside the processor.
#[must_use]
pub fn supported(shares_cores: bool, local_apic: bool) -> [CpuidEntry; 10] {
    let [ebx, ecx, edx] = SIGNATURE.map(|word| u32::from_le_bytes(*word));
    let vendor = CpuidEntry { ebx, ecx, edx, ..CpuidEntry::default() };
    let leaf =
        |function, eax, ebx, edx| CpuidEntry { function, eax, ebx, edx, ..CpuidEntry::default() };
    let sharing = if shares_cores { 0 } else { recommend::NO_CORE_SHARING };
    let with_apic = |bits| if local_apic { bits } else { 0 };
    let access = ACCESS | with_apic(ACCESS_WITH_APIC);
    let privileges = PRIVILEGES | with_apic(PRIVILEGES_WITH_APIC);
    let feature = FEATURE | with_apic(FEATURE_WITH_APIC);
    let recommended = RECOMMEND | with_apic(RECOMMEND_WITH_APIC) | sharing;
    [
        CpuidEntry { function: VENDOR, eax: DEBUG_CAPABILITIES, ..vendor },
        leaf(INTERFACE, HV_1, 0, 0),
        leaf(VERSION, BUILD, VERSION_10_0, 0),
        leaf(FEATURES, access, privileges, feature),
        leaf(RECOMMENDATIONS, recommended, SPIN_RETRIES, 0),
        leaf(LIMITS, MAX_PROCESSORS, MAX_LOGICAL_PROCESSORS, 0),
        CpuidEntry { function: DEBUG_VENDOR, ..vendor },
        leaf(DEBUG_INTERFACE, u32::from_le_bytes(*b"VS#1"), 0, 0),
        leaf(DEBUG_CAPABILITIES, KERNEL_DEBUGGING, 0, 0),
        leaf(NESTED, NESTED_MSR_BITMAP, 0, 0),
    ]
}

/// What a guest's CPUID shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The guest is one of Hyper-V's; without, nothing else counts.
    pub enabled: bool,
    /// [`access`].
    pub access: u32,
    /// [`privilege`].
    pub privileges: u32,
    /// [`feature`].
    pub features: u32,
    /// [`recommend`].
    pub recommended: u32,
    /// How often a spin lock is tried before the hypervisor is told; 0 and all ones: it is not.
    pub spin_retries: u32,
    /// EAX of [`DEBUG_CAPABILITIES`].
    pub debugging: u32,
}

impl Announced {
    /// By this table.
    #[must_use]
    pub fn of(table: &[CpuidEntry]) -> Announced {
        let leaf = |function| find_cpuid(table, function, 0).copied().unwrap_or_default();
        if leaf(INTERFACE).eax != HV_1 {
            return Announced::default();
        }
        let (features, recommendations) = (leaf(FEATURES), leaf(RECOMMENDATIONS));
        Announced {
            enabled: true,
            access: features.eax,
            privileges: features.ebx,
            features: features.edx,
            recommended: recommendations.eax,
            spin_retries: recommendations.ebx,
            debugging: leaf(DEBUG_CAPABILITIES).eax,
        }
    }

    /// Whether the debugger's interface is there, for it must be announced in any case.
    #[must_use]
    pub const fn has_debugging(&self) -> bool {
        self.debugging & KERNEL_DEBUGGING != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_00b_there_are_ten_leaves_in_the_kernels_order() {
        let functions = supported(true, true).map(|entry| entry.function & 0xFF);
        assert_eq!(functions, [0, 1, 2, 3, 4, 5, 0x80, 0x81, 0x82, 0xA]);
    }

    #[test]
    fn hv_00d_without_the_interface_nothing_is_announced() {
        let mut table = supported(true, true);
        assert!(Announced::of(&table).enabled);
        assert_eq!(Announced::of(&table).access, ACCESS | ACCESS_WITH_APIC);
        table[1].eax = 0;
        assert_eq!(Announced::of(&table), Announced::default());
    }

    #[test]
    fn hv_18_cores_that_are_not_shared_are_announced() {
        let bit = |shared| supported(shared, true)[4].eax & recommend::NO_CORE_SHARING;
        assert_eq!((bit(true), bit(false)), (0, recommend::NO_CORE_SHARING));
    }
}
