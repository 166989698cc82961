//! Segment registers: MOV, POP, LDS and kin, LLDT, LTR, SLDT, STR, LAR, LSL, VERR, VERW, ARPL.
//!
//! SDM volume 3, "Privilege Level Checking When Accessing Data Segments".

use cpu_defs::{Exception, SegReg, attrib, attrib::system_type, rflags, vector};
use iced_x86::{Instruction, Mnemonic, OpKind};

use super::place::by_size;
use super::system::check_user_store;
use super::undefined;
use crate::cpu::Cpu;
use crate::descriptor::{Descriptor, is_null, selector_fault};
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::state::{Segment, Shadow};
use crate::stop::{Done, Stop, gp, ud};
use crate::withheld::user_stores;

const CS: u8 = SegReg::Cs as u8;
const SS: u8 = SegReg::Ss as u8;
const TR: u8 = SegReg::Tr as u8;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let is_segment = |number: u32| {
        instruction.op_count() > number
            && instruction.op_kind(number) == OpKind::Register
            && instruction.op_register(number).is_segment_register()
    };
    let far_size = op.size;
    Some(match instruction.mnemonic() {
        Mnemonic::Mov if is_segment(0) && op.dst == CS => undefined,
        Mnemonic::Mov if is_segment(0) => mov_to_segment,
        Mnemonic::Mov if is_segment(1) => by_size!(op.size, mov_from_segment),
        Mnemonic::Pop if is_segment(0) => {
            by_size!(instruction.stack_pointer_increment().unsigned_abs(), pop_segment)
        }
        Mnemonic::Lds => load_far_as(op, SegReg::Ds, far_size),
        Mnemonic::Les => load_far_as(op, SegReg::Es, far_size),
        Mnemonic::Lfs => load_far_as(op, SegReg::Fs, far_size),
        Mnemonic::Lgs => load_far_as(op, SegReg::Gs, far_size),
        Mnemonic::Lss => load_far_as(op, SegReg::Ss, far_size),
        Mnemonic::Lldt => lldt,
        Mnemonic::Ltr => ltr,
        Mnemonic::Sldt => store_as(op, SegReg::Ldtr),
        Mnemonic::Str => store_as(op, SegReg::Tr),
        Mnemonic::Lar => by_size!(op.size, lar),
        Mnemonic::Lsl => by_size!(op.size, lsl),
        Mnemonic::Verr => |cpu, op| verify(cpu, op, Descriptor::is_readable),
        Mnemonic::Verw => |cpu, op| verify(cpu, op, Descriptor::is_writable),
        Mnemonic::Arpl => arpl,
        _ => return None,
    })
}

fn load_far_as(op: &mut Op, reg: SegReg, size: u8) -> Handler {
    op.third = reg as u8;
    by_size!(size, load_far)
}

fn store_as(op: &mut Op, reg: SegReg) -> Handler {
    op.src = reg as u8;
    if op.dst_is_memory() {
        return store_system_selector::<u16>;
    }
    by_size!(op.size, store_system_selector)
}

impl Cpu {
    /// Loads ES, SS, DS, FS or GS.
    pub(super) fn load_segment(&mut self, reg: u8, selector: u16) -> Done {
        let index = usize::from(reg & 7);
        if !self.mode.has_descriptors() {
            self.arch.seg[index] = self.real_segment(self.arch.seg[index], selector);
        } else if reg == SS {
            self.arch.seg[index] = self.stack_segment(selector, self.arch.cpl, vector::GP, 0)?;
        } else {
            self.arch.seg[index] =
                self.data_segment(self.arch.seg[index], selector, vector::GP, 0)?;
        }
        self.refresh();
        Ok(())
    }

    /// A segment as real or virtual-8086 mode loads it.
    pub(super) fn real_segment(&self, old: Segment, selector: u16) -> Segment {
        let loaded = old.with_real_selector(selector);
        if self.mode.v86 { Segment { limit: 0xFFFF, attrib: 0xF3, ..loaded } } else { loaded }
    }

