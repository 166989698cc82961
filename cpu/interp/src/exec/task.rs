//! Hardware task switches: through TSS descriptors and task gates by JMP, CALL and events, and back
//! by IRET.
//!
//! SDM volume 3, "Task Management". All that can fail in the context of the old task is tried before
//! the first change: descriptor and limit checks, reads of both TSSs, write access to them and to
//! their descriptors. From then on the registers are those of the new task
//! ([`Cpu::task_switched`]); what its LDT and segment selectors raise is raised in it.

use cpu_defs::{SegReg, attrib, attrib::system_type, cr0, dr6, dr7, rflags, vector};

use super::frame::with_ext;
use super::tss::{Format, Image};
use crate::cpu::Cpu;
use crate::descriptor::{Descriptor, is_null, selector_fault};
use crate::state::{Segment, Shadow};
use crate::stop::{Done, Stop};

/// What starts a task switch; decides about busy bits, the back link and NT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// JMP: the old task is left for good.
    Jump,
    /// CALL or an event: the new task is nested in the old one.
    Nested,
    /// IRET with NT set: back along the link.
    Return,
}

/// A checked new task.
#[derive(Clone, Copy)]
pub(super) struct Task {
    selector: u16,
    descriptor: Descriptor,
}

impl Cpu {
    /// JMP or CALL to a TSS descriptor or task gate, itself checked for privilege and presence.
    pub(super) fn far_to_task(&mut self, target: Descriptor, selector: u16, how: Switch) -> Done {
        let selector =
            if target.kind() == system_type::TASK_GATE { target.gate_selector() } else { selector };
        let task = self.task(selector, how, 0)?;
        self.switch_task(task, how, 0, None)
    }

    /// An event through a task gate. The error code goes to the new task's stack.
    pub(super) fn event_to_task(
        &mut self,
        gate: Descriptor,
        ext: u32,
        error_code: Option<u32>,
    ) -> Done {
        let task = self.task(gate.gate_selector(), Switch::Nested, ext)?;
        self.switch_task(task, Switch::Nested, ext, error_code)
    }

    /// IRET with NT set: to the task the back link names.
    pub(super) fn return_to_task(&mut self) -> Done {
        let link = self.read_system(self.arch.segment(SegReg::Tr).base)?;
        let task = self.task(link, Switch::Return, 0)?;
        self.switch_task(task, Switch::Return, 0, None)
    }

