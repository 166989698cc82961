//! XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS.
//!
//! SDM volume 1, "Managing State Using the XSAVE Feature Set". Laws: as on AMD's processors, the whole
//! area up to the last requested component is translated before a byte is stored or a register
//! changes, needed or not; bytes between the components are left alone. The init optimisation goes by
//! the registers' contents; there is no modified optimisation.

use cpu_host::{MXCSR, MXCSR_INIT, MXCSR_LEGAL, PointerForm};
use cpu_mmu::AccessKind;
use iced_x86::{Instruction, Mnemonic};

use super::vector::available::task_switched;
use super::xcr::check_osxsave;
use crate::cpu::Cpu;
use crate::long_operand::LongSpan;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, gp};
use crate::xstate::{
    Area, COMPACTED, Form, HEADER, HEADER_LEN, Image, MXCSR_RANGE, bit, compacted_len, numbers,
    standard_len,
};

const ALIGNMENT: u64 = 64;
/// Offsets wrap between pieces of this length.
const PIECE: usize = 8;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    use PointerForm::{Narrow, Wide};
    Some(match instruction.mnemonic() {
        Mnemonic::Xsave => |cpu, op| save_standard(cpu, op, Narrow, Components::Requested),
        Mnemonic::Xsave64 => |cpu, op| save_standard(cpu, op, Wide, Components::Requested),
        Mnemonic::Xsaveopt => |cpu, op| save_standard(cpu, op, Narrow, Components::InUse),
        Mnemonic::Xsaveopt64 => |cpu, op| save_standard(cpu, op, Wide, Components::InUse),
        Mnemonic::Xsavec => |cpu, op| save_compacted(cpu, op, Narrow, 0),
        Mnemonic::Xsavec64 => |cpu, op| save_compacted(cpu, op, Wide, 0),
        Mnemonic::Xsaves => |cpu, op| xsaves(cpu, op, Narrow),
        Mnemonic::Xsaves64 => |cpu, op| xsaves(cpu, op, Wide),
        Mnemonic::Xrstor => |cpu, op| xrstor(cpu, op, Narrow),
        Mnemonic::Xrstor64 => |cpu, op| xrstor(cpu, op, Wide),
        Mnemonic::Xrstors => |cpu, op| xrstors(cpu, op, Narrow),
        Mnemonic::Xrstors64 => |cpu, op| xrstors(cpu, op, Wide),
        _ => return None,
    })
}

/// What an instruction stores of the components that it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Components {
    Requested,
    InUse,
}

/// #UD without CR4.OSXSAVE, #NM with CR0.TS.
fn check_xsave(cpu: &Cpu) -> Done {
    check_osxsave(cpu)?;
    task_switched(cpu)
}

/// The requested-feature bitmap: EDX:EAX, as far as enabled.
fn requested(cpu: &Cpu, enabled: u64) -> u64 {
    cpu.edx_eax() & enabled
}

/// #GP unless the operand is aligned, before the segment is looked at.
fn check_aligned(cpu: &Cpu, op: &Op) -> Done {
    if !cpu.unchecked_linear(op).is_multiple_of(ALIGNMENT) {
        return gp(0);
    }
    Ok(())
}

/// Translates the first `len` bytes of the operand, its first byte before the others.
fn translate(cpu: &mut Cpu, op: &Op, len: usize, kind: AccessKind) -> Result<LongSpan, Stop> {
    cpu.probe_first_piece(op, 1, kind)?;
    let operand = cpu.long_operand(op, len, kind, |at| (at + 1).next_multiple_of(PIECE))?;
    cpu.long_span(operand, kind)
}

/// Stores what there is of an area.
pub(super) fn store(cpu: &mut Cpu, area: &Area, span: LongSpan) {
    for (at, bytes) in area.touched() {
        cpu.write_long(span, at, bytes);
    }
}

/// XSAVE, and of the components in use alone XSAVEOPT.
fn save_standard(cpu: &mut Cpu, op: &Op, pointers: PointerForm, components: Components) -> Done {
    check_xsave(cpu)?;
    let requested = requested(cpu, cpu.arch.xcr0);
    let in_use = requested & cpu.xinuse();
    let stored = if components == Components::InUse { in_use } else { requested };
    let form = Form::of(cpu, pointers);
    let standard = Image { xstate_bv: 0, xcomp_bv: 0 };
    let mut area = Area::new();
    for number in numbers(stored) {
        if let Some(at) = standard.offset(number) {
            cpu.put_component(&mut area, number, at, form);
        }
    }
    if requested & (bit::SSE | bit::AVX) != 0 {
        cpu.put_mxcsr(&mut area);
    }
    check_aligned(cpu, op)?;
    let span = translate(cpu, op, standard_len(requested), AccessKind::Write)?;
    let mut old = [0; 8];
    cpu.read_long(span, HEADER, &mut old)?;
    let xstate_bv = (u64::from_le_bytes(old) & !requested) | in_use;
    area.put(HEADER, &xstate_bv.to_le_bytes());
    store(cpu, &area, span);
    Ok(())
}

