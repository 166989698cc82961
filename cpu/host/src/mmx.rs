//! The MMX registers, which are the significands of the x87 registers.
//!
//! SDM volume 1, "The MMX State and MMX Register Aliasing".

use crate::{FSW, FTW, FpuState};

/// FSW.TOP.
const TOP_SHIFT: u16 = 11;
const TOP: u16 = 7 << TOP_SHIFT;
/// ST0 in the FXSAVE area, and the distance of the next one.
const ST0: usize = 32;
const ST_PITCH: usize = 16;
const COUNT: usize = 8;

impl FpuState {
    /// What every MMX instruction but EMMS does to the x87 state: TOP is zero and every register
    /// valid. (The area has the registers by their distance from TOP, so they move in it.)
    pub fn enter_mmx(&mut self) {
        let status = self.u16(FSW);
        let top = usize::from((status & TOP) >> TOP_SHIFT);
        self.legacy[ST0..ST0 + COUNT * ST_PITCH].rotate_right(top * ST_PITCH);
        self.set_u16(FSW, status & !TOP);
        self.legacy[FTW] = 0xFF;
    }

    /// An MMX register, once [`Self::enter_mmx`] has been done.
    #[must_use]
    pub fn mm(&self, number: usize) -> [u8; 8] {
        let at = ST0 + (number % COUNT) * ST_PITCH;
        std::array::from_fn(|byte| self.legacy[at + byte])
    }
}
