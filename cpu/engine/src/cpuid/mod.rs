//! The CPUID leaves this processor can offer.
//!
//! Feature bits are rows of [`features`]; the other files have the leaves that are no flags.
//! Vendor and signature are those of the host, since software chooses between vendor variants of
//! an instruction by them.

mod features;
mod xsave;

use std::arch::x86_64::__cpuid;

use cpu_defs::{CpuidEntry, CpuidWord};

const MAX_BASIC: u32 = xsave::LEAF;
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Physical and linear address bits.
const ADDRESS_SIZES: u32 = 45 | 57 << 8;
const BRAND: &[u8; 48] = b"Software x86-64 processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// CLFLUSH line of 64 bytes, one logical processor.
const LEAF1_EBX: u32 = 8 << 8 | 1 << 16;

/// Every leaf with the features that work here, to be given to [`crate::Vcpu::new`] as it is or
/// with features taken away and hypervisor leaves added.
#[must_use]
pub fn supported_cpuid() -> Vec<CpuidEntry> {
    let host = __cpuid(0);
    let signature = __cpuid(1).eax;
    let amd = host.ecx == u32::from_le_bytes(*b"cAMD");
    let repeated = features::word(CpuidWord::Leaf1Edx) & features::AMD_REPEATED;
    let mut table = vec![
        leaf(0, [MAX_BASIC, host.ebx, host.ecx, host.edx]),
        leaf(1, [signature, LEAF1_EBX, 0, 0]),
        subleaf(7, 0, [1, 0, 0, 0]),
        subleaf(7, 1, [0; 4]),
        leaf(0x8000_0000, [MAX_EXTENDED, host.ebx, host.ecx, host.edx]),
        leaf(0x8000_0001, [signature, 0, 0, if amd { repeated } else { 0 }]),
        leaf(0x8000_0007, [0; 4]),
        leaf(MAX_EXTENDED, [ADDRESS_SIZES, 0, 0, 0]),
    ];
    for (number, part) in (0x8000_0002..).zip(BRAND.chunks_exact(16)) {
        let word =
            |at: usize| u32::from_le_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]]);
        table.push(leaf(number, [word(0), word(4), word(8), word(12)]));
    }
    table.extend(xsave::subleaves());
    table.iter_mut().for_each(features::announce);
    table.sort_by_key(|entry| (entry.function, entry.index));
    table
}

/// A leaf without subleaves: EAX, EBX, ECX, EDX.
fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry { function, eax, ebx, ecx, edx, ..CpuidEntry::default() }
}

fn subleaf(function: u32, index: u32, values: [u32; 4]) -> CpuidEntry {
    CpuidEntry { index, significant_index: true, ..leaf(function, values) }
}
