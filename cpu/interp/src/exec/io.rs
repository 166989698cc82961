//! IN, OUT, INS, OUTS.
//!
//! A read leaves with RIP at the instruction, which runs again with the answer. REP INS asks for
//! as many elements as fit the page and one exit. OUTS leaves after each element, already counted.

use cpu_defs::{Gpr, rflags};
use cpu_mem::PAGE_SIZE;
use iced_x86::{Code, Instruction, Mnemonic};

use super::place::by_size;
use super::string::ES;
use crate::cpu::{Cpu, Request};
use crate::decode::operand_size;
use crate::int::Int;
use crate::op::{Handler, IMM, Op};
use crate::stop::{Done, Stop, gp};

/// Most bytes that one exit carries.
const BATCH_BYTES: u64 = 1024;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::In => by_size!(op.size, read_port),
        Mnemonic::Out => by_size!(operand_size(instruction, 1), write_port),
        _ => match instruction.code() {
            Code::Insb_m8_DX => ins::<u8>,
            Code::Insw_m16_DX => ins::<u16>,
            Code::Insd_m32_DX => ins::<u32>,
            Code::Outsb_DX_m8 => outs::<u8>,
            Code::Outsw_DX_m16 => outs::<u16>,
            Code::Outsd_DX_m32 => outs::<u32>,
            _ => return None,
        },
    })
}

fn port(cpu: &Cpu, op: &Op, place: u8) -> u16 {
    if place == IMM { u16::from(op.imm as u8) } else { cpu.get(Gpr::Rdx as u8) }
}

fn read_port<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let port = port(cpu, op, op.src);
    let size = T::SIZE as u8;
    if let Some(value) = cpu.ports.peek(size) {
        cpu.ports.clear();
        cpu.note_port(port, size);
        cpu.set(op.dst, T::from_u64(u64::from(value)));
        return Ok(());
    }
    check_port(cpu, port, size)?;
    cpu.request = Some(Request::PortIn { port, size, count: 1 });
    Err(Stop::Exit)
}

fn write_port<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let port = port(cpu, op, op.dst);
    let size = T::SIZE as u8;
    check_port(cpu, port, size)?;
    let value = cpu.get::<T>(op.src).to_u64() as u32;
    cpu.request = Some(Request::PortOut { port, size, value, resume_len: op.len });
    Err(Stop::Exit)
}

fn ins<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let left = cpu.iterations(op);
    if left == 0 {
        return check_port(cpu, cpu.get(Gpr::Rdx as u8), T::SIZE as u8);
    }
    if cpu.ports.is_active() {
        return store_input::<T>(cpu, op, left);
    }
    let port = cpu.get(Gpr::Rdx as u8);
    let size = T::SIZE as u64;
    check_port(cpu, port, T::SIZE as u8)?;
    let di = cpu.string_offset(Gpr::Rdi, op);
    let down = cpu.arch.rflags & rflags::DF != 0;
    let in_page = di % PAGE_SIZE as u64;
    let page_rest = if down { in_page } else { PAGE_SIZE as u64 - in_page };
    let count = (page_rest / size).min(BATCH_BYTES / size).min(left).max(1);
    let lowest = if down { di.wrapping_sub((count - 1) * size) } else { di };
    cpu.probe_write(ES, lowest & op.address_mask, (count * size) as usize)?;
    cpu.request = Some(Request::PortIn { port, size: T::SIZE as u8, count: count as u32 });
    Err(Stop::Exit)
}

/// Stores the elements that were read.
fn store_input<T: Int>(cpu: &mut Cpu, op: &Op, mut left: u64) -> Done {
    while left > 0
        && let Some(value) = cpu.ports.peek(T::SIZE as u8)
    {
        let value = T::from_u64(u64::from(value));
        cpu.write(ES, cpu.string_offset(Gpr::Rdi, op), value)?;
        cpu.ports.consume(T::SIZE as u8);
        cpu.advance_string(Gpr::Rdi, op, T::SIZE as u64);
        cpu.count_iterations(op, 1);
        left -= 1;
        let port = cpu.get(Gpr::Rdx as u8);
        cpu.note_port(port, T::SIZE as u8);
    }
    if left > 0 {
        cpu.resume_string(op);
    }
    Ok(())
}

fn outs<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let port = cpu.get(Gpr::Rdx as u8);
    let size = T::SIZE as u8;
    check_port(cpu, port, size)?;
    if cpu.iterations(op) == 0 {
        return Ok(());
    }
    let value: T = cpu.read(op.seg, cpu.string_offset(Gpr::Rsi, op))?;
    cpu.advance_string(Gpr::Rsi, op, u64::from(size));
    if cpu.count_iterations(op, 1) {
        cpu.resume_string(op);
    }
    cpu.note_port(port, size);
    let value = value.to_u64() as u32;
    cpu.request = Some(Request::PortOut { port, size, value, resume_len: 0 });
    cpu.attention = true;
    Ok(())
}

/// IOPL, then the I/O permission bitmap of the TSS; #GP(0) if neither allows the port.
fn check_port(cpu: &mut Cpu, port: u16, size: u8) -> Done {
    let by_level = !cpu.mode.v86 && cpu.arch.cpl <= cpu.iopl();
    if !cpu.mode.protected || by_level {
        return Ok(());
    }
    let (tr, map) = cpu.io_map()?;
    let at = u32::from(map) + u32::from(port / 8);
    if at + 1 > tr.limit {
        return gp(0);
    }
    let bits: u16 = cpu.read_system(tr.base.wrapping_add(u64::from(at)))?;
    let wanted = ((1_u16 << size) - 1) << (port % 8);
    if bits & wanted != 0 { gp(0) } else { Ok(()) }
}
