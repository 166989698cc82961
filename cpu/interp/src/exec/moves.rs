//! MOV, MOVZX, MOVSX, MOVSXD, LEA, XCHG, CMOVcc, SETcc, CBW and kin, XLAT, MOVBE,
//! MOVNTI.
//!
//! MOV of segment, control and debug registers is in `segment` and `system`.

use cpu_alu::Condition;
use cpu_defs::Gpr;
use iced_x86::{ConditionCode, Instruction, Mnemonic, OpKind};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::decode::operand_size;
use crate::int::Int;
use crate::op::{Handler, IMM, MEM, Op};
use crate::stop::Done;

const RAX: u8 = Gpr::Rax as u8;
const RDX: u8 = Gpr::Rdx as u8;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let source_size = operand_size(instruction, 1);
    Some(match instruction.mnemonic() {
        Mnemonic::Mov => return select_mov(instruction, op),
        Mnemonic::Movzx if source_size == 1 => by_size!(op.size, movzx, u8),
        Mnemonic::Movzx => by_size!(op.size, movzx, u16),
        Mnemonic::Movsx if source_size == 1 => by_size!(op.size, movsx, u8),
        Mnemonic::Movsx => by_size!(op.size, movsx, u16),
        Mnemonic::Movsxd if op.size == 2 => movsxd_16,
        Mnemonic::Movsxd => by_size!(op.size, movsx, u32),
        Mnemonic::Lea => by_size!(op.size, lea),
        Mnemonic::Xchg => {
            if op.src == MEM {
                (op.dst, op.src) = (op.src, op.dst);
            }
            op.lock = op.dst == MEM;
            by_size!(op.size, xchg)
        }
        Mnemonic::Cbw => |cpu, _| extend_in_place::<u8, u16>(cpu),
        Mnemonic::Cwde => |cpu, _| extend_in_place::<u16, u32>(cpu),
        Mnemonic::Cdqe => |cpu, _| extend_in_place::<u32, u64>(cpu),
        Mnemonic::Cwd => |cpu, _| sign_to_dx::<u16>(cpu),
        Mnemonic::Cdq => |cpu, _| sign_to_dx::<u32>(cpu),
        Mnemonic::Cqo => |cpu, _| sign_to_dx::<u64>(cpu),
        Mnemonic::Xlatb => xlat,
        Mnemonic::Movbe => by_size!(op.size, movbe),
        Mnemonic::Movnti => by_size!(op.size, mov_memory_register),
        _ => return select_conditional(instruction, op),
    })
}

fn select_mov(instruction: &Instruction, op: &Op) -> Option<Handler> {
    let special = |number| {
        instruction.op_kind(number) == OpKind::Register && {
            let register = instruction.op_register(number);
            !register.is_gpr()
        }
    };
    if special(0) || special(1) {
        return None;
    }
    Some(match (op.dst, op.src) {
        (MEM, IMM) => by_size!(op.size, mov_memory_immediate),
        (MEM, _) => by_size!(op.size, mov_memory_register),
        (_, MEM) => by_size!(op.size, mov_register_memory),
        (_, IMM) => by_size!(op.size, mov_register_immediate),
        _ => by_size!(op.size, mov_register_register),
    })
}

fn select_conditional(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let code = instruction.condition_code();
    if code == ConditionCode::None {
        return None;
    }
    // In the order of the encoding, as `Condition::from_code` has it.
    op.third = condition_number(code);
    if instruction.op_count() == 2 && instruction.op0_register().is_gpr() {
        return Some(by_size!(op.size, cmov));
    }
    let sets_byte = op.size == 1 && instruction.op0_kind() != OpKind::NearBranch16;
    if sets_byte { Some(setcc) } else { None }
}

/// The condition as encoded in the low four opcode bits.
pub(super) fn condition_number(code: ConditionCode) -> u8 {
    match code {
        ConditionCode::o => 0,
        ConditionCode::no => 1,
        ConditionCode::b => 2,
        ConditionCode::ae => 3,
        ConditionCode::e => 4,
        ConditionCode::ne => 5,
        ConditionCode::be => 6,
        ConditionCode::a => 7,
        ConditionCode::s => 8,
        ConditionCode::ns => 9,
        ConditionCode::p => 10,
        ConditionCode::np => 11,
        ConditionCode::l => 12,
        ConditionCode::ge => 13,
        ConditionCode::le => 14,
        ConditionCode::g | ConditionCode::None => 15,
    }
}

fn mov_register_register<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.get::<T>(op.src);
    cpu.set(op.dst, value);
    Ok(())
}

fn mov_register_immediate<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.set(op.dst, T::from_u64(op.imm));
    Ok(())
}

fn mov_register_memory<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.read::<T>(op.seg, cpu.offset(op))?;
    cpu.set(op.dst, value);
    Ok(())
}

fn mov_memory_register<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.write(op.seg, cpu.offset(op), cpu.get::<T>(op.src))
}

fn mov_memory_immediate<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.write(op.seg, cpu.offset(op), T::from_u64(op.imm))
}

fn movbe<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.load::<T>(op, op.src)?.to_u64();
    let swapped = value.swap_bytes() >> (u64::BITS - T::BITS);
    cpu.store(op, op.dst, T::from_u64(swapped))
}

fn movzx<T: Int, S: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.load::<S>(op, op.src)?;
    cpu.set(op.dst, T::from_u64(value.to_u64()));
    Ok(())
}

fn movsx<T: Int, S: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.load::<S>(op, op.src)?;
    cpu.set(op.dst, T::from_u64(value.to_i64() as u64));
    Ok(())
}

/// Without REX.W and with 66H nothing is extended; AMD reads 32 bits all the same.
fn movsxd_16(cpu: &mut Cpu, op: &Op) -> Done {
    if cpu.features.amd { movsx::<u16, u32>(cpu, op) } else { movsx::<u16, u16>(cpu, op) }
}

fn lea<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let offset = cpu.offset(op);
    cpu.set(op.dst, T::from_u64(offset));
    Ok(())
}

/// With memory always locked.
fn xchg<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let new = cpu.get::<T>(op.src);
    let mut old = new;
    cpu.update(op, |value| {
        old = value;
        new
    })?;
    cpu.set(op.src, old);
    Ok(())
}

fn extend_in_place<S: Int, T: Int>(cpu: &mut Cpu) -> Done {
    let value = cpu.get::<S>(RAX).to_i64();
    cpu.set(RAX, T::from_u64(value as u64));
    Ok(())
}

fn sign_to_dx<T: Int>(cpu: &mut Cpu) -> Done {
    let sign = if cpu.get::<T>(RAX).sign() { u64::MAX } else { 0 };
    cpu.set(RDX, T::from_u64(sign));
    Ok(())
}

fn xlat(cpu: &mut Cpu, op: &Op) -> Done {
    let table = cpu.arch.slots[usize::from(op.base & 31)];
    let offset = table.wrapping_add(u64::from(cpu.get::<u8>(RAX))) & op.address_mask;
    let value = cpu.read::<u8>(op.seg, offset)?;
    cpu.set(RAX, value);
    Ok(())
}

/// The source is loaded, and a 32-bit destination zero-extended, whatever the condition.
fn cmov<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let source = cpu.load::<T>(op, op.src)?;
    let holds = Condition::from_code(op.third).holds(cpu.status());
    let value = if holds { source } else { cpu.get(op.dst) };
    cpu.set(op.dst, value);
    Ok(())
}

fn setcc(cpu: &mut Cpu, op: &Op) -> Done {
    let holds = Condition::from_code(op.third).holds(cpu.status());
    cpu.store(op, op.dst, u8::from(holds))
}
