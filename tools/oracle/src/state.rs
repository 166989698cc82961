//! Random x87 and vector state.

use cpu_host::{FCW, FSW, FTW, FpuState, MXCSR};

use crate::random::Random;

/// FCW after FNINIT, MXCSR after reset: all exceptions masked.
pub const CONTROL: u16 = 0x37F;
/// See [`CONTROL`].
pub const MXCSR_DEFAULT: u32 = 0x1F80;
/// FSW.ES and FSW.B: an unmasked exception waits.
const PENDING: u16 = 0x8080;
const ST0: usize = 32;

/// Fills it all.
pub fn random_fpu(fpu: &mut FpuState, random: &mut Random) {
    random_x87(fpu, random);
    let mxcsr = match random.below(4) {
        0 | 1 => MXCSR_DEFAULT,
        2 => MXCSR_DEFAULT | random.next() as u32 & 0xE07F,
        _ => random.next() as u32 & 0xFFFF,
    };
    fpu.set_u32(MXCSR, mxcsr);
    for zmm in &mut fpu.zmm {
        for lane in zmm.chunks_exact_mut(8) {
            lane.copy_from_slice(&random.lanes().to_le_bytes());
        }
    }
    for mask in &mut fpu.opmask {
        *mask = match random.below(4) {
            0 => u64::MAX,
            1 => 1 << random.below(64),
            _ => random.next(),
        };
    }
}

fn random_x87(fpu: &mut FpuState, random: &mut Random) {
    let control = match random.below(4) {
        0 | 1 => CONTROL,
        2 => CONTROL & 0xF0FF | random.next() as u16 & 0x0F00,
        _ => 0x40 | random.next() as u16 & 0x0F3F,
    };
    // TOP and the condition codes; exceptions that are masked, so that nothing waits, mostly.
    let mut status = random.next() as u16 & 0x7F00;
    if random.chance(40) {
        status |= random.next() as u16 & 0x7F;
        if random.chance(90) {
            status &= control & 0x3F | 0xFFC0;
        }
    }
    if status & !control & 0x3F != 0 {
        status |= PENDING;
    }
    fpu.set_u16(FCW, control);
    fpu.set_u16(FSW, status);
    fpu.legacy[FTW] = match random.below(4) {
        0 => 0xFF,
        1 => 0,
        _ => random.next() as u8,
    };
    // AMD's processors keep the pointers only while an unmasked exception waits.
    if status & PENDING != 0 {
        fpu.pointers.opcode = random.next() as u16 & 0x7FF;
        fpu.pointers.ip = random.next() >> 17;
        fpu.pointers.dp = random.next() >> 17;
    }
    for number in 0..8 {
        let at = ST0 + number * 16;
        fpu.legacy[at..at + 10].copy_from_slice(&random.extended());
    }
}
