//! CLC, STC, CMC, CLD, STD, CLI, STI, CLAC, STAC, LAHF, SAHF, PUSHF, POPF, SALC.
//!
//! IF and IOPL obey the privilege rules of SDM volume 2, "POPF" and "CLI".

use cpu_alu::Condition;
use cpu_defs::{Gpr, rflags};
use iced_x86::{Instruction, Mnemonic};

use super::virtual_interrupts::InterruptFlag;
use crate::cpu::Cpu;
use crate::int::{HIGH_BYTE, Int};
use crate::op::{Handler, Op};
use crate::state::Shadow;
use crate::stop::{Done, gp, ud};

const AH: u8 = HIGH_BYTE;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Clc => |cpu, _| clear(cpu, rflags::CF),
        Mnemonic::Stc => |cpu, _| set(cpu, rflags::CF),
        Mnemonic::Cld => |cpu, _| clear(cpu, rflags::DF),
        Mnemonic::Std => |cpu, _| set(cpu, rflags::DF),
        Mnemonic::Cmc => |cpu, _| {
            cpu.arch.rflags ^= rflags::CF;
            Ok(())
        },
        Mnemonic::Cli => cli,
        Mnemonic::Sti => sti,
        Mnemonic::Clac => |cpu, _| set_alignment_check(cpu, 0),
        Mnemonic::Stac => |cpu, _| set_alignment_check(cpu, rflags::AC),
        Mnemonic::Lahf => lahf,
        Mnemonic::Sahf => sahf,
        Mnemonic::Salc => salc,
        Mnemonic::Pushf => pushf::<u16>,
        Mnemonic::Pushfd => pushf::<u32>,
        Mnemonic::Pushfq => pushf::<u64>,
        Mnemonic::Popf => popf::<u16>,
        Mnemonic::Popfd => popf::<u32>,
        Mnemonic::Popfq => popf::<u64>,
        _ => return None,
    })
}

impl Cpu {
    /// RFLAGS.IOPL.
    pub(super) fn iopl(&self) -> u8 {
        ((self.arch.rflags & rflags::IOPL) >> rflags::IOPL_SHIFT) as u8
    }

    /// Replaces the bits of RFLAGS in `mask`, and asks for attention where that may let an
    /// interrupt in.
    pub(super) fn set_rflags(&mut self, value: u64, mask: u64) {
        let mask = mask & rflags::DEFINED & !rflags::FIXED_ONE;
        let before = self.arch.rflags;
        self.arch.rflags = (before & !mask) | (value & mask);
        if self.arch.rflags & !before & rflags::IF != 0 && self.watch_interrupt_flag {
            self.attention = true;
        }
        if (self.arch.rflags ^ before) & rflags::AC != 0 {
            self.refresh();
        }
    }

    /// The bits that POPF and IRET may change at this privilege.
    pub(super) fn writable_rflags(&self) -> u64 {
        let mut mask =
            rflags::STATUS | rflags::TF | rflags::DF | rflags::NT | rflags::AC | rflags::ID;
        if self.arch.cpl == 0 {
            mask |= rflags::IOPL;
        }
        if self.arch.cpl <= self.iopl() {
            mask |= rflags::IF;
        }
        mask
    }
}

fn clear(cpu: &mut Cpu, bit: u64) -> Done {
    cpu.arch.rflags &= !bit;
    Ok(())
}

fn set(cpu: &mut Cpu, bit: u64) -> Done {
    cpu.arch.rflags |= bit;
    Ok(())
}

fn cli(cpu: &mut Cpu, _: &Op) -> Done {
    match cpu.interrupt_flag() {
        InterruptFlag::Real => clear(cpu, rflags::IF),
        InterruptFlag::Virtual => clear(cpu, rflags::VIF),
        InterruptFlag::Refused => gp(0),
    }
}

fn sti(cpu: &mut Cpu, _: &Op) -> Done {
    match cpu.interrupt_flag() {
        InterruptFlag::Virtual if cpu.arch.rflags & rflags::VIP == 0 => set(cpu, rflags::VIF),
        InterruptFlag::Virtual | InterruptFlag::Refused => gp(0),
        InterruptFlag::Real => {
            if cpu.arch.rflags & rflags::IF == 0 {
                cpu.arch.rflags |= rflags::IF;
                cpu.arch.shadow = Shadow::Sti;
            }
            Ok(())
        }
    }
}

/// CLAC and STAC: #UD outside CPL 0, in virtual-8086 mode as well.
fn set_alignment_check(cpu: &mut Cpu, value: u64) -> Done {
    if cpu.arch.cpl != 0 {
        return ud();
    }
    cpu.set_rflags(value, rflags::AC);
    Ok(())
}

fn lahf(cpu: &mut Cpu, _: &Op) -> Done {
    let flags = (cpu.status() as u8) & 0xD5 | 2;
    cpu.set(AH, flags);
    Ok(())
}

fn sahf(cpu: &mut Cpu, _: &Op) -> Done {
    let loaded = u64::from(cpu.get::<u8>(AH));
    cpu.set_rflags(loaded, rflags::STATUS & !rflags::OF);
    Ok(())
}

fn salc(cpu: &mut Cpu, _: &Op) -> Done {
    let carry = Condition::B.holds(cpu.status());
    cpu.set(Gpr::Rax as u8, if carry { 0xFF_u8 } else { 0 });
    Ok(())
}

fn pushf<T: Int>(cpu: &mut Cpu, _: &Op) -> Done {
    let flags = match cpu.stacked_interrupt_flag(T::SIZE as u8) {
        InterruptFlag::Real => cpu.arch.rflags,
        InterruptFlag::Virtual => cpu.virtual_flags(),
        InterruptFlag::Refused => return gp(0),
    };
    cpu.push(T::from_u64(flags & !(rflags::VM | rflags::RF)))
}

fn popf<T: Int>(cpu: &mut Cpu, _: &Op) -> Done {
    let flag = cpu.stacked_interrupt_flag(T::SIZE as u8);
    if flag == InterruptFlag::Refused {
        return gp(0);
    }
    let value = cpu.stack_read::<T>(0)?.to_u64();
    if flag == InterruptFlag::Virtual {
        cpu.check_virtual_flags(value)?;
        cpu.load_virtual_flags(value);
    } else {
        let width = if T::SIZE == 2 { 0xFFFF } else { u64::MAX };
        cpu.set_rflags(value, cpu.writable_rflags() & width);
    }
    cpu.release_stack(T::SIZE as u64);
    Ok(())
}