    /// A data segment. Failures raise `vector` with the selector (but #NP where it is not present).
    pub(super) fn data_segment(
        &mut self,
        old: Segment,
        selector: u16,
        vector: u8,
        ext: u32,
    ) -> Result<Segment, Stop> {
        if is_null(selector) {
            let base = if self.features.null_keeps_base { old.base } else { 0 };
            return Ok(Segment { selector, base, unusable: true, ..old });
        }
        let descriptor = self.descriptor(selector, vector, ext)?;
        let rpl = selector as u8 & 3;
        let outside = rpl > descriptor.dpl() || self.arch.cpl > descriptor.dpl();
        if !descriptor.is_readable() || (outside && !descriptor.is_conforming()) {
            return Err(selector_fault(vector, selector, ext));
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::NP, selector, ext));
        }
        Ok(self.mark_accessed(descriptor)?.segment(selector))
    }

    /// A stack segment for privilege level `level`. Failures raise `vector` with the selector
    /// (but #SS where it is not present).
    pub(super) fn stack_segment(
        &mut self,
        selector: u16,
        level: u8,
        vector: u8,
        ext: u32,
    ) -> Result<Segment, Stop> {
        if is_null(selector) {
            if self.mode.code64 && level < 3 && selector as u8 & 3 == level {
                return Ok(null_stack(level));
            }
            return Err(Stop::Fault(Exception::with_code(vector, ext)));
        }
        let descriptor = self.descriptor(selector, vector, ext)?;
        let levels = selector as u8 & 3 == level && descriptor.dpl() == level;
        if !levels || !descriptor.is_writable() {
            return Err(selector_fault(vector, selector, ext));
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::SS, selector, ext));
        }
        Ok(self.mark_accessed(descriptor)?.segment(selector))
    }

    /// The operand of LAR, LSL, VERR and VERW: a descriptor that this privilege may see.
    fn visible_descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Stop> {
        if is_null(selector) {
            return Ok(None);
        }
        let Some(descriptor) = self.find_descriptor(selector)? else {
            return Ok(None);
        };
        let level = self.arch.cpl.max(selector as u8 & 3);
        let visible = descriptor.is_conforming() || level <= descriptor.dpl();
        Ok(visible.then_some(descriptor))
    }

    fn set_zero(&mut self, zero: bool) {
        self.arch.rflags &= !rflags::ZF;
        if zero {
            self.arch.rflags |= rflags::ZF;
        }
    }
}

/// SS after a switch to `level` in long mode: null, with the level as RPL.
pub(super) fn null_stack(level: u8) -> Segment {
    let dpl = u16::from(level) << attrib::DPL_SHIFT;
    Segment {
        selector: u16::from(level),
        attrib: 0x4093 | dpl,
        unusable: true,
        limit: 0xFFFF_FFFF,
        base: 0,
    }
}

fn mov_to_segment(cpu: &mut Cpu, op: &Op) -> Done {
    if op.dst > SegReg::Gs as u8 {
        return ud();
    }
    let selector = cpu.load::<u16>(op, op.src)?;
    cpu.load_segment(op.dst, selector)?;
    if op.dst == SS {
        cpu.arch.shadow = Shadow::MovSs;
    }
    Ok(())
}

/// To memory always 16 bits; a wider register gets zeros above.
fn mov_from_segment<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let selector = cpu.arch.seg[usize::from(op.src & 7)].selector;
    if op.dst_is_memory() {
        return cpu.store(op, op.dst, selector);
    }
    cpu.set(op.dst, T::from_u64(u64::from(selector)));
    Ok(())
}

fn pop_segment<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    // The whole operand is read, though only its low half counts.
    let selector = cpu.stack_read::<T>(0)?.to_u64() as u16;
    let after = cpu.stack_pointer().wrapping_add(T::SIZE as u64);
    // The width of the old stack segment counts.
    let mask = cpu.mode.stack_mask;
    cpu.load_segment(op.dst, selector)?;
    cpu.set_address_register(cpu_defs::Gpr::Rsp, mask, after & mask);
    if op.dst == SS {
        cpu.arch.shadow = Shadow::MovSs;
    }
    Ok(())
}

fn load_far<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let (selector, offset) = cpu.load_far_pointer::<T>(op)?;
    cpu.load_segment(op.third, selector)?;
    cpu.set(op.dst, T::from_u64(offset));
    Ok(())
}

fn lldt(cpu: &mut Cpu, op: &Op) -> Done {
    check_system(cpu)?;
    cpu.serialize();
    let selector = cpu.load::<u16>(op, op.dst)?;
    let ldtr = SegReg::Ldtr as usize;
    if is_null(selector) {
        cpu.arch.seg[ldtr] = Segment { selector, unusable: true, ..cpu.arch.seg[ldtr] };
        return Ok(());
    }
    let (descriptor, base) = system_descriptor(cpu, selector, &[system_type::LDT])?;
    cpu.arch.seg[ldtr] = Segment { base, ..descriptor.segment(selector) };
    Ok(())
}

