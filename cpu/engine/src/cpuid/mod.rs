//! The CPUID leaves this processor can offer.
//!
//! Feature bits are rows of [`features`]; the other files have the leaves that are no flags. Those
//! of the topology are there and empty, as KVM has them: who makes the VM knows it. Frequencies
//! (15H, 16H) are absent, since the frequency of the TSC is a VM's own.

mod caches;
mod features;
mod personality;
mod xsave;

use cpu_defs::{CpuidEntry, CpuidWord};

pub use personality::Personality;

const EXTENDED: u32 = 0x8000_0000;
/// Physical and linear address bits.
const ADDRESS_SIZES: u32 = 45 | 57 << 8;
/// CLFLUSH line of 64 bytes, one logical processor.
const LEAF1_EBX: u32 = 8 << 8 | 1 << 16;

/// Every leaf with the features that work here, as the host's vendor shows them.
#[must_use]
pub fn supported_cpuid() -> Vec<CpuidEntry> {
    supported_cpuid_as(Personality::of_host())
}

/// Every leaf with the features that work here, to be given to [`crate::Vcpu::new`] as it is or
/// with features taken away and hypervisor leaves added.
#[must_use]
pub fn supported_cpuid_as(personality: Personality) -> Vec<CpuidEntry> {
    let mut table = common(personality);
    table.extend(caches::leaves(personality));
    if personality == Personality::Amd {
        table.extend(amd());
    }
    for entry in &mut table {
        features::announce(entry, personality);
    }
    let [ebx, ecx, edx] = personality.vendor();
    for first in [0, EXTENDED] {
        let own = table.iter().map(|entry| entry.function).filter(|leaf| leaf & EXTENDED == first);
        let last = own.max().unwrap_or(first);
        table.push(leaf(first, [last, ebx, ecx, edx]));
    }
    table.sort_by_key(|entry| (entry.function, entry.index));
    table
}

/// The leaves that both vendors have.
fn common(personality: Personality) -> Vec<CpuidEntry> {
    let signature = personality.signature();
    let repeated = features::word(CpuidWord::Leaf1Edx, personality) & features::AMD_REPEATED;
    let (extended_signature, repeated) = match personality {
        Personality::Intel => (0, 0),
        Personality::Amd => (signature, repeated),
    };
    let mut table = vec![
        leaf(1, [signature, LEAF1_EBX, 0, 0]),
        // MONITOR, thermal and power, performance counters.
        leaf(5, [0; 4]),
        leaf(6, [0; 4]),
        leaf(0xA, [0; 4]),
        subleaf(7, 0, [1, 0, 0, 0]),
        subleaf(7, 1, [0; 4]),
        subleaf(0xB, 0, [0; 4]),
        leaf(0x8000_0001, [extended_signature, 0, 0, repeated]),
        leaf(0x8000_0007, [0; 4]),
        leaf(0x8000_0008, [ADDRESS_SIZES, 0, 0, 0]),
    ];
    for (number, part) in (0x8000_0002..).zip(personality.brand().chunks_exact(16)) {
        let word =
            |at: usize| u32::from_le_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]]);
        table.push(leaf(number, [word(0), word(4), word(8), word(12)]));
    }
    table.extend(xsave::subleaves());
    table
}

/// Leaves of AMD alone, beside the caches: performance hints (wide vectors run at full width),
/// topology, memory encryption (none), more features.
fn amd() -> [CpuidEntry; 4] {
    [
        leaf(0x8000_001A, [1 << 2, 0, 0, 0]),
        leaf(0x8000_001E, [0; 4]),
        leaf(0x8000_001F, [0; 4]),
        leaf(0x8000_0021, [0; 4]),
    ]
}

/// A leaf without subleaves: EAX, EBX, ECX, EDX.
fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry { function, eax, ebx, ecx, edx, ..CpuidEntry::default() }
}

fn subleaf(function: u32, index: u32, values: [u32; 4]) -> CpuidEntry {
    CpuidEntry { index, significant_index: true, ..leaf(function, values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Personality; 2] = [Personality::Intel, Personality::Amd];

    fn has(table: &[CpuidEntry], function: u32) -> bool {
        table.iter().any(|entry| entry.function == function)
    }

    #[test]
    fn the_maxima_cover_exactly_what_is_there() {
        for table in BOTH.map(supported_cpuid_as) {
            for first in [0, EXTENDED] {
                let last = table.iter().find(|entry| entry.function == first).unwrap().eax;
                assert!(has(&table, last));
                let own = |entry: &&CpuidEntry| entry.function & EXTENDED == first;
                assert!(table.iter().filter(own).all(|entry| entry.function <= last));
            }
        }
    }

    #[test]
    fn caches_are_in_the_leaf_of_the_vendor_and_end_with_none() {
        for (personality, own, other) in
            [(Personality::Intel, 4, 0x8000_001D), (Personality::Amd, 0x8000_001D, 4)]
        {
            let table = supported_cpuid_as(personality);
            let listed: Vec<_> = table.iter().filter(|entry| entry.function == own).collect();
            let indexes: Vec<_> = listed.iter().map(|entry| entry.index).collect();
            assert_eq!(indexes, [0, 1, 2, 3, 4]);
            assert!(listed[..4].iter().all(|entry| entry.eax & 0x1F != 0));
            assert_eq!(listed[4].eax, 0);
            assert!(!has(&table, other));
        }
    }

    #[test]
    fn the_vendor_and_a_signature_of_its_families_are_shown() {
        for (personality, name, families) in
            [(Personality::Intel, *b"Genu", 6..=6), (Personality::Amd, *b"Auth", 0x17..=0x1F)]
        {
            let table = supported_cpuid_as(personality);
            for function in [0, EXTENDED] {
                let entry = table.iter().find(|entry| entry.function == function).unwrap();
                assert_eq!(entry.ebx.to_le_bytes(), name);
            }
            let signature = table.iter().find(|entry| entry.function == 1).unwrap().eax;
            let base = signature >> 8 & 0xF;
            let family = if base == 0xF { base + (signature >> 20 & 0xFF) } else { base };
            assert!(families.contains(&family), "{family:#x}");
        }
    }

    #[test]
    fn a_feature_of_one_vendor_is_hidden_by_the_other() {
        let clzero = |personality| {
            let table = supported_cpuid_as(personality);
            table.iter().find(|entry| entry.function == 0x8000_0008).unwrap().ebx & 1
        };
        assert_eq!(BOTH.map(clzero), [0, 1]);
    }
}
