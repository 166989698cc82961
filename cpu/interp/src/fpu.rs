//! The FXSAVE image: stored, not yet computed with.

/// x87 and SSE registers in the 512-byte layout of FXSAVE (64-bit form).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FpuImage(pub [u8; 512]);

/// Offset of FCW.
pub const FCW: usize = 0;
/// Offset of FSW.
pub const FSW: usize = 2;
/// Offset of the abridged tag word.
pub const FTW: usize = 4;
/// Offset of MXCSR.
pub const MXCSR: usize = 24;
/// Offset of MXCSR_MASK.
pub const MXCSR_MASK: usize = 28;

impl FpuImage {
    /// State after power-up: FCW 0x40, tags empty as FXSAVE shows them after FNINIT, MXCSR 0x1F80.
    #[must_use]
    pub fn at_reset() -> Self {
        let mut image = FpuImage([0; 512]);
        image.set_u16(FCW, 0x40);
        image.0[FTW] = 0xFF;
        image.set_u32(MXCSR, 0x1F80);
        image.set_u32(MXCSR_MASK, 0xFFFF);
        image
    }

    /// FNINIT.
    pub fn init(&mut self) {
        self.0[..24].fill(0);
        self.set_u16(FCW, 0x37F);
    }

    /// A 16-bit field.
    #[must_use]
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    /// Sets a 16-bit field.
    pub fn set_u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// A 32-bit field.
    #[must_use]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Sets a 32-bit field.
    pub fn set_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}