fn ltr(cpu: &mut Cpu, op: &Op) -> Done {
    check_system(cpu)?;
    cpu.serialize();
    let selector = cpu.load::<u16>(op, op.dst)?;
    if is_null(selector) {
        return gp(0);
    }
    let legal: &[u8] = if cpu.mode.long {
        &[system_type::TSS_AVAILABLE]
    } else {
        &[system_type::TSS_AVAILABLE, system_type::TSS16_AVAILABLE]
    };
    let (descriptor, base) = system_descriptor(cpu, selector, legal)?;
    let descriptor = cpu.mark_busy(descriptor)?;
    cpu.arch.seg[SegReg::Tr as usize] = Segment { base, ..descriptor.segment(selector) };
    Ok(())
}

/// #UD where selectors name no descriptors, #GP(0) outside ring 0.
fn check_system(cpu: &Cpu) -> Done {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    if cpu.arch.cpl != 0 { gp(0) } else { Ok(()) }
}

/// A present GDT descriptor of one of these types, with its base (64 bits in long mode).
fn system_descriptor(
    cpu: &mut Cpu,
    selector: u16,
    legal: &[u8],
) -> Result<(Descriptor, u64), Stop> {
    if selector & 4 != 0 {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    let descriptor = cpu.descriptor(selector, vector::GP, 0)?;
    if !descriptor.is_system() || !legal.contains(&descriptor.kind()) {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    if !descriptor.is_present() {
        return Err(selector_fault(vector::NP, selector, 0));
    }
    let upper = if cpu.mode.long { cpu.wide_descriptor_upper(selector)? << 32 } else { 0 };
    let base = descriptor.base() | upper;
    if cpu.mode.long && !cpu.is_canonical_base(base) {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    Ok((descriptor, base))
}

fn store_system_selector<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    check_user_store(cpu, if op.src == TR { user_stores::STR } else { user_stores::SLDT })?;
    let selector = cpu.arch.seg[usize::from(op.src & 7)].selector;
    cpu.store(op, op.dst, T::from_u64(u64::from(selector)))
}

fn lar<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let legal = |kind: u8, long: bool| match kind {
        system_type::LDT
        | system_type::TSS_AVAILABLE
        | system_type::TSS_BUSY
        | system_type::CALL_GATE => true,
        system_type::TSS16_AVAILABLE
        | system_type::TSS16_BUSY
        | system_type::CALL_GATE16
        | system_type::TASK_GATE => !long,
        _ => false,
    };
    let Some(descriptor) = inspected(cpu, op, legal)? else {
        return Ok(());
    };
    cpu.set(op.dst, T::from_u64(descriptor.rights()));
    Ok(())
}

fn lsl<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let legal = |kind: u8, long: bool| match kind {
        system_type::LDT | system_type::TSS_AVAILABLE | system_type::TSS_BUSY => true,
        system_type::TSS16_AVAILABLE | system_type::TSS16_BUSY => !long,
        _ => false,
    };
    let Some(descriptor) = inspected(cpu, op, legal)? else {
        return Ok(());
    };
    cpu.set(op.dst, T::from_u64(u64::from(descriptor.limit())));
    Ok(())
}

/// The descriptor LAR or LSL may show; ZF says whether there is one.
fn inspected(
    cpu: &mut Cpu,
    op: &Op,
    legal: impl Fn(u8, bool) -> bool,
) -> Result<Option<Descriptor>, Stop> {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    let selector = cpu.load::<u16>(op, op.src)?;
    let long = cpu.mode.long;
    let found = cpu
        .visible_descriptor(selector)?
        .filter(|descriptor| !descriptor.is_system() || legal(descriptor.kind(), long));
    cpu.set_zero(found.is_some());
    Ok(found)
}

fn verify(cpu: &mut Cpu, op: &Op, allowed: fn(Descriptor) -> bool) -> Done {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    let selector = cpu.load::<u16>(op, op.dst)?;
    let found = cpu.visible_descriptor(selector)?;
    cpu.set_zero(found.is_some_and(allowed));
    Ok(())
}

fn arpl(cpu: &mut Cpu, op: &Op) -> Done {
    if !cpu.mode.has_descriptors() {
        return ud();
    }
    let wanted = cpu.get::<u16>(op.src) & 3;
    let selector: u16 = cpu.load(op, op.dst)?;
    let raised = selector & 3 < wanted;
    if raised {
        cpu.store(op, op.dst, selector & !3 | wanted)?;
    }
    cpu.set_zero(raised);
    Ok(())
}
