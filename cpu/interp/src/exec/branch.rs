//! Near jumps, calls and returns, Jcc, LOOP, JCXZ.
//!
//! A target beyond the CS limit (or not canonical) is #GP(0) at the branch.

use cpu_alu::Condition;
use cpu_defs::{Gpr, SegReg};
use iced_x86::{Code, ConditionCode, FlowControl, Instruction, Mnemonic, OpKind};

use super::moves::condition_number;
use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, Op, Rep};
use crate::stop::{Done, gp};

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    if instruction.is_loop() || instruction.is_loopcc() || instruction.is_jcx_short() {
        op.size = branch_size(instruction);
        op.address_mask = counter_mask(instruction.code());
        return Some(match instruction.mnemonic() {
            Mnemonic::Loop => by_size!(op.size, loop_),
            Mnemonic::Loope => by_size!(op.size, loope),
            Mnemonic::Loopne => by_size!(op.size, loopne),
            _ => by_size!(op.size, jcxz),
        });
    }
    let conditional = instruction.flow_control() == FlowControl::ConditionalBranch;
    if conditional && instruction.condition_code() != ConditionCode::None {
        op.size = branch_size(instruction);
        op.third = condition_number(instruction.condition_code());
        return Some(by_size!(op.size, jcc));
    }
    Some(match instruction.mnemonic() {
        Mnemonic::Jmp if instruction.is_jmp_short_or_near() => {
            op.size = branch_size(instruction);
            by_size!(op.size, jmp_relative)
        }
        Mnemonic::Jmp if instruction.is_jmp_near_indirect() => by_size!(op.size, jmp_indirect),
        Mnemonic::Call if instruction.is_call_near() => {
            op.size = branch_size(instruction);
            by_size!(op.size, call_relative)
        }
        Mnemonic::Call if instruction.is_call_near_indirect() => {
            by_size!(op.size, call_indirect)
        }
        Mnemonic::Ret => match instruction.code() {
            Code::Retnw | Code::Retnw_imm16 => ret::<u16>,
            Code::Retnd | Code::Retnd_imm16 => ret::<u32>,
            _ => ret::<u64>,
        },
        _ => return None,
    })
}

fn branch_size(instruction: &Instruction) -> u8 {
    match instruction.op0_kind() {
        OpKind::NearBranch16 => 2,
        OpKind::NearBranch32 => 4,
        _ => 8,
    }
}

/// Width of the counter that LOOP and JCXZ use: the address size.
fn counter_mask(code: Code) -> u64 {
    match code {
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_32_CX
        | Code::Jcxz_rel8_16
        | Code::Jcxz_rel8_32 => 0xFFFF,
        Code::Loop_rel8_16_RCX
        | Code::Loop_rel8_64_RCX
        | Code::Loope_rel8_16_RCX
        | Code::Loope_rel8_64_RCX
        | Code::Loopne_rel8_16_RCX
        | Code::Loopne_rel8_64_RCX
        | Code::Jrcxz_rel8_16
        | Code::Jrcxz_rel8_64 => u64::MAX,
        _ => 0xFFFF_FFFF,
    }
}

/// Goes to a target already cut to the operand size.
#[inline(always)]
pub(super) fn jump<T: Int>(cpu: &mut Cpu, target: T) -> Done {
    let target = target.to_u64();
    check_target(cpu, target)?;
    cpu.arch.set_rip(target);
    Ok(())
}

#[inline(always)]
pub(super) fn check_target(cpu: &Cpu, target: u64) -> Done {
    let legal = if cpu.mode.code64 {
        cpu.mode.is_canonical(target)
    } else {
        target <= u64::from(cpu.arch.segment(SegReg::Cs).limit)
    };
    if legal { Ok(()) } else { gp(0) }
}

#[inline(always)]
fn relative<T: Int>(cpu: &Cpu, op: &Op) -> T {
    T::from_u64(cpu.arch.rip().wrapping_add(op.imm))
}

fn jmp_relative<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    jump(cpu, relative::<T>(cpu, op))
}

fn jmp_indirect<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let target = cpu.load::<T>(op, op.dst)?;
    jump(cpu, target)
}

fn jcc<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    if Condition::from_code(op.third).holds(cpu.status()) {
        return jump(cpu, relative::<T>(cpu, op));
    }
    Ok(())
}

fn call_relative<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    call(cpu, relative::<T>(cpu, op))
}

fn call_indirect<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let target = cpu.load::<T>(op, op.dst)?;
    call(cpu, target)
}

#[inline(always)]
fn call<T: Int>(cpu: &mut Cpu, target: T) -> Done {
    if let Err(stop) = check_target(cpu, target.to_u64()) {
        if cpu.features.amd {
            // The stack's faults come first.
            cpu.probe_pushes(T::SIZE, 1)?;
        }
        return Err(stop);
    }
    cpu.push(T::from_u64(cpu.arch.rip()))?;
    cpu.arch.set_rip(target.to_u64());
    Ok(())
}

/// The immediate is the number of parameter bytes to release.
fn ret<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let target = cpu.stack_read::<T>(0)?;
    jump(cpu, target)?;
    cpu.release_stack(T::SIZE as u64 + op.imm);
    Ok(())
}

/// Decrements the counter and goes on if it is not zero and `condition` holds.
#[inline(always)]
fn count<T: Int>(cpu: &mut Cpu, op: &Op, condition: bool) -> Done {
    let counter = cpu.arch.gpr(Gpr::Rcx).wrapping_sub(1) & op.address_mask;
    if counter != 0 && condition {
        jump(cpu, relative::<T>(cpu, op))?;
    }
    cpu.set_counter(op.address_mask, counter);
    Ok(())
}

fn loop_<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    count::<T>(cpu, op, true)
}

fn loope<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    loop_while::<T>(cpu, op, Rep::WhileEqual)
}

fn loopne<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    loop_while::<T>(cpu, op, Rep::WhileNotEqual)
}

/// On AMD's processors a repeat prefix says which ZF goes on, whatever the opcode.
fn loop_while<T: Int>(cpu: &mut Cpu, op: &Op, opcode: Rep) -> Done {
    let goes_on = match op.rep {
        Rep::Once => opcode,
        _ if !cpu.features.amd => opcode,
        prefix => prefix,
    };
    let equal = Condition::E.holds(cpu.status());
    count::<T>(cpu, op, equal == (goes_on == Rep::WhileEqual))
}

fn jcxz<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    if cpu.arch.gpr(Gpr::Rcx) & op.address_mask == 0 {
        return jump(cpu, relative::<T>(cpu, op));
    }
    Ok(())
}
