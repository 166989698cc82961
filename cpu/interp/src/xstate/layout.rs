//! Where the components are in an XSAVE area.
//!
//! SDM volume 1, "Extended Region of an XSAVE Area"; offsets and sizes are those of CPUID leaf 0DH
//! of the host. What the host does not have follows at the end.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::area::{HEADER, HEADER_LEN};

/// Longest area, a bound that keeps it inside two pages.
pub const MAX_LEN: usize = 4096;
const LEAF: u32 = 0xD;
/// End of legacy region and header.
const EXTENDED: usize = HEADER + HEADER_LEN;
/// Component numbers below this one.
const COUNT: usize = 10;
/// Sizes of components 2 to 9; zero for those that this processor does not have.
const SIZES: [(usize, usize); 5] = [(2, 256), (5, 64), (6, 512), (7, 1024), (9, 8)];
/// CPUID leaf 0DH, subleaf of a component, ECX: starts at a multiple of 64 in the compacted format.
const ALIGNED: u32 = 1 << 1;

/// Place of a component of the extended region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Offset in the standard format.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
    /// Starts at a multiple of 64 in the compacted format.
    pub aligned: bool,
}

/// The place of component `number`, from 2 on, if this processor has it.
#[must_use]
pub fn component(number: u32) -> Option<Component> {
    static TABLE: OnceLock<[Option<Component>; COUNT]> = OnceLock::new();
    *TABLE.get_or_init(table).get(number as usize)?
}

fn table() -> [Option<Component>; COUNT] {
    let mut table = [None; COUNT];
    let mut end = EXTENDED;
    for (number, len) in SIZES {
        table[number] = host_component(number as u32).filter(|found| found.len == len);
        if let Some(found) = table[number] {
            end = end.max(found.offset + found.len);
        }
    }
    for (number, len) in SIZES {
        if table[number].is_none() {
            table[number] = Some(Component { offset: end, len, aligned: false });
            end += len;
        }
    }
    table
}

fn host_component(number: u32) -> Option<Component> {
    if __cpuid_count(0, 0).eax < LEAF {
        return None;
    }
    let leaf = __cpuid_count(LEAF, number);
    let (len, offset) = (leaf.eax as usize, leaf.ebx as usize);
    let fits = offset >= EXTENDED && offset + len <= MAX_LEN / 2 + MAX_LEN / 4;
    fits.then_some(Component { offset, len, aligned: leaf.ecx & ALIGNED != 0 })
}

/// Length of an area in the standard format that holds these components.
#[must_use]
pub fn standard_len(components: u64) -> usize {
    extended(components).fold(EXTENDED, |end, (_, place)| end.max(place.offset + place.len))
}

/// Length of an area in the compacted format that holds these components.
#[must_use]
pub fn compacted_len(components: u64) -> usize {
    compacted(components).fold(EXTENDED, |_, (_, offset, len)| offset + len)
}

/// End of the last one of `wanted` in the compacted format of these components.
pub(super) fn compacted_end(components: u64, wanted: u64) -> usize {
    compacted(components)
        .filter(|&(number, ..)| wanted >> number & 1 != 0)
        .fold(EXTENDED, |_, (_, offset, len)| offset + len)
}

/// Offset of component `number` in the compacted format of these components.
pub(super) fn compacted_offset(components: u64, number: u32) -> Option<usize> {
    compacted(components).find(|&(other, ..)| other == number).map(|(_, offset, _)| offset)
}

fn extended(components: u64) -> impl Iterator<Item = (u32, Component)> {
    (2..COUNT as u32)
        .filter(move |number| components >> number & 1 != 0)
        .filter_map(|number| component(number).map(|place| (number, place)))
}

/// Number, offset and length, one component behind the other.
fn compacted(components: u64) -> impl Iterator<Item = (u32, usize, usize)> {
    extended(components).scan(EXTENDED, |end, (number, place)| {
        let offset = if place.aligned { end.next_multiple_of(64) } else { *end };
        *end = offset + place.len;
        Some((number, offset, place.len))
    })
}
