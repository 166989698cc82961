//! Debug registers, descriptor table registers, SMSW, CPUID, HLT, cache control.
//!
//! SDM volume 3, "Debug Registers"; volume 2 for the others. UMIP keeps SGDT, SIDT and SMSW (and
//! SLDT and STR) from user code.

use cpu_defs::{Exception, Gpr, cr4, dr6, dr7};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::place::by_size;
use super::xcr::live_cpuid;
use crate::cpu::{Cpu, Request};
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::state::Table;
use crate::stop::{Done, Stop, gp, ud};
use crate::withheld::user_stores;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let register = |number: u32| {
        let is_register = instruction.op_kind(number) == OpKind::Register;
        is_register.then(|| instruction.op_register(number))
    };
    Some(match instruction.mnemonic() {
        Mnemonic::Mov if register(0).is_some_and(|r| r.is_dr()) => mov_to_dr,
        Mnemonic::Mov if register(1).is_some_and(|r| r.is_dr()) => mov_from_dr,
        Mnemonic::Lgdt | Mnemonic::Lidt | Mnemonic::Sgdt | Mnemonic::Sidt => {
            op.size = match instruction.code() {
                Code::Lgdt_m1632_16
                | Code::Lidt_m1632_16
                | Code::Sgdt_m1632_16
                | Code::Sidt_m1632_16 => 2,
                Code::Lgdt_m1632 | Code::Lidt_m1632 | Code::Sgdt_m1632 | Code::Sidt_m1632 => 4,
                _ => 8,
            };
            match instruction.mnemonic() {
                Mnemonic::Lgdt => lgdt,
                Mnemonic::Lidt => lidt,
                Mnemonic::Sgdt => |cpu, op| store_table(cpu, op, cpu.arch.gdtr, user_stores::SGDT),
                _ => |cpu, op| store_table(cpu, op, cpu.arch.idtr, user_stores::SIDT),
            }
        }
        Mnemonic::Smsw if op.dst_is_memory() => smsw::<u16>,
        Mnemonic::Smsw => by_size!(op.size, smsw),
        Mnemonic::Hlt => hlt,
        Mnemonic::Cpuid => cpuid,
        _ => return None,
    })
}

pub(super) fn ring0(cpu: &Cpu) -> Done {
    if cpu.arch.cpl != 0 { gp(0) } else { Ok(()) }
}

/// #GP(0) in user code where CR4.UMIP is set, or the host withholds this one of [`user_stores`].
pub(super) fn check_user_store(cpu: &Cpu, store: u8) -> Done {
    let denied = cpu.arch.cr4 & cr4::UMIP != 0 || cpu.withheld.user_stores & store != 0;
    if denied && cpu.arch.cpl != 0 { gp(0) } else { Ok(()) }
}

/// MOV of control and debug registers is 64 bits wide in 64-bit code, else 32.
pub(super) fn system_operand(cpu: &Cpu, register: u8) -> u64 {
    if cpu.mode.code64 { cpu.get(register) } else { u64::from(cpu.get::<u32>(register)) }
}

pub(super) fn set_system_operand(cpu: &mut Cpu, register: u8, value: u64) {
    if cpu.mode.code64 {
        cpu.set(register, value);
    } else {
        cpu.set(register, value as u32);
    }
}

/// DR4 and DR5 are DR6 and DR7, unless CR4.DE says that they do not exist.
fn debug_register(cpu: &mut Cpu, number: u8) -> Result<u8, Stop> {
    if number > 7 {
        return ud();
    }
    ring0(cpu)?;
    if matches!(number, 4 | 5) && cpu.arch.cr4 & cr4::DE != 0 {
        return ud();
    }
    if cpu.effective_dr7() & dr7::GD != 0 {
        return Err(Stop::Fault(Exception::debug(dr6::BD)));
    }
    Ok(if number >= 6 { number } else { number | (number & 4) >> 1 })
}

fn mov_to_dr(cpu: &mut Cpu, op: &Op) -> Done {
    let number = debug_register(cpu, op.dst)?;
    let value = system_operand(cpu, op.src);
    if number >= 6 && value >> 32 != 0 {
        return gp(0);
    }
    match number {
        6 => cpu.arch.dr6 = (value & dr6::WRITABLE) | dr6::FIXED_ONE,
        7 => cpu.arch.dr7 = (value & dr7::WRITABLE) | dr7::FIXED_ONE,
        _ => cpu.arch.dr[usize::from(number & 3)] = value,
    }
    cpu.refresh_breakpoints();
    cpu.serialize_fully();
    Ok(())
}

fn mov_from_dr(cpu: &mut Cpu, op: &Op) -> Done {
    let number = debug_register(cpu, op.src)?;
    let value = match number {
        6 => cpu.arch.dr6,
        7 => cpu.arch.dr7,
        _ => cpu.arch.dr[usize::from(number & 3)],
    };
    set_system_operand(cpu, op.dst, value);
    Ok(())
}

fn load_table(cpu: &mut Cpu, op: &Op) -> Result<Table, Stop> {
    ring0(cpu)?;
    let at = cpu.offset(op);
    let base_at = at.wrapping_add(2) & op.address_mask;
    let limit = cpu.read(op.seg, at)?;
    let base = match op.size {
        8 => cpu.read::<u64>(op.seg, base_at)?,
        4 => u64::from(cpu.read::<u32>(op.seg, base_at)?),
        _ => u64::from(cpu.read::<u32>(op.seg, base_at)? & 0xFF_FFFF),
    };
    if op.size == 8 && !cpu.is_canonical_base(base) {
        return gp(0);
    }
    Ok(Table { base, limit })
}

fn lgdt(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.arch.gdtr = load_table(cpu, op)?;
    cpu.serialize_fully();
    Ok(())
}

fn lidt(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.arch.idtr = load_table(cpu, op)?;
    cpu.serialize_fully();
    Ok(())
}

/// Stores the whole base whatever the operand size, as processors since the 80386 do.
fn store_table(cpu: &mut Cpu, op: &Op, table: Table, store: u8) -> Done {
    check_user_store(cpu, store)?;
    let at = cpu.offset(op);
    let base_at = at.wrapping_add(2) & op.address_mask;
    let len = if op.size == 8 { 10 } else { 6 };
    cpu.probe_write(op.seg, at, len)?;
    cpu.write(op.seg, at, table.limit)?;
    if op.size == 8 {
        cpu.write(op.seg, base_at, table.base)
    } else {
        cpu.write(op.seg, base_at, table.base as u32)
    }
}

fn smsw<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    check_user_store(cpu, 0)?;
    cpu.store(op, op.dst, T::from_u64(cpu.arch.cr0))
}

fn hlt(cpu: &mut Cpu, _: &Op) -> Done {
    ring0(cpu)?;
    cpu.request = Some(Request::Hlt);
    cpu.attention = true;
    Ok(())
}

fn cpuid(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.cpuid_faults() {
        return gp(0);
    }
    let (function, index) = (cpu.get::<u32>(Gpr::Rax as u8), cpu.get::<u32>(Gpr::Rcx as u8));
    let leaf = live_cpuid(cpu, function, index);
    for (gpr, value) in [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx].into_iter().zip(leaf) {
        cpu.set(gpr as u8, value);
    }
    cpu.serialize();
    Ok(())
}
