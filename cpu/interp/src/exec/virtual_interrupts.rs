//! The virtual interrupt flag: virtual-8086 mode extensions (CR4.VME) and protected-mode virtual
//! interrupts (CR4.PVI).
//!
//! SDM volume 3, "8086 Emulation": "Interrupt and Exception Handling in Virtual-8086 Mode",
//! "Protected-Mode Virtual Interrupts". VIF stands for IF where IOPL denies it; an interrupt that
//! the monitor holds back (VIP) makes setting it #GP(0).

use cpu_defs::{SegReg, cr4, rflags};

use crate::cpu::Cpu;
use crate::stop::{Done, Stop, gp};

/// Bytes of the interrupt redirection bitmap.
const REDIRECTION_BYTES: u32 = 32;

/// What stands for IF in CLI, STI, PUSHF, POPF and IRET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InterruptFlag {
    /// IF itself.
    Real,
    /// VIF.
    Virtual,
    /// Neither: #GP(0).
    Refused,
}

impl Cpu {
    /// For CLI and STI.
    pub(super) fn interrupt_flag(&self) -> InterruptFlag {
        if !self.mode.protected || self.arch.cpl <= self.iopl() {
            return InterruptFlag::Real;
        }
        let bit = if self.mode.v86 { cr4::VME } else { cr4::PVI };
        if self.arch.cpl == 3 && self.arch.cr4 & bit != 0 {
            InterruptFlag::Virtual
        } else {
            InterruptFlag::Refused
        }
    }

    /// For PUSHF, POPF and IRET of an operand size in bytes; outside virtual-8086 mode they need no
    /// permission.
    pub(super) fn stacked_interrupt_flag(&self, size: u8) -> InterruptFlag {
        if !self.mode.v86 || self.iopl() == 3 {
            InterruptFlag::Real
        } else if size == 2 && self.arch.cr4 & cr4::VME != 0 {
            InterruptFlag::Virtual
        } else {
            InterruptFlag::Refused
        }
    }

    /// FLAGS as virtual-8086 code with the virtual flag sees them: IOPL 3, VIF for IF.
    pub(super) fn virtual_flags(&self) -> u64 {
        let visible = (self.arch.rflags | rflags::IOPL) & !rflags::IF;
        if self.arch.rflags & rflags::VIF != 0 { visible | rflags::IF } else { visible }
    }

    /// #GP(0) for FLAGS that virtual-8086 code may not load: TF, or IF while an interrupt is held
    /// back.
    pub(super) fn check_virtual_flags(&self, flags: u64) -> Done {
        let held_back = self.arch.rflags & rflags::VIP != 0 && flags & rflags::IF != 0;
        if held_back || flags & rflags::TF != 0 { gp(0) } else { Ok(()) }
    }

    /// Loads 16 bits of FLAGS that have been checked, IF into VIF.
    pub(super) fn load_virtual_flags(&mut self, flags: u64) {
        let mask = self.writable_rflags() & 0xFFFF & !(rflags::IF | rflags::IOPL);
        self.set_rflags(flags, mask);
        self.set_virtual_interrupt_flag(flags & rflags::IF != 0);
    }

    pub(super) fn set_virtual_interrupt_flag(&mut self, enabled: bool) {
        self.arch.rflags &= !rflags::VIF;
        if enabled {
            self.arch.rflags |= rflags::VIF;
        }
    }

    /// Whether INT n of virtual-8086 code goes to the 8086 program's own handler.
    pub(super) fn redirects(&mut self, vector: u8) -> Result<bool, Stop> {
        if self.arch.cr4 & cr4::VME == 0 {
            return Ok(false);
        }
        // The interrupt redirection bitmap ends where the I/O map begins.
        let (tr, end) = self.io_map()?;
        let at = (u32::from(end) + u32::from(vector / 8)).checked_sub(REDIRECTION_BYTES);
        let Some(at) = at.filter(|&at| at <= tr.limit) else {
            return gp(0);
        };
        let bits: u8 = self.read_system(tr.base.wrapping_add(u64::from(at)))?;
        Ok(bits >> (vector % 8) & 1 == 0)
    }

    /// INT n through the interrupt table of the 8086 program, at linear address 0.
    pub(super) fn redirect(&mut self, vector: u8) -> Done {
        self.undoing(|cpu| {
            let virtual_flag = cpu.iopl() < 3;
            let flags = if virtual_flag { cpu.virtual_flags() } else { cpu.arch.rflags };
            let entry: u32 = cpu.read_system(4 * u64::from(vector))?;
            let (selector, offset) = ((entry >> 16) as u16, u64::from(entry & 0xFFFF));
            let cs = cpu.arch.segment(SegReg::Cs).selector;
            let segment = cpu.real_code(selector, offset)?;
            cpu.push_frame(2, &[flags, u64::from(cs), cpu.arch.rip()], |_| Ok(()))?;
            let masked = if virtual_flag { rflags::VIF } else { rflags::IF };
            cpu.arch.rflags &= !(masked | rflags::TF | rflags::RF);
            cpu.inhibit_trap = true;
            cpu.enter_real(segment, offset);
            Ok(())
        })
    }
}
