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
use cpu_host::FCW;
use cpu_mmu::{Access, AccessKind};
use iced_x86::{CpuidFeature, Instruction, Mnemonic};

use crate::access::Span;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::native::Native;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, nm};

/// Exception masks of FCW.
const EXCEPTIONS: u16 = 0x3F;

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

/// How another tier executes an x87 instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HostUse {
    /// As it is; it is noted.
    Noted,
    /// As it is; control instructions are not noted.
    Control,
}

/// None: not at all.
pub(super) fn host_use(instruction: &Instruction) -> Option<HostUse> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Fnclex | M::Fldcw | M::Fnstcw | M::Fnstsw | M::Wait => return Some(HostUse::Control),
        _ => {}
    }
    let ours = control::select(instruction).is_some() || environment::select(instruction).is_some();
    let copied = !ours && is_x87(instruction) && cpu_host::is_executable(instruction);
    copied.then_some(HostUse::Noted)
}

/// Notes the instruction that has just been executed, and its memory operand.
fn note(cpu: &mut Cpu, op: &Op, has_memory: bool) {
    cpu.note_x87(op, cpu.arch.rip().wrapping_sub(u64::from(op.len)));
    if has_memory {
        cpu.note_x87_operand(op, cpu.offset(op));
    }
}

impl Cpu {
    /// Notes an instruction at `ip` that has been executed, and is no control instruction, as the last
    /// one.
    pub fn note_x87(&mut self, op: &Op, ip: u64) {
        let always = self.features.amd;
        let cs = self.noted_selector(SegReg::Cs as u8);
        let error = self.fpu.x87_error();
        let pointers = &mut self.fpu.pointers;
        (pointers.ip, pointers.cs) = (ip, cs);
        if always || error {
            pointers.opcode = op.fop;
        }
    }

    /// Notes the memory operand of such an instruction, which was at `offset`.
    pub fn note_x87_operand(&mut self, op: &Op, offset: u64) {
        let always = self.features.amd || !self.features.has(bit::FDP_EXCPTN_ONLY);
        if always || self.fpu.x87_error() {
            let ds = self.noted_selector(op.seg);
            (self.fpu.pointers.dp, self.fpu.pointers.ds) = (offset, ds);
        }
    }

    fn noted_selector(&self, number: u8) -> u16 {
        if self.has_x87_selectors() { self.arch.seg[usize::from(number & 7)].selector } else { 0 }
    }

    /// FCS and FDS are not always zero.
    fn has_x87_selectors(&self) -> bool {
        self.features.amd || !self.features.has(bit::ZERO_FCS_FDS)
    }

    /// Whether the host may execute x87 and MMX instructions on the guest's registers: the operating
    /// system lets them be used, and no exception waits or is unmasked.
    #[must_use]
    pub fn may_use_x87(&self) -> bool {
        let masked = self.fpu.u16(FCW) & EXCEPTIONS == EXCEPTIONS;
        masked && !self.fpu.x87_error() && check_available(self).is_ok()
    }
}
