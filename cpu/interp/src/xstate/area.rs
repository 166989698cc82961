//! An XSAVE area under construction or inspection, and its header.

use std::ops::Range;

use cpu_host::{LEGACY_LEN, MXCSR};

use super::bit;
use super::layout::{MAX_LEN, compacted_end, compacted_offset, component, standard_len};

/// Offset of the header.
pub const HEADER: usize = LEGACY_LEN;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;
/// MXCSR and MXCSR_MASK.
pub(crate) const MXCSR_RANGE: Range<usize> = MXCSR..MXCSR + 8;
/// Bit of XCOMP_BV: compacted format.
pub(crate) const COMPACTED: u64 = 1 << 63;

/// About as many as there are: what lies side by side is one.
const MOST_PARTS: usize = 8;

/// Bytes of an area, and which of them an instruction touches.
pub(crate) struct Area {
    pub bytes: [u8; MAX_LEN],
    parts: Vec<Range<usize>>,
}

impl Area {
    pub fn new() -> Self {
        Area { bytes: [0; MAX_LEN], parts: Vec::with_capacity(MOST_PARTS) }
    }

    /// Sets a part.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.touch(at..at + bytes.len());
    }

    /// An instruction touches a part, too.
    pub fn touch(&mut self, part: Range<usize>) {
        match self.parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => self.parts.push(part),
        }
    }

    /// What an instruction touches, and the bytes of it.
    pub fn touched(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.parts.iter().map(|part| (part.start, &self.bytes[part.clone()]))
    }

    /// Fills what an instruction touches by what `fill` puts there.
    ///
    /// # Errors
    /// The first one of `fill`.
    pub fn fill<E>(
        &mut self,
        mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Area { bytes, parts } = self;
        parts.iter().try_for_each(|part| fill(part.start, &mut bytes[part.clone()]))
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.take(at))
    }

    pub fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|number| self.bytes[at + number])
    }
}

/// The header of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// XSTATE_BV: components that are not in their initial configuration.
    pub xstate_bv: u64,
    /// XCOMP_BV: with [`COMPACTED`], the components that have a place.
    pub xcomp_bv: u64,
}

impl Image {
    /// Reads a header, unless XRSTOR refuses it. `enabled` are the components of XCR0 (and
    /// IA32_XSS).
    pub fn parse(header: &[u8; HEADER_LEN], enabled: u64) -> Option<Self> {
        let word = |number: usize| {
            u64::from_le_bytes(std::array::from_fn(|byte| header[8 * number + byte]))
        };
        let image = Image { xstate_bv: word(0), xcomp_bv: word(1) };
        let places = image.xcomp_bv & !COMPACTED;
        let legal = if image.is_compacted() {
            places & !enabled == 0
                && image.xstate_bv & !places == 0
                && (2..HEADER_LEN / 8).all(|number| word(number) == 0)
        } else {
            image.xcomp_bv == 0 && word(2) == 0 && image.xstate_bv & !enabled == 0
        };
        legal.then_some(image)
    }

    pub fn is_compacted(&self) -> bool {
        self.xcomp_bv & COMPACTED != 0
    }

    /// Offset of a component.
    pub fn offset(&self, number: u32) -> Option<usize> {
        match 1 << number {
            bit::X87 | bit::SSE => Some(0),
            _ if self.is_compacted() => compacted_offset(self.xcomp_bv & !COMPACTED, number),
            _ => component(number).map(|place| place.offset),
        }
    }

    /// Length of what XRSTOR of these components looks at: in the compacted format the components
    /// that are there, in the standard one all.
    pub fn len(&self, requested: u64) -> usize {
        if !self.is_compacted() {
            return standard_len(requested);
        }
        compacted_end(self.xcomp_bv & !COMPACTED, requested & self.xstate_bv)
    }
}
