//! x87: arithmetic by the host, control and environment here.
//!
//! SDM volume 1, "Programming with the x87 FPU". The pointers to the last instruction and its
//! operand are the guest's: AMD's processors note them at every instruction that is no control
//! instruction, Intel's as their CPUID says.
//!
//! Laws: a pending exception is raised before memory is touched; a store is translated before the
//! instruction is executed. CR0.NE is taken as set, as by KVM on Intel: there is no FERR#.

mod arithmetic;
mod control;
mod environment;

use cpu_defs::{Exception, SegReg, cpuid_bit as bit, cr0, vector};
use cpu_mmu::{Access, AccessKind};
use iced_x86::{CpuidFeature, Instruction};

use crate::access::Span;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::native::Native;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, nm};

pub(super) fn select(
    instruction: &Instruction,
    op: &mut Op,
    native: &mut Native,
) -> Option<Handler> {
    if let Some(handler) = control::select(instruction) {
        return Some(handler);
    }
    if let Some(handler) = environment::select(instruction) {
        return Some(handler);
    }
    is_x87(instruction).then(|| arithmetic::select(instruction, op, native))
}

fn is_x87(instruction: &Instruction) -> bool {
    use CpuidFeature::{FPU, FPU287, FPU387};
    instruction.cpuid_features().iter().any(|feature| matches!(feature, FPU | FPU287 | FPU387))
}

/// FOP of the x87 instruction in these bytes. No prefix looks like the first byte of one.
pub(crate) fn opcode(bytes: &[u8]) -> u16 {
    let mut rest = bytes.iter().skip_while(|byte| !(0xD8..=0xDF).contains(*byte));
    match (rest.next(), rest.next()) {
        (Some(first), Some(second)) => u16::from(first & 7) << 8 | u16::from(*second),
        _ => 0,
    }
}

/// #NM where the operating system wants to switch x87 state, or has none.
pub(super) fn check_available(cpu: &Cpu) -> Done {
    if cpu.arch.cr0 & (cr0::EM | cr0::TS) != 0 { nm() } else { Ok(()) }
}

/// The same, then #MF if an exception of an earlier instruction waits.
fn check_waiting(cpu: &Cpu) -> Done {
    check_available(cpu)?;
    raise_pending(cpu)
}

fn raise_pending(cpu: &Cpu) -> Done {
    if cpu.fpu.x87_error() {
        return Err(Stop::Fault(Exception::plain(vector::MF)));
    }
    Ok(())
}

/// The translated memory operand, aligned where that is asked for.
fn operand(cpu: &mut Cpu, op: &Op, len: usize, kind: AccessKind) -> Result<Span, Stop> {
    let need = if kind == AccessKind::Write { Rights::WRITE } else { Rights::READ };
    let gla = cpu.linear(op.seg, cpu.offset(op), len as u64, need)?;
    cpu.span(op.seg, gla, len, Access { kind, privilege: cpu.mode.privilege })
}

/// Notes the instruction that has just been executed, and its memory operand.
fn note(cpu: &mut Cpu, op: &Op, has_memory: bool) {
    let features = &cpu.features;
    let error = cpu.fpu.x87_error();
    let always = features.amd;
    let data_always = always || !features.has(bit::FDP_EXCPTN_ONLY);
    let selectors = always || !features.has(bit::ZERO_FCS_FDS);
    let selector = |number: u8| {
        if selectors { cpu.arch.seg[usize::from(number & 7)].selector } else { 0 }
    };
    let mut pointers = cpu.fpu.pointers;
    pointers.ip = cpu.arch.rip().wrapping_sub(u64::from(op.len));
    pointers.cs = selector(SegReg::Cs as u8);
    if always || error {
        pointers.opcode = op.fop;
    }
    if has_memory && (data_always || error) {
        pointers.dp = cpu.offset(op);
        pointers.ds = selector(op.seg);
    }
    cpu.fpu.pointers = pointers;
}