fn xsaves(cpu: &mut Cpu, op: &Op, pointers: PointerForm) -> Done {
    check_xsave(cpu)?;
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    save_compacted(cpu, op, pointers, cpu.arch.msrs.xss)
}

/// XSAVEC, and with supervisor components XSAVES.
fn save_compacted(cpu: &mut Cpu, op: &Op, pointers: PointerForm, supervisor: u64) -> Done {
    check_xsave(cpu)?;
    let requested = requested(cpu, cpu.arch.xcr0 | supervisor);
    let form = Form::of(cpu, pointers);
    let xstate_bv = requested & cpu.xinuse_with_mxcsr();
    let image = Image { xstate_bv, xcomp_bv: requested | COMPACTED };
    let mut area = Area::new();
    for number in numbers(xstate_bv) {
        if let Some(at) = image.offset(number) {
            cpu.put_component(&mut area, number, at, form);
        }
    }
    if xstate_bv & bit::SSE != 0 {
        cpu.put_mxcsr(&mut area);
    }
    area.put(HEADER, &image.xstate_bv.to_le_bytes());
    area.put(HEADER + 8, &image.xcomp_bv.to_le_bytes());
    check_aligned(cpu, op)?;
    let span = translate(cpu, op, compacted_len(requested), AccessKind::Write)?;
    store(cpu, &area, span);
    Ok(())
}

fn xrstor(cpu: &mut Cpu, op: &Op, pointers: PointerForm) -> Done {
    check_xsave(cpu)?;
    let enabled = cpu.arch.xcr0;
    let image = header(cpu, op, enabled)?;
    restore(cpu, op, pointers, &image, enabled)
}

/// Takes the compacted format alone.
fn xrstors(cpu: &mut Cpu, op: &Op, pointers: PointerForm) -> Done {
    check_xsave(cpu)?;
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    let enabled = cpu.arch.xcr0 | cpu.arch.msrs.xss;
    let image = header(cpu, op, enabled)?;
    if !image.is_compacted() {
        return gp(0);
    }
    restore(cpu, op, pointers, &image, enabled)
}

fn header(cpu: &mut Cpu, op: &Op, enabled: u64) -> Result<Image, Stop> {
    check_aligned(cpu, op)?;
    let span = translate(cpu, op, HEADER + HEADER_LEN, AccessKind::Read)?;
    let mut bytes = [0; HEADER_LEN];
    cpu.read_long(span, HEADER, &mut bytes)?;
    Image::parse(&bytes, enabled).map_or_else(|| gp(0), Ok)
}

/// The rest of XRSTOR and XRSTORS: loads what is there, checks MXCSR, changes registers.
fn restore(cpu: &mut Cpu, op: &Op, pointers: PointerForm, image: &Image, enabled: u64) -> Done {
    let requested = requested(cpu, enabled);
    let form = Form::of(cpu, pointers);
    let mut area = Area::new();
    for number in numbers(requested & image.xstate_bv) {
        if let Some(at) = image.offset(number) {
            form.pieces(number, at).for_each(|piece| area.touch(piece));
        }
    }
    // The standard format loads MXCSR whatever XSTATE_BV says, the compacted one with the
    // registers.
    let loads_mxcsr = if image.is_compacted() {
        requested & image.xstate_bv & bit::SSE != 0
    } else {
        requested & (bit::SSE | bit::AVX) != 0
    };
    if loads_mxcsr {
        area.touch(MXCSR_RANGE);
    }
    let len = image.len(requested);
    load(cpu, op, &mut area, len)?;
    let mxcsr = if loads_mxcsr { area.u32(MXCSR) } else { MXCSR_INIT };
    if mxcsr & !MXCSR_LEGAL != 0 {
        return gp(0);
    }
    if loads_mxcsr || requested & bit::SSE != 0 {
        cpu.fpu.set_u32(MXCSR, mxcsr);
    }
    cpu.restore_components(&area, image, requested, form);
    Ok(())
}

/// Fills the parts of an area from memory.
fn load(cpu: &mut Cpu, op: &Op, area: &mut Area, len: usize) -> Done {
    let span = translate(cpu, op, len, AccessKind::Read)?;
    area.fill(|at, bytes| cpu.read_long(span, at, bytes))
}
