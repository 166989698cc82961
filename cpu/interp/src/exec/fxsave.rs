//! FXSAVE and FXRSTOR.
//!
//! SDM volume 2, "FXSAVE", "FXRSTOR"; APM volume 2, "Fast FXSAVE and FXRSTOR". XMM registers and MXCSR
//! are saved whether CR4.OSFXSR is set or not. Bytes 511:416 are left alone.

use cpu_defs::efer;
use cpu_host::{LEGACY_LEN, MXCSR, MXCSR_LEGAL, PointerForm};
use cpu_mmu::AccessKind;
use iced_x86::{Instruction, Mnemonic};

use super::x87::check_available;
use super::xsave::store;
use crate::cpu::Cpu;
use crate::long_operand::LongSpan;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, gp};
use crate::xstate::{Area, Form, MXCSR_RANGE};

/// Component numbers: x87, and the XMM registers.
const X87: u32 = 0;
const SSE: u32 = 1;
const ALIGNMENT: u64 = 16;
/// The first access, as far as alignment and limit go, is a load of this length in any case.
const PIECE: usize = 4;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Fxsave => |cpu, op| fxsave(cpu, op, PointerForm::Narrow),
        Mnemonic::Fxsave64 => |cpu, op| fxsave(cpu, op, PointerForm::Wide),
        Mnemonic::Fxrstor => |cpu, op| fxrstor(cpu, op, PointerForm::Narrow),
        Mnemonic::Fxrstor64 => |cpu, op| fxrstor(cpu, op, PointerForm::Wide),
        _ => return None,
    })
}

/// The translated 512 bytes of the operand, which must be aligned to 16. Where alignment is checked,
/// its first piece raises #AC before that.
fn translate(cpu: &mut Cpu, op: &Op, kind: AccessKind) -> Result<LongSpan, Stop> {
    check_available(cpu)?;
    let gla = cpu.first_piece(op, PIECE, AccessKind::Read)?;
    if !gla.is_multiple_of(ALIGNMENT) {
        cpu.check_canonical(op.seg, gla, PIECE)?;
        return gp(0);
    }
    let operand = cpu.long_operand(op, LEGACY_LEN, kind, |at| (at + 1).next_multiple_of(PIECE))?;
    cpu.long_span(operand, kind)
}

/// EFER.FFXSR: the XMM registers are left out at CPL 0 in 64-bit mode.
fn leaves_out_xmm(cpu: &Cpu) -> bool {
    cpu.arch.efer & efer::FFXSR != 0 && cpu.mode.code64 && cpu.arch.cpl == 0
}

fn fxsave(cpu: &mut Cpu, op: &Op, pointers: PointerForm) -> Done {
    let span = translate(cpu, op, AccessKind::Write)?;
    let form = Form::of(cpu, pointers);
    let mut area = Area::new();
    cpu.put_component(&mut area, X87, 0, form);
    cpu.put_mxcsr(&mut area);
    if !leaves_out_xmm(cpu) {
        cpu.put_component(&mut area, SSE, 0, form);
    }
    store(cpu, &area, span);
    Ok(())
}

fn fxrstor(cpu: &mut Cpu, op: &Op, pointers: PointerForm) -> Done {
    let span = translate(cpu, op, AccessKind::Read)?;
    let form = Form::of(cpu, pointers);
    let mut area = Area::new();
    cpu.read_long(span, 0, &mut area.bytes[..LEGACY_LEN])?;
    let mxcsr = area.u32(MXCSR_RANGE.start);
    if mxcsr & !MXCSR_LEGAL != 0 {
        return gp(0);
    }
    cpu.fpu.set_u32(MXCSR, mxcsr);
    cpu.take_component(&area, X87, 0, form);
    if !leaves_out_xmm(cpu) {
        cpu.take_component(&area, SSE, 0, form);
    }
    Ok(())
}
