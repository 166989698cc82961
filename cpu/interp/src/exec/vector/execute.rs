//! Instructions that the host executes: operand in, snippet, operand out.

use cpu_defs::{Exception, SegReg, cr4, vector};
use cpu_host::{MemoryUse, Outcome, Refusal};
use iced_x86::Instruction;

use super::{Class, active, available, class, classify};
use crate::cpu::Cpu;
use crate::exec::{undefined, unsupported};
use crate::mode::Rights;
use crate::native::{Active, Native, NativeOp};
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, gp, ud};

/// Most bytes of a memory operand.
pub(super) const MAX_LEN: usize = 64;

/// What goes with the operand in memory.
const NO_MEMORY: u8 = 0;
const LOAD: u8 = 1;
const STORE: u8 = 2;
const MASKED_LOAD: u8 = 3;
const MASKED_STORE: u8 = 4;

pub(super) fn select(instruction: &Instruction, op: &mut Op, native: &mut Native) -> Handler {
    let snippet = match native.snippet(instruction) {
        Ok(snippet) => snippet,
        Err(Refusal::NoSuchInstruction) => return undefined,
        Err(_) => return unsupported,
    };
    let active = classify::active(instruction);
    let len = instruction.memory_size().size() as u8;
    let misaligned = classify::alignment(instruction) - 1;
    op.imm = u64::from(native.number(NativeOp { snippet, len, misaligned, active }));
    let masked = active != Active::All;
    let memory = match (snippet.memory, masked) {
        (MemoryUse::None, _) => NO_MEMORY,
        (MemoryUse::Read, false) => LOAD,
        (MemoryUse::Write, false) => STORE,
        (MemoryUse::Read, true) => MASKED_LOAD,
        (MemoryUse::Write, true) => MASKED_STORE,
    };
    match class(instruction) {
        Class::Mmx => with_memory::<{ Class::Mmx as u8 }>(memory),
        Class::Sse => with_memory::<{ Class::Sse as u8 }>(memory),
        Class::Avx => with_memory::<{ Class::Avx as u8 }>(memory),
        Class::Avx512 => with_memory::<{ Class::Avx512 as u8 }>(memory),
    }
}

fn with_memory<const CLASS: u8>(memory: u8) -> Handler {
    match memory {
        NO_MEMORY => handle::<CLASS, NO_MEMORY>,
        LOAD => handle::<CLASS, LOAD>,
        STORE => handle::<CLASS, STORE>,
        MASKED_LOAD => handle::<CLASS, MASKED_LOAD>,
        _ => handle::<CLASS, MASKED_STORE>,
    }
}

fn handle<const CLASS: u8, const MEMORY: u8>(cpu: &mut Cpu, op: &Op) -> Done {
    const MMX: u8 = Class::Mmx as u8;
    const AVX: u8 = Class::Avx as u8;
    const AVX512: u8 = Class::Avx512 as u8;
    match CLASS {
        MMX => available::mmx(cpu)?,
        AVX => available::avx(cpu)?,
        AVX512 => available::avx512(cpu)?,
        _ => available::sse(cpu)?,
    }
    let Some(native) = cpu.native.op(op.imm) else {
        return Err(Stop::Unsupported);
    };
    if MEMORY != NO_MEMORY && native.snippet.x87 && cpu.fpu.x87_error() {
        // Before the operand is looked at.
        return Err(Stop::Fault(Exception::plain(vector::MF)));
    }
    match MEMORY {
        LOAD => load(cpu, op, &native)?,
        MASKED_LOAD => active::load(cpu, op, &native)?,
        STORE => return store(cpu, op, &native),
        MASKED_STORE => return active::store(cpu, op, &native),
        _ => {}
    }
    run(cpu, &native)
}

/// Has the host execute it.
pub(super) fn run(cpu: &mut Cpu, native: &NativeOp) -> Done {
    match cpu.run_native(&native.snippet) {
        Outcome::Done => Ok(()),
        Outcome::Faulted(number) => {
            if number == vector::XM && native.snippet.x87 {
                // As on AMD's processors, the transition to MMX state is not undone.
                cpu.fpu.enter_mmx();
            }
            simd_fault(cpu, number)
        }
    }
}

#[cold]
fn simd_fault(cpu: &Cpu, number: u8) -> Done {
    if number == vector::XM && cpu.arch.cr4 & cr4::OSXMMEXCPT == 0 {
        return ud();
    }
    Err(Stop::Fault(Exception::plain(number)))
}

/// Linear address of the memory operand.
fn operand(cpu: &Cpu, op: &Op, native: &NativeOp, need: u8) -> Result<u64, Stop> {
    let offset = cpu.offset(op);
    check_aligned(cpu, op, native, offset)?;
    let gla = cpu.linear(op.seg, offset, u64::from(native.len), need)?;
    let len = usize::from(native.len);
    cpu.check_alignment(op.seg, gla, len, vector_alignment(len))?;
    Ok(gla)
}

/// #GP(0) if the operand must be aligned and is not: before segment checks, which may be #SS.
pub(super) fn check_aligned(cpu: &Cpu, op: &Op, native: &NativeOp, offset: u64) -> Done {
    let base = cpu.arch.seg[usize::from(op.seg & 7)].base;
    let flat = cpu.mode.code64 && op.seg < SegReg::Fs as u8;
    let gla = if flat { offset } else { base.wrapping_add(offset) };
    if gla & u64::from(native.misaligned) != 0 { gp(0) } else { Ok(()) }
}

/// What #AC asks of a vector of `len` bytes, a power of two.
pub(super) fn vector_alignment(len: usize) -> u64 {
    len.clamp(1, 16) as u64
}

fn load(cpu: &mut Cpu, op: &Op, native: &NativeOp) -> Done {
    let gla = operand(cpu, op, native, Rights::READ)?;
    let mut bytes = [0; MAX_LEN];
    let bytes = &mut bytes[..usize::from(native.len).min(MAX_LEN)];
    cpu.read_bytes(op.seg, gla, bytes)?;
    cpu.native.memory()[..bytes.len()].copy_from_slice(bytes);
    Ok(())
}

fn store(cpu: &mut Cpu, op: &Op, native: &NativeOp) -> Done {
    let len = usize::from(native.len).min(MAX_LEN);
    let gla = operand(cpu, op, native, Rights::WRITE)?;
    let place = cpu.place(op.seg, gla, len)?;
    run(cpu, native)?;
    let bytes = *cpu.native.memory();
    cpu.write_place(place, &bytes[..len]);
    Ok(())
}
