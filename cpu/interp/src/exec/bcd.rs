//! DAA, DAS, AAA, AAS, AAM, AAD.

use cpu_alu::bcd;
use cpu_defs::Gpr;
use iced_x86::{Instruction, Mnemonic};

use super::muldiv::divide_error;
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::Done;

const AX: u8 = Gpr::Rax as u8;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Daa => |cpu, _| after_al(cpu, bcd::daa),
        Mnemonic::Das => |cpu, _| after_al(cpu, bcd::das),
        Mnemonic::Aaa => |cpu, _| after_ax(cpu, bcd::aaa),
        Mnemonic::Aas => |cpu, _| after_ax(cpu, bcd::aas),
        Mnemonic::Aam => aam,
        Mnemonic::Aad => aad,
        _ => return None,
    })
}

fn after_al(cpu: &mut Cpu, adjust: fn(u8, u32) -> (u8, u32)) -> Done {
    let (al, flags) = adjust(cpu.get(AX), cpu.status());
    cpu.set(AX, al);
    cpu.set_status(flags);
    Ok(())
}

fn after_ax(cpu: &mut Cpu, adjust: fn(u16, u32) -> (u16, u32)) -> Done {
    let (ax, flags) = adjust(cpu.get(AX), cpu.status());
    cpu.set(AX, ax);
    cpu.set_status(flags);
    Ok(())
}

fn aam(cpu: &mut Cpu, op: &Op) -> Done {
    let (ax, flags) = bcd::aam(cpu.get(AX), op.imm as u8).map_err(|_| divide_error())?;
    cpu.set(AX, ax);
    cpu.set_status(flags);
    Ok(())
}

fn aad(cpu: &mut Cpu, op: &Op) -> Done {
    let (ax, flags) = bcd::aad(cpu.get(AX), op.imm as u8);
    cpu.set(AX, ax);
    cpu.set_status(flags);
    Ok(())
}
