//! What needs no host: VZEROALL, VZEROUPPER, MOVNTI, MOVDIRI, MOVDIR64B, VLDMXCSR, VSTMXCSR.
//!
//! SDM volume 2, the instructions' pages. A store past the caches is a store.

use cpu_host::{MXCSR, MXCSR_LEGAL};
use iced_x86::{Instruction, Mnemonic};

use super::available;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::mode::Rights;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp};

/// ES, the segment of MOVDIR64B's destination.
const ES: u8 = cpu_defs::SegReg::Es as u8;
const LINE: usize = 64;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Vzeroupper => |cpu, _| zero(cpu, 16),
        Mnemonic::Vzeroall => |cpu, _| zero(cpu, 0),
        Mnemonic::Movnti | Mnemonic::Movdiri if op.size == 4 => store_past_caches::<u32>,
        Mnemonic::Movnti | Mnemonic::Movdiri => store_past_caches::<u64>,
        Mnemonic::Movdir64b => {
            // The destination's address is a register of the address size.
            op.size = instruction.op0_register().size() as u8;
            movdir64b
        }
        Mnemonic::Vldmxcsr => vldmxcsr,
        Mnemonic::Vstmxcsr => |cpu, op| {
            available::avx(cpu)?;
            cpu.store(op, op.dst, cpu.fpu.u32(MXCSR))
        },
        _ => return None,
    })
}

/// Clears vector registers from byte `from` on: those that the mode has names for, up to 15.
fn zero(cpu: &mut Cpu, from: usize) -> Done {
    available::avx(cpu)?;
    let count = if cpu.mode.code64 { 16 } else { 8 };
    for register in &mut cpu.fpu.zmm[..count] {
        register[from..].fill(0);
    }
    Ok(())
}

fn store_past_caches<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.store(op, op.dst, cpu.get::<T>(op.src))
}

fn movdir64b(cpu: &mut Cpu, op: &Op) -> Done {
    let from = cpu.linear(op.seg, cpu.offset(op), LINE as u64, Rights::READ)?;
    let mut line = [0; LINE];
    cpu.read_bytes(op.seg, from, &mut line)?;
    let to = match op.size {
        2 => u64::from(cpu.get::<u16>(op.dst)),
        4 => u64::from(cpu.get::<u32>(op.dst)),
        _ => cpu.get::<u64>(op.dst),
    };
    let to = cpu.linear(ES, to, LINE as u64, Rights::WRITE)?;
    if to % LINE as u64 != 0 {
        return gp(0);
    }
    let place = cpu.place(ES, to, LINE)?;
    cpu.write_place(place, &line);
    Ok(())
}

fn vldmxcsr(cpu: &mut Cpu, op: &Op) -> Done {
    available::avx(cpu)?;
    let value = cpu.load::<u32>(op, op.dst)?;
    if value & !MXCSR_LEGAL != 0 {
        return gp(0);
    }
    cpu.fpu.set_u32(MXCSR, value);
    Ok(())
}
