//! MASKMOVQ, MASKMOVDQU, VMASKMOVDQU: bytes of a register to memory at DS:rDI, those whose bit 7 is
//! set in another register.
//!
//! SDM volume 2, "MASKMOVQ", "MASKMOVDQU".

use cpu_defs::{Exception, Gpr, vector};
use iced_x86::{Instruction, Mnemonic};

use super::available;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop};

/// What #AC asks of the operand.
const ALIGNMENT: u64 = 8;
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

/// An MMX instruction also makes every x87 register valid and TOP zero; this one even if the store
/// faults (as on AMD's processors).
fn maskmovq(cpu: &mut Cpu, op: &Op) -> Done {
    available::mmx(cpu)?;
    if cpu.fpu.x87_error() {
        return Err(Stop::Fault(Exception::plain(vector::MF)));
    }
    cpu.fpu.enter_mmx();
    let (data, mask) = (cpu.fpu.mm(usize::from(op.dst)), cpu.fpu.mm(usize::from(op.src)));
    store(cpu, op, &data, &mask)
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
    cpu.check_alignment(op.seg, gla, data.len(), ALIGNMENT)?;
    cpu.place(op.seg, gla, data.len())?;
    for (at, (&byte, _)) in (0..).zip(data.iter().zip(mask)).filter(|(_, (_, m))| *m >> 7 != 0) {
        let place = cpu.place(op.seg, gla.wrapping_add(at), 1)?;
        cpu.write_place(place, &[byte]);
    }
    Ok(())
}