    /// The task a TSS selector names: available, or busy for a return.
    fn task(&mut self, selector: u16, how: Switch, ext: u32) -> Result<Task, Stop> {
        let vector = if how == Switch::Return { vector::TS } else { vector::GP };
        if selector & 4 != 0 || is_null(selector) {
            return Err(selector_fault(vector, selector, ext));
        }
        let descriptor = self.descriptor(selector, vector, ext)?;
        let busy = matches!(descriptor.kind(), system_type::TSS_BUSY | system_type::TSS16_BUSY);
        let free =
            matches!(descriptor.kind(), system_type::TSS_AVAILABLE | system_type::TSS16_AVAILABLE);
        let fits = if how == Switch::Return { busy } else { free };
        if !descriptor.is_system() || !fits {
            return Err(selector_fault(vector, selector, ext));
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::NP, selector, ext));
        }
        Ok(Task { selector, descriptor })
    }

    fn switch_task(&mut self, task: Task, how: Switch, ext: u32, error_code: Option<u32>) -> Done {
        let segment = task.descriptor.segment(task.selector);
        let format = Format::of(&segment);
        if segment.limit < format.last {
            return Err(selector_fault(vector::TS, task.selector, ext));
        }
        let old = *self.arch.segment(SegReg::Tr);
        self.check_old_tss(&old, ext)?;
        let image = format.read(self, segment.base)?;
        self.leave_task(&old, task, how)?;
        // The commit point: nothing below is undone.
        let descriptor =
            if how == Switch::Return { task.descriptor } else { self.mark_busy(task.descriptor)? };
        self.arch.seg[SegReg::Tr as usize] = descriptor.segment(task.selector);
        self.task_switched = true;
        self.enter_task(&image, how, ext)?;
        if let Some(code) = error_code {
            self.push_sized(format.word, u64::from(code)).map_err(|stop| with_ext(stop, ext))?;
        }
        self.enter_code(image.rip).map_err(|stop| with_ext(stop, ext))?;
        if image.trap {
            self.raise_debug_trap(dr6::BT);
        }
        self.task_switched = false;
        Ok(())
    }

    /// The old TSS must have room for the state, and be writable.
    fn check_old_tss(&mut self, old: &Segment, ext: u32) -> Done {
        let format = Format::of(old);
        if old.unusable || old.limit < format.last_saved() {
            return Err(selector_fault(vector::TS, old.selector, ext));
        }
        let (first, len) = format.saved();
        self.probe_system_write(old.base.wrapping_add(first), len)
    }

    /// Saves the state of the old task and makes the links. Every write is probed before.
    fn leave_task(&mut self, old: &Segment, task: Task, how: Switch) -> Done {
        let new_base = task.descriptor.base();
        if how == Switch::Nested {
            self.probe_system_write(new_base, 2)?;
        }
        if how != Switch::Return {
            self.probe_system_write(task.descriptor.type_at(), 1)?;
        }
        if how != Switch::Nested {
            self.mark_available(old.selector)?;
        }
        let mut flags = self.arch.rflags;
        if how == Switch::Return {
            flags &= !rflags::NT;
        }
        Format::of(old).save(self, old.base, flags)?;
        if how == Switch::Nested {
            self.write_system(new_base, old.selector)?;
        }
        Ok(())
    }

    /// Loads the registers from the new TSS.
    fn enter_task(&mut self, image: &Image, how: Switch, ext: u32) -> Done {
        self.arch.cr0 |= cr0::TS;
        self.arch.dr7 &= !dr7::LOCAL;
        self.refresh_breakpoints();
        self.arch.shadow = Shadow::None;
        self.inhibit_trap = true;
        self.arch.slots[..8].copy_from_slice(&image.gprs);
        self.arch.set_rip(image.rip);
        let nested = if how == Switch::Nested { rflags::NT } else { 0 };
        self.set_rflags(image.flags | nested, u64::MAX);
        let v86 = image.flags & rflags::VM != 0;
        let level = if v86 { 3 } else { image.selector(SegReg::Cs) as u8 & 3 };
        self.forget_segments(image, level);
        if let Some(cr3) = image.cr3
            && self.arch.cr0 & cr0::PG != 0
        {
            self.write_cr3(cr3)?;
        }
        self.load_task_ldt(image.ldt, ext)?;
        if v86 {
            for reg in SegReg::SREG {
                self.load_segment(reg as u8, image.selector(reg))?;
            }
            return Ok(());
        }
        self.load_task_code(image.selector(SegReg::Cs), ext)?;
        let stack = self.stack_segment(image.selector(SegReg::Ss), level, vector::TS, ext)?;
        self.arch.seg[SegReg::Ss as usize] = stack;
        for reg in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
            let index = reg as usize;
            let old = self.arch.seg[index];
            self.arch.seg[index] = self.data_segment(old, image.selector(reg), vector::TS, ext)?;
        }
        self.refresh();
        Ok(())
    }

    /// The selectors of the new task; nothing can be done with them until they are qualified.
    fn forget_segments(&mut self, image: &Image, level: u8) {
        for reg in SegReg::SREG {
            let old = &mut self.arch.seg[reg as usize];
            *old = Segment { selector: image.selector(reg), unusable: true, ..*old };
        }
        let stack = &mut self.arch.seg[SegReg::Ss as usize];
        stack.attrib =
            stack.attrib & !(3 << attrib::DPL_SHIFT) | u16::from(level) << attrib::DPL_SHIFT;
        let ldtr = &mut self.arch.seg[SegReg::Ldtr as usize];
        *ldtr = Segment { selector: image.ldt, unusable: true, ..*ldtr };
        self.arch.cpl = level;
        self.refresh();
    }

    fn load_task_ldt(&mut self, selector: u16, ext: u32) -> Done {
        if is_null(selector) {
            return Ok(());
        }
        let fault = || selector_fault(vector::TS, selector, ext);
        if selector & 4 != 0 {
            return Err(fault());
        }
        let descriptor = self.descriptor(selector, vector::TS, ext)?;
        let is_ldt = descriptor.is_system() && descriptor.kind() == system_type::LDT;
        if !is_ldt || !descriptor.is_present() {
            return Err(fault());
        }
        self.arch.seg[SegReg::Ldtr as usize] = descriptor.segment(selector);
        Ok(())
    }

    fn load_task_code(&mut self, selector: u16, ext: u32) -> Done {
        let fault = || selector_fault(vector::TS, selector, ext);
        if is_null(selector) {
            return Err(fault());
        }
        let descriptor = self.descriptor(selector, vector::TS, ext)?;
        let rpl = selector as u8 & 3;
        let level_fits = if descriptor.is_conforming() {
            descriptor.dpl() <= rpl
        } else {
            descriptor.dpl() == rpl
        };
        if !descriptor.is_code() || !level_fits {
            return Err(fault());
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::NP, selector, ext));
        }
        self.load_code_segment(descriptor, selector, rpl)
    }

    /// The task that is left can be entered again.
    fn mark_available(&mut self, selector: u16) -> Done {
        let descriptor = self.descriptor_at(self.gdt_entry(selector))?;
        self.mark_free(descriptor)
    }
}
