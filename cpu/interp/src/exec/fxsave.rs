//! FXSAVE and FXRSTOR.
//!
//! SDM volume 2, "FXSAVE", "FXRSTOR"; APM volume 2, "Fast FXSAVE and FXRSTOR". XMM registers and MXCSR
//! are saved whether CR4.OSFXSR is set or not. Bytes 511:416 are left alone.

use cpu_defs::{Exception, cr0, efer, vector};
use cpu_host::{LEGACY_LEN, MXCSR, MXCSR_LEGAL, PointerForm};
use cpu_mmu::{Access, AccessKind};
use iced_x86::{Instruction, Mnemonic};

use crate::access::Span;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, gp};
use crate::xstate::{Area, Form, MXCSR_RANGE};

/// Component numbers: x87, and the XMM registers.
const X87: u32 = 0;
const SSE: u32 = 1;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Fxsave => |cpu, op| fxsave(cpu, op, PointerForm::Narrow),
        Mnemonic::Fxsave64 => |cpu, op| fxsave(cpu, op, PointerForm::Wide),
        Mnemonic::Fxrstor => |cpu, op| fxrstor(cpu, op, PointerForm::Narrow),
        Mnemonic::Fxrstor64 => |cpu, op| fxrstor(cpu, op, PointerForm::Wide),
        _ => return None,
    })
}

/// The translated 512 bytes of the operand, which must be aligned to 16.
fn translate(cpu: &mut Cpu, op: &Op, kind: AccessKind) -> Result<Span, Stop> {
    if cpu.arch.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(Stop::Fault(Exception::plain(vector::NM)));
    }
    let need = if kind == AccessKind::Write { Rights::WRITE } else { Rights::READ };
    let gla = cpu.linear(op.seg, cpu.offset(op), LEGACY_LEN as u64, need)?;
    if gla % 16 != 0 {
        return gp(0);
    }
    cpu.span(op.seg, gla, LEGACY_LEN, Access { kind, privilege: cpu.mode.privilege })
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
    for part in &area.parts {
        cpu.write_parts(span.part(part.start, part.len()), &area.bytes[part.clone()]);
    }
    Ok(())
}

fn fxrstor(cpu: &mut Cpu, op: &Op, pointers: PointerForm) -> Done {
    let span = translate(cpu, op, AccessKind::Read)?;
    let form = Form::of(cpu, pointers);
    let mut area = Area::new();
    cpu.read_parts(span, &mut area.bytes[..LEGACY_LEN])?;
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
