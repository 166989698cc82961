//! Caches and TLBs: leaves 2 and 4 of Intel, 80000005H, 80000006H and 8000001DH of AMD.
//!
//! There are none; the numbers are those of an ordinary processor, for guests that place data by
//! them. No cache is shared with another processor, as KVM's clients expect to say themselves.

use cpu_defs::CpuidEntry;

use super::{Personality, leaf, subleaf};

/// A cache as leaves 4 and 8000001DH describe it.
struct Cache {
    /// 1 data, 2 instructions, 3 both.
    kind: u32,
    level: u32,
    ways: u32,
    sets: u32,
    /// The lower levels' lines are in it, too.
    inclusive: bool,
}

const fn cache(kind: u32, level: u32, ways: u32, sets: u32, inclusive: bool) -> Cache {
    Cache { kind, level, ways, sets, inclusive }
}

/// 32 KiB, 32 KiB, 1 MiB, 32 MiB; lines of 64 bytes.
const CACHES: [Cache; 4] = [
    cache(1, 1, 8, 64, false),
    cache(2, 1, 8, 64, false),
    cache(3, 2, 8, 2048, true),
    cache(3, 3, 16, 32768, false),
];
const LINE: u32 = 64;
const SELF_INITIALIZING: u32 = 1 << 8;
const INCLUSIVE: u32 = 1 << 1;

/// Leaf 2: 64 4-KiB data TLB entries, prefetch of 64 bytes, caches by leaf 4.
const DESCRIPTORS: [u32; 4] = [0x00FE_FF01, 0xF0, 0, 0];
/// Leaf 80000005H: TLBs of 64 entries, caches of 32 KiB, 8 ways, 64-byte lines.
const AMD_LEVEL1: [u32; 4] = [0xFF40_FF40, 0xFF40_FF40, 0x2008_0140, 0x2008_0140];
/// Leaf 80000006H ECX: 1 MiB, 8 ways, 64-byte lines.
const LEVEL2: u32 = 0x0400_6140;
/// Leaf 80000006H: TLBs of 2048 entries and 512, the L2 cache, 32 MiB of L3 with 16 ways.
const AMD_LEVELS: [u32; 4] = [0x4200_4200, 0x6800_4200, LEVEL2, 64 << 18 | 0x8140];

/// The leaves of the personality.
pub(super) fn leaves(personality: Personality) -> Vec<CpuidEntry> {
    let (function, mut table) = match personality {
        Personality::Intel => (
            4,
            vec![
                leaf(2, DESCRIPTORS),
                leaf(0x8000_0005, [0; 4]),
                leaf(0x8000_0006, [0, 0, LEVEL2, 0]),
            ],
        ),
        Personality::Amd => {
            (0x8000_001D, vec![leaf(0x8000_0005, AMD_LEVEL1), leaf(0x8000_0006, AMD_LEVELS)])
        }
    };
    for (index, cache) in (0..).zip(&CACHES) {
        let eax = cache.kind | cache.level << 5 | SELF_INITIALIZING;
        let ebx = (cache.ways - 1) << 22 | (LINE - 1);
        let edx = if cache.inclusive { INCLUSIVE } else { 0 };
        table.push(subleaf(function, index, [eax, ebx, cache.sets - 1, edx]));
    }
    // The end of the list.
    table.push(subleaf(function, CACHES.len() as u32, [0; 4]));
    table
}
