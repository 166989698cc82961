//! The CPUID leaves this processor can offer.
//!
//! A bit is set only if the feature works. Vendor and signature are those of the host, since
//! software chooses between vendor variants of an instruction by them.

use std::arch::x86_64::__cpuid;

use cpu_defs::CpuidEntry;

const MAX_BASIC: u32 = 7;
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Physical and linear address bits.
const ADDRESS_SIZES: u32 = 45 | 48 << 8;
const BRAND: &[u8; 48] = b"Software x86-64 processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Leaf 1 EDX: DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT, CLFSH.
const LEAF1_EDX: u32 = 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 19;
/// Leaf 1 ECX: CX16, and the bit that says there is a hypervisor.
const LEAF1_ECX: u32 = 1 << 13 | 1 << 31;
/// CLFLUSH line of 64 bytes, one logical processor.
const LEAF1_EBX: u32 = 8 << 8 | 1 << 16;
/// Leaf 7 EBX: SMEP, SMAP.
const LEAF7_EBX: u32 = 1 << 7 | 1 << 20;
/// Leaf 7 ECX: UMIP.
const LEAF7_ECX: u32 = 1 << 2;
/// Bits of leaf 1 EDX that AMD repeats in leaf 80000001H.
const AMD_REPEATED: u32 = 0x0183_F3FF;
/// Leaf 80000001H EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;
/// Leaf 80000001H ECX: LAHF in 64-bit mode.
const EXTENDED_ECX: u32 = 1;
/// Leaf 80000007H EDX: the TSC runs at a constant rate.
const INVARIANT_TSC: u32 = 1 << 8;

/// Every leaf with the features that work here, to be given to [`crate::Vcpu::new`] as it is or
/// with features taken away and hypervisor leaves added.
#[must_use]
pub fn supported_cpuid() -> Vec<CpuidEntry> {
    let host = __cpuid(0);
    let signature = __cpuid(1).eax;
    let amd = host.ecx == u32::from_le_bytes(*b"cAMD");
    let repeated = if amd { LEAF1_EDX & AMD_REPEATED } else { 0 };
    let leaf = |function, eax, ebx, ecx, edx| CpuidEntry {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..CpuidEntry::default()
    };
    let mut table = vec![
        leaf(0, MAX_BASIC, host.ebx, host.ecx, host.edx),
        leaf(1, signature, LEAF1_EBX, LEAF1_ECX, LEAF1_EDX),
        CpuidEntry { significant_index: true, ..leaf(7, 0, LEAF7_EBX, LEAF7_ECX, 0) },
        leaf(0x8000_0000, MAX_EXTENDED, host.ebx, host.ecx, host.edx),
        leaf(0x8000_0001, signature, 0, EXTENDED_ECX, EXTENDED_EDX | repeated),
    ];
    for (number, part) in (0x8000_0002..).zip(BRAND.chunks_exact(16)) {
        let word =
            |at: usize| u32::from_le_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]]);
        table.push(leaf(number, word(0), word(4), word(8), word(12)));
    }
    table.push(leaf(0x8000_0007, 0, 0, 0, INVARIANT_TSC));
    table.push(leaf(MAX_EXTENDED, ADDRESS_SIZES, 0, 0, 0));
    table
}
