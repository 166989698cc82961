//! Which bits of CR4 a processor has: those of features that its CPUID announces, and the old ones.
//!
//! SDM volume 3, "Control Registers". As in KVM, the announcement alone decides; an empty table
//! withholds nothing but what no table may announce here.

use std::arch::x86_64::__cpuid_count;

use cpu_defs::{CpuidBit, CpuidEntry, cpuid_bit as bit, cr4, find_cpuid};

/// Bits that need no announcement.
const ALWAYS: u64 = cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT;

/// Bits that exist with a feature.
const BY_FEATURE: &[(u64, CpuidBit)] = &[
    (cr4::VME, bit::VME),
    (cr4::PVI, bit::VME),
    (cr4::UMIP, bit::UMIP),
    (cr4::LA57, bit::LA57),
    (cr4::FSGSBASE, bit::FSGSBASE),
    (cr4::OSXSAVE, bit::XSAVE),
    (cr4::PCIDE, bit::PCID),
    (cr4::SMEP, bit::SMEP),
    (cr4::SMAP, bit::SMAP),
    (cr4::PKE, bit::PKU),
];

/// Every bit of CR4 that can be set with this CPUID.
pub(crate) fn cr4_bits(table: &[CpuidEntry]) -> u64 {
    let announced = |bit: &CpuidBit| {
        let (function, index, reg) = bit.word.position();
        find_cpuid(table, function, index).is_some_and(|entry| reg.of(entry) & bit.mask() != 0)
    };
    let withheld = |control: u64| control == cr4::PKE && !host_has_protection_keys();
    let exists = |&&(control, ref bit): &&(u64, CpuidBit)| match table {
        [] => !withheld(control),
        _ => announced(bit),
    };
    BY_FEATURE.iter().filter(exists).fold(ALWAYS, |bits, row| bits | row.0)
}

/// Protection keys are announced where the host has them, for the sake of their place in XSAVE areas.
fn host_has_protection_keys() -> bool {
    __cpuid_count(7, 0).ecx & bit::PKU.mask() != 0
}
