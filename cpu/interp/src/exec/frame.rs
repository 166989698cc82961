//! Stack frames of far transfers, and the segments that change with them.

use cpu_defs::{Exception, SegReg, attrib, vector};

use super::segment::null_stack;
use crate::cpu::Cpu;
use crate::descriptor::{Descriptor, is_null, selector_fault};
use crate::state::Segment;
use crate::stop::{Done, Stop, gp};

impl Cpu {
    /// Pushes 2, 4 or 8 bytes.
    pub(super) fn push_sized(&mut self, size: u8, value: u64) -> Done {
        match size {
            2 => self.push(value as u16),
            4 => self.push(value as u32),
            _ => self.push(value),
        }
    }

    /// Pushes all of a frame, the first value to the highest address, or nothing: `check` is asked
    /// in between, when it is known that the stack holds the frame.
    pub(super) fn push_frame(
        &mut self,
        size: u8,
        values: &[u64],
        check: impl FnOnce(&mut Self) -> Done,
    ) -> Done {
        self.probe_pushes(usize::from(size), values.len())?;
        check(self)?;
        values.iter().try_for_each(|&value| self.push_sized(size, value))
    }

    /// Checks a target in a code segment that is about to be loaded, and marks that accessed.
    pub(super) fn check_entry(&mut self, code: Descriptor, rip: u64) -> Done {
        let code64 = self.mode.long && code.attrib() & attrib::L != 0;
        let legal =
            if code64 { self.mode.is_canonical(rip) } else { rip <= u64::from(code.limit()) };
        if !legal {
            return gp(0);
        }
        self.mark_accessed(code).map(|_| ())
    }

    /// The segment and target of a far transfer without descriptors, checked.
    pub(super) fn real_code(&self, selector: u16, rip: u64) -> Result<Segment, Stop> {
        let segment = self.real_segment(*self.arch.segment(SegReg::Cs), selector);
        if rip > u64::from(segment.limit) { gp(0) } else { Ok(segment) }
    }

    /// Goes there.
    pub(super) fn enter_real(&mut self, segment: Segment, rip: u64) {
        self.arch.seg[SegReg::Cs as usize] = segment;
        self.arch.set_rip(rip);
        self.refresh();
    }

    /// Pops 2, 4 or 8 bytes.
    pub(super) fn pop_sized(&mut self, size: u8) -> Result<u64, Stop> {
        match size {
            2 => Ok(u64::from(self.pop::<u16>()?)),
            4 => Ok(u64::from(self.pop::<u32>()?)),
            _ => self.pop::<u64>(),
        }
    }

    /// Goes to a stack and the privilege level it is for.
    pub(super) fn switch_stack(&mut self, level: u8, segment: Segment, pointer: u64) {
        self.arch.seg[SegReg::Ss as usize] = segment;
        self.arch.cpl = level;
        self.refresh_code_and_stack();
        self.set_stack_pointer(pointer);
    }

    /// Loads CS from a checked descriptor, with `level` as CPL.
    pub(super) fn load_code_segment(
        &mut self,
        descriptor: Descriptor,
        selector: u16,
        level: u8,
    ) -> Done {
        let segment = self.mark_accessed(descriptor)?.segment(selector & !3 | u16::from(level));
        self.arch.seg[SegReg::Cs as usize] = segment;
        self.arch.cpl = level;
        self.refresh_code_and_stack();
        Ok(())
    }

    /// Sets RIP in the code segment just loaded; #GP(0) beyond its limit.
    pub(super) fn enter_code(&mut self, rip: u64) -> Done {
        let legal = if self.mode.code64 {
            self.mode.is_canonical(rip)
        } else {
            rip <= u64::from(self.arch.segment(SegReg::Cs).limit)
        };
        if !legal {
            return gp(0);
        }
        self.arch.set_rip(rip);
        Ok(())
    }

    /// In long mode a code segment cannot be both 64-bit and 32-bit.
    pub(super) fn check_code_size(&self, descriptor: Descriptor, selector: u16, ext: u32) -> Done {
        let both = attrib::L | attrib::DB;
        if self.mode.long && descriptor.attrib() & both == both {
            return Err(selector_fault(vector::GP, selector, ext));
        }
        Ok(())
    }

    /// The code segment that a far return or IRET names.
    pub(super) fn return_code_segment(&mut self, selector: u16) -> Result<Descriptor, Stop> {
        if is_null(selector) {
            return gp(0);
        }
        let descriptor = self.descriptor(selector, vector::GP, 0)?;
        let rpl = selector as u8 & 3;
        let level_fits = if descriptor.is_conforming() {
            descriptor.dpl() <= rpl
        } else {
            descriptor.dpl() == rpl
        };
        if !descriptor.is_code() || rpl < self.arch.cpl || !level_fits {
            return Err(selector_fault(vector::GP, selector, 0));
        }
        self.check_code_size(descriptor, selector, 0)?;
        if !descriptor.is_present() {
            return Err(selector_fault(vector::NP, selector, 0));
        }
        Ok(descriptor)
    }

    /// The stack segment that a far return or IRET to `code` at `level` names. It may be null
    /// where the code returned to is 64-bit and not of ring 3.
    pub(super) fn return_stack_segment(
        &mut self,
        selector: u16,
        code: Descriptor,
        level: u8,
    ) -> Result<Segment, Stop> {
        if !is_null(selector) {
            return self.stack_segment(selector, level, vector::GP, 0);
        }
        let code64 = self.mode.long && code.attrib() & attrib::L != 0;
        if !code64 || level == 3 || selector as u8 & 3 != level {
            return gp(0);
        }
        Ok(null_stack(level))
    }

    /// After a return to a lower privilege: data segments it may not use become null.
    pub(super) fn drop_privileged_segments(&mut self) {
        let mut dropped = false;
        for reg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            let segment = &mut self.arch.seg[reg as usize];
            let conforming = segment.attrib & (attrib::CODE | attrib::DOWN_CONFORMING)
                == attrib::CODE | attrib::DOWN_CONFORMING;
            if !segment.unusable && !conforming && segment.dpl() < self.arch.cpl {
                *segment = Segment { selector: 0, unusable: true, ..*segment };
                dropped = true;
            }
        }
        if dropped {
            self.refresh();
        }
    }
}

/// Sets the EXT bit in an error code of zero: an event was being delivered.
pub(super) fn with_ext(stop: Stop, ext: u32) -> Stop {
    match stop {
        Stop::Fault(Exception {
            vector: vector @ (vector::SS | vector::GP | vector::AC),
            error_code: Some(0),
            ..
        }) => Stop::Fault(Exception::with_code(vector, ext)),
        other => other,
    }
}

/// A stack violation on the stack of another privilege level names its segment.
pub(super) fn on_new_stack(stop: Stop, selector: u16, ext: u32) -> Stop {
    match stop {
        Stop::Fault(Exception { vector: vector::SS, error_code: Some(0), .. }) => {
            selector_fault(vector::SS, selector, ext)
        }
        other => other,
    }
}
