//! Which bits of CR4 a processor has: those of features that its CPUID announces, and the old ones.
//!
//! SDM volume 3, "Control Registers". As in KVM, the announcement alone decides.

use cpu_defs::{CpuidEntry, cr4};

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

/// An output register of CPUID.
#[derive(Clone, Copy)]
enum Output {
    Ebx,
    Ecx,
}

/// A bit of CR4, and the leaf (subleaf 0), register and bit that announce it.
const BY_FEATURE: [(u64, u32, Output, u32); 3] = [
    (cr4::UMIP, 7, Output::Ecx, 2),
    (cr4::SMEP, 7, Output::Ebx, 7),
    (cr4::SMAP, 7, Output::Ebx, 20),
];

/// Every bit of CR4 that can be set with this CPUID.
pub(crate) fn cr4_bits(table: &[CpuidEntry]) -> u64 {
    let announced = |&(_, function, output, bit): &(u64, u32, Output, u32)| {
        table.iter().any(|entry| {
            let register = match output {
                Output::Ebx => entry.ebx,
                Output::Ecx => entry.ecx,
            };
            entry.function == function && entry.index == 0 && register >> bit & 1 != 0
        })
    };
    BY_FEATURE.iter().filter(|row| announced(row)).fold(ALWAYS, |bits, row| bits | row.0)
}
