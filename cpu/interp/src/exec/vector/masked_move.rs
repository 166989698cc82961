//! MASKMOVQ, MASKMOVDQU, VMASKMOVDQU: bytes of a register to memory at DS:rDI, those whose bit 7 is
//! set in another register.
//!
//! SDM volume 2, "MASKMOVQ", "MASKMOVDQU".

use cpu_defs::{Exception, Gpr, vector};
use cpu_host::{FSW, FTW};
use iced_x86::{Instruction, Mnemonic};

use super::available;
use super::execute::ERROR_SUMMARY;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop};

/// FSW.TOP.
const TOP: u16 = 7 << 11;
/// R0 in the FXSAVE area, and the distance of the next one.
const R0: usize = 32;
const R_STEP: usize = 16;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Maskmovq => maskmovq,
        Mnemonic::Maskmovdqu => |cpu, op| {
            available::sse(cpu)?;
            maskmovdqu(cpu, op)
        },
        Mnemonic::Vmaskmovdqu => |cpu, op| {
            available::avx(cpu)?;
            maskmovdqu(cpu, op)
        },
        _ => return None,
    };
    // The implicit operand comes first.
    op.dst = instruction.op1_register().number() as u8;
    op.src = instruction.op2_register().number() as u8;
    Some(handler)
}

/// An MMX instruction also makes every x87 register valid and TOP zero.
fn maskmovq(cpu: &mut Cpu, op: &Op) -> Done {
    available::mmx(cpu)?;
    let status = cpu.fpu.u16(FSW);
    if status & ERROR_SUMMARY != 0 {
        return Err(Stop::Fault(Exception::plain(vector::MF)));
    }
    let top = usize::from(status >> 11 & 7);
    // The area holds the registers by their distance from TOP.
    let register = |cpu: &Cpu, number: u8| {
        let place = (usize::from(number & 7) + 8 - top) % 8;
        let at = R0 + place * R_STEP;
        std::array::from_fn::<u8, 8, _>(|byte| cpu.fpu.legacy[at + byte])
    };
    let (data, mask) = (register(cpu, op.dst), register(cpu, op.src));
    store(cpu, op, &data, &mask)?;
    let mut registers = [0; 8 * R_STEP];
    registers.copy_from_slice(&cpu.fpu.legacy[R0..R0 + 8 * R_STEP]);
    registers.rotate_right(top * R_STEP);
    cpu.fpu.legacy[R0..R0 + 8 * R_STEP].copy_from_slice(&registers);
    cpu.fpu.set_u16(FSW, status & !TOP);
    cpu.fpu.legacy[FTW] = 0xFF;
    Ok(())
}

fn maskmovdqu(cpu: &mut Cpu, op: &Op) -> Done {
    let register = |number: u8| {
        std::array::from_fn::<u8, 16, _>(|byte| cpu.fpu.zmm[usize::from(number & 31)][byte])
    };
    let (data, mask) = (register(op.dst), register(op.src));
    store(cpu, op, &data, &mask)
}

/// The whole operand must be writable, whatever the mask (as on AMD's processors; the manuals leave
/// it open for an empty mask).
fn store(cpu: &mut Cpu, op: &Op, data: &[u8], mask: &[u8]) -> Done {
    let offset = cpu.arch.gpr(Gpr::Rdi) & op.address_mask;
    let gla = cpu.linear(op.seg, offset, data.len() as u64, Rights::WRITE)?;
    cpu.place(op.seg, gla, data.len())?;
    for (at, (&byte, _)) in (0..).zip(data.iter().zip(mask)).filter(|(_, (_, m))| *m >> 7 != 0) {
        let place = cpu.place(op.seg, gla.wrapping_add(at), 1)?;
        cpu.write_place(place, &[byte]);
    }
    Ok(())
}
