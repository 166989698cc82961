//! Everything that computes, loads, stores or moves on the register stack: executed by the host.
//!
//! SDM volume 1, "x87 FPU Floating-Point Exception Handling": an unmasked exception of a store
//! leaves memory alone, unless it is the precision exception.

use cpu_defs::{Exception, vector};
use cpu_host::{FCW, FSW, MemoryUse, Outcome, Refusal};
use cpu_mmu::AccessKind;
use iced_x86::Instruction;

use super::{check_waiting, note, operand};
use crate::cpu::Cpu;
use crate::exec::{undefined, unsupported};
use crate::native::{Active, Native, NativeOp};
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop};

/// Most bytes of a memory operand.
const MAX_LEN: usize = 10;
/// Exceptions that keep a store from being made: invalid operation, overflow, underflow.
const STORE_EXCEPTIONS: u16 = 0x19;

pub(super) fn select(instruction: &Instruction, op: &mut Op, native: &mut Native) -> Handler {
    let snippet = match native.snippet(instruction) {
        Ok(snippet) => snippet,
        Err(Refusal::NoSuchInstruction) => return undefined,
        Err(_) => return unsupported,
    };
    let len = instruction.memory_size().size() as u8;
    let native_op = NativeOp { snippet, len, misaligned: 0, active: Active::All };
    op.imm = u64::from(native.number(native_op));
    match snippet.memory {
        MemoryUse::None => |cpu, op| {
            let native = begin(cpu, op)?;
            run(cpu, op, &native)
        },
        MemoryUse::Read => load,
        MemoryUse::Write => store,
    }
}

fn begin(cpu: &Cpu, op: &Op) -> Result<NativeOp, Stop> {
    check_waiting(cpu)?;
    cpu.native.op(op.imm).ok_or(Stop::Unsupported)
}

fn run(cpu: &mut Cpu, op: &Op, native: &NativeOp) -> Done {
    if cpu.run_native(&native.snippet) != Outcome::Done {
        return Err(Stop::Fault(Exception::plain(vector::MF)));
    }
    note(cpu, op, native.snippet.memory != MemoryUse::None);
    Ok(())
}

fn load(cpu: &mut Cpu, op: &Op) -> Done {
    let native = begin(cpu, op)?;
    let len = usize::from(native.len).min(MAX_LEN);
    let span = operand(cpu, op, len, AccessKind::Read)?;
    let mut bytes = [0; MAX_LEN];
    cpu.read_parts(span, &mut bytes[..len])?;
    cpu.native.memory()[..MAX_LEN].copy_from_slice(&bytes);
    run(cpu, op, &native)
}

fn store(cpu: &mut Cpu, op: &Op) -> Done {
    let native = begin(cpu, op)?;
    let len = usize::from(native.len).min(MAX_LEN);
    let span = operand(cpu, op, len, AccessKind::Write)?;
    run(cpu, op, &native)?;
    if cpu.fpu.u16(FSW) & !cpu.fpu.u16(FCW) & STORE_EXCEPTIONS == 0 {
        let bytes = *cpu.native.memory();
        cpu.write_parts(span, &bytes[..len]);
    }
    Ok(())
}
