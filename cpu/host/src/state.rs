//! The register state beyond the general registers.

use crate::x87::{PointerForm, X87_LEN, X87Pointers};

/// Length of the FXSAVE area in bytes.
pub const LEGACY_LEN: usize = 512;
/// Offset of FCW in the FXSAVE area.
pub const FCW: usize = 0;
/// Offset of FSW.
pub const FSW: usize = 2;
/// Offset of the abridged tag word: bit set for a register that is not empty.
pub const FTW: usize = 4;
/// Offset of the last opcode.
pub const FOP: usize = 6;
/// Offset of the last instruction pointer (64 bits in the REX.W form).
pub const FPU_IP: usize = 8;
/// Offset of the last data pointer (64 bits in the REX.W form).
pub const FPU_DP: usize = 16;
/// Offset of MXCSR.
pub const MXCSR: usize = 24;
/// Offset of MXCSR_MASK.
pub const MXCSR_MASK: usize = 28;
/// Bits of MXCSR that can be set.
pub const MXCSR_LEGAL: u32 = 0xFFFF;
/// MXCSR in the initial configuration.
pub const MXCSR_INIT: u32 = 0x1F80;
/// Offset of XMM0 in the FXSAVE area.
pub const XMM0: usize = 160;
const XMM_LEN: usize = 16;
/// XMM registers that the FXSAVE area has.
const XMM_COUNT: usize = 16;

/// x87, MMX, vector and mask registers and MXCSR of one processor.
///
/// The layout is fixed: code that runs on the host addresses the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct FpuState {
    /// x87 registers and MXCSR as FXSAVE64 writes them. The XMM fields, the last-instruction
    /// pointers and MXCSR_MASK are scratch: `zmm` and `pointers` count.
    pub legacy: [u8; LEGACY_LEN],
    /// Vector registers, 512 bits each: XMM and YMM are their low parts.
    pub zmm: [[u8; 64]; 32],
    /// Mask registers k0 to k7.
    pub opmask: [u64; 8],
    /// Last x87 instruction of the guest, which the host never executes where the guest has it.
    pub pointers: X87Pointers,
}

impl FpuState {
    /// State after power-up: FCW 0x40, all x87 registers tagged zero, MXCSR 0x1F80 (SDM volume 3,
    /// "Processor State After Reset").
    #[must_use]
    pub fn at_reset() -> Self {
        let mut state = FpuState {
            legacy: [0; LEGACY_LEN],
            zmm: [[0; 64]; 32],
            opmask: [0; 8],
            pointers: X87Pointers::default(),
        };
        state.set_u16(FCW, 0x40);
        state.legacy[FTW] = 0xFF;
        state.set_u32(MXCSR, MXCSR_INIT);
        state.set_u32(MXCSR_MASK, MXCSR_LEGAL);
        state
    }

    /// A 16-bit field of the FXSAVE area.
    #[must_use]
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.legacy[at], self.legacy[at + 1]])
    }

    /// Sets a 16-bit field of the FXSAVE area.
    pub fn set_u16(&mut self, at: usize, value: u16) {
        self.legacy[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// A 32-bit field of the FXSAVE area.
    #[must_use]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Sets a 32-bit field of the FXSAVE area.
    pub fn set_u32(&mut self, at: usize, value: u32) {
        self.legacy[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// The whole FXSAVE64 area, XMM0 to XMM15 in their places.
    #[must_use]
    pub fn fxsave(&self) -> [u8; LEGACY_LEN] {
        let mut image = [0; LEGACY_LEN];
        image[..X87_LEN].copy_from_slice(&self.x87(&self.pointers, PointerForm::Wide));
        image[MXCSR..MXCSR + 4].copy_from_slice(&self.u32(MXCSR).to_le_bytes());
        image[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&MXCSR_LEGAL.to_le_bytes());
        for (number, zmm) in self.zmm.iter().take(XMM_COUNT).enumerate() {
            let at = XMM0 + number * XMM_LEN;
            image[at..at + XMM_LEN].copy_from_slice(&zmm[..XMM_LEN]);
        }
        image
    }

    /// Takes over a whole FXSAVE64 area. Upper parts of the vector registers stay; bits that MXCSR
    /// does not have are dropped.
    pub fn fxrstor(&mut self, image: &[u8; LEGACY_LEN]) {
        self.set_x87(&std::array::from_fn(|at| image[at]), PointerForm::Wide);
        let mxcsr = u32::from_le_bytes(std::array::from_fn(|at| image[MXCSR + at]));
        self.set_u32(MXCSR, mxcsr & MXCSR_LEGAL);
        for (number, zmm) in self.zmm.iter_mut().take(XMM_COUNT).enumerate() {
            let at = XMM0 + number * XMM_LEN;
            zmm[..XMM_LEN].copy_from_slice(&image[at..at + XMM_LEN]);
        }
    }
}
