//! CPUID leaf 0DH: the components that XSAVE manages and their places in its area.
//!
//! SDM volume 2, "CPUID"; volume 1, "Enumeration of CPU Support for XSAVE Instructions". EBX of
//! subleaves 0 and 1 is what XCR0 at reset wants; CPUID shows the present one.

use cpu_defs::CpuidEntry;
use cpu_interp::xstate::{bit, compacted_len, component, standard_len, supported};

use super::features::missing_components;
use super::subleaf;

/// Number of the leaf.
pub(super) const LEAF: u32 = 0xD;
/// ECX of a component: starts at a multiple of 64 in the compacted format.
const ALIGNED: u32 = 1 << 1;

/// Every subleaf. The feature bits of subleaf 1 are still missing.
pub(super) fn subleaves() -> Vec<CpuidEntry> {
    let all = supported() & !missing_components();
    let mut table = vec![
        subleaf(
            LEAF,
            0,
            [
                all as u32,
                standard_len(bit::X87) as u32,
                standard_len(all) as u32,
                (all >> 32) as u32,
            ],
        ),
        subleaf(LEAF, 1, [0, compacted_len(bit::X87) as u32, 0, 0]),
    ];
    for number in (2..u64::BITS).filter(|number| all >> number & 1 != 0) {
        if let Some(place) = component(number) {
            let ecx = if place.aligned { ALIGNED } else { 0 };
            table.push(subleaf(LEAF, number, [place.len as u32, place.offset as u32, ecx, 0]));
        }
    }
    table
}
