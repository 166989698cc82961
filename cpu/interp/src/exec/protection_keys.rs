//! RDPKRU and WRPKRU.
//!
//! SDM volume 3, "Protection Keys".

use cpu_defs::{Gpr, cr4};
use iced_x86::{Instruction, Mnemonic};

use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp, ud};

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Rdpkru => rdpkru,
        Mnemonic::Wrpkru => wrpkru,
        _ => return None,
    })
}

/// ECX, and what else is given, must be zero.
fn check(cpu: &Cpu, zeros: u32) -> Done {
    if cpu.arch.cr4 & cr4::PKE == 0 {
        return ud();
    }
    if zeros | cpu.get::<u32>(Gpr::Rcx as u8) != 0 { gp(0) } else { Ok(()) }
}

fn rdpkru(cpu: &mut Cpu, _: &Op) -> Done {
    check(cpu, 0)?;
    cpu.set(Gpr::Rax as u8, cpu.arch.pkru);
    cpu.set(Gpr::Rdx as u8, 0_u32);
    Ok(())
}

fn wrpkru(cpu: &mut Cpu, _: &Op) -> Done {
    check(cpu, cpu.get(Gpr::Rdx as u8))?;
    cpu.set_pkru(cpu.get(Gpr::Rax as u8));
    Ok(())
}
