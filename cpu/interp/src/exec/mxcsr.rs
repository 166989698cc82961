//! LDMXCSR and STMXCSR.

use cpu_host::{MXCSR, MXCSR_LEGAL};
use iced_x86::{Instruction, Mnemonic};

use super::vector::available;
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp};

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Ldmxcsr => ldmxcsr,
        Mnemonic::Stmxcsr => |cpu, op| {
            available::sse(cpu)?;
            cpu.store(op, op.dst, cpu.fpu.u32(MXCSR))
        },
        _ => return None,
    })
}

fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Done {
    available::sse(cpu)?;
    let value = cpu.load::<u32>(op, op.dst)?;
    if value & !MXCSR_LEGAL != 0 {
        return gp(0);
    }
    cpu.fpu.set_u32(MXCSR, value);
    Ok(())
}
