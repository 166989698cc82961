//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE, and the stack itself.
//!
//! The stack pointer is 16, 32 or 64 bits wide by SS.B and the mode. It moves after the access,
//! so that a fault leaves it.

use cpu_defs::Gpr;
use iced_x86::{Instruction, Mnemonic, OpKind};

use super::place::by_size;
use crate::access::SS;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::mode::Rights;
use crate::op::{Handler, IMM, MEM, Op};
use crate::stop::{Done, Stop};

const RSP: u8 = Gpr::Rsp as u8;
const RBP: u8 = Gpr::Rbp as u8;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let size = instruction.stack_pointer_increment().unsigned_abs() as u8;
    let segment_operand = instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_segment_register();
    Some(match instruction.mnemonic() {
        Mnemonic::Push if segment_operand => by_size!(size, push_segment),
        Mnemonic::Push if op.dst == IMM || op.dst == MEM => by_size!(size, push),
        Mnemonic::Push => by_size!(size, push_register),
        Mnemonic::Pop if segment_operand => return None,
        Mnemonic::Pop => {
            if op.dst == MEM && op.base == RSP {
                // The address uses the stack pointer after the increment.
                op.disp = op.disp.wrapping_add(u64::from(size));
            }
            by_size!(size, pop)
        }
        Mnemonic::Pusha => pusha::<u16>,
        Mnemonic::Pushad => pusha::<u32>,
        Mnemonic::Popa => popa::<u16>,
        Mnemonic::Popad => popa::<u32>,
        Mnemonic::Enter => match instruction.code() {
            iced_x86::Code::Enterw_imm16_imm8 => enter::<u16>,
            iced_x86::Code::Enterd_imm16_imm8 => enter::<u32>,
            _ => enter::<u64>,
        },
        Mnemonic::Leave => match instruction.code() {
            iced_x86::Code::Leavew => leave::<u16>,
            iced_x86::Code::Leaved => leave::<u32>,
            _ => leave::<u64>,
        },
        _ => return None,
    })
}

impl Cpu {
    /// The stack pointer, cut to its width.
    #[inline(always)]
    pub(super) fn stack_pointer(&self) -> u64 {
        self.arch.gpr(Gpr::Rsp) & self.mode.stack_mask
    }

    /// Sets the stack pointer in its width; a 16-bit one keeps the upper bits of ESP.
    #[inline(always)]
    pub(super) fn set_stack_pointer(&mut self, value: u64) {
        let mask = self.mode.stack_mask;
        let kept = if mask == 0xFFFF { self.arch.gpr(Gpr::Rsp) & !mask } else { 0 };
        self.arch.set_gpr(Gpr::Rsp, kept | (value & mask));
    }

    /// Pushes one value.
    #[inline(always)]
    pub(super) fn push<T: Int>(&mut self, value: T) -> Done {
        let at = self.stack_pointer().wrapping_sub(T::SIZE as u64) & self.mode.stack_mask;
        self.write(SS, at, value)?;
        self.set_stack_pointer(at);
        Ok(())
    }

    /// Checks that `count` pushes of `size` bytes succeed.
    pub(super) fn probe_pushes(&mut self, size: usize, count: usize) -> Done {
        let mut at = self.stack_pointer();
        for _ in 0..count {
            at = at.wrapping_sub(size as u64) & self.mode.stack_mask;
            self.probe_write(SS, at, size)?;
        }
        Ok(())
    }

    /// Reads from the stack, `depth` bytes above its top.
    #[inline(always)]
    pub(super) fn stack_read<T: Int>(&mut self, depth: u64) -> Result<T, Stop> {
        let at = self.stack_pointer().wrapping_add(depth) & self.mode.stack_mask;
        self.read(SS, at)
    }

    /// Moves the stack pointer up.
    #[inline(always)]
    pub(super) fn release_stack(&mut self, bytes: u64) {
        self.set_stack_pointer(self.stack_pointer().wrapping_add(bytes));
    }

    /// Pops one value.
    pub(super) fn pop<T: Int>(&mut self) -> Result<T, Stop> {
        let value = self.stack_read(0)?;
        self.release_stack(T::SIZE as u64);
        Ok(value)
    }

    /// Writes CX, ECX or RCX by the address size.
    #[inline(always)]
    pub(super) fn set_counter(&mut self, address_mask: u64, value: u64) {
        self.set_address_register(Gpr::Rcx, address_mask, value);
    }

    /// Writes a register in the width of the address size.
    #[inline(always)]
    pub(super) fn set_address_register(&mut self, gpr: Gpr, address_mask: u64, value: u64) {
        match address_mask {
            0xFFFF => self.set(gpr as u8, value as u16),
            0xFFFF_FFFF => self.set(gpr as u8, value as u32),
            _ => self.set(gpr as u8, value),
        }
    }
}

fn push_register<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.push(cpu.get::<T>(op.dst))
}

fn push<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.load::<T>(op, op.dst)?;
    cpu.push(value)
}

/// Intel pushes a selector as 16 bits even where the stack moves by four; AMD zero-extends it.
fn push_segment<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let selector = cpu.arch.seg[usize::from(op.dst & 7)].selector;
    if T::SIZE == 8 || cpu.features.amd {
        return cpu.push(T::from_u64(u64::from(selector)));
    }
    let at = cpu.stack_pointer().wrapping_sub(T::SIZE as u64) & cpu.mode.stack_mask;
    cpu.write(SS, at, selector)?;
    cpu.set_stack_pointer(at);
    Ok(())
}

fn pop<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let value = cpu.stack_read::<T>(0)?;
    if op.dst == MEM {
        cpu.store(op, MEM, value)?;
        cpu.release_stack(T::SIZE as u64);
    } else {
        cpu.release_stack(T::SIZE as u64);
        cpu.set(op.dst, value);
    }
    Ok(())
}

fn pusha<T: Int>(cpu: &mut Cpu, _: &Op) -> Done {
    cpu.undoing(|cpu| {
        cpu.probe_pushes(T::SIZE, 8)?;
        let saved: [T; 8] = std::array::from_fn(|number| cpu.get(number as u8));
        saved.into_iter().try_for_each(|value| cpu.push(value))
    })
}

fn popa<T: Int>(cpu: &mut Cpu, _: &Op) -> Done {
    cpu.undoing(|cpu| {
        for number in (0..8).rev() {
            let value = cpu.pop::<T>()?;
            if number != RSP {
                cpu.set(number, value);
            }
        }
        Ok(())
    })
}

/// Nesting levels above zero copy the frame pointers of the enclosing procedures.
fn enter<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let level = op.src & 31;
    let mask = cpu.mode.stack_mask;
    let size = T::SIZE as u64;
    let pushes = if level == 0 { 1 } else { u64::from(level) + 1 };
    let top = cpu.stack_pointer().wrapping_sub(pushes * size).wrapping_sub(op.imm);
    let outer = |depth: u8| cpu.arch.gpr(Gpr::Rbp).wrapping_sub(u64::from(depth) * size) & mask;
    let outer: [u64; 32] = std::array::from_fn(|depth| outer(depth as u8));
    let copied = outer.get(1..usize::from(level)).unwrap_or_default();
    cpu.probe_pushes(T::SIZE, pushes as usize)?;
    copied.iter().try_for_each(|&at| cpu.probe_read(SS, at, T::SIZE))?;
    // The new frame must be writable and aligned, as a push there would find out.
    let gla = cpu.linear(SS, top & mask, size, Rights::WRITE)?;
    cpu.check_alignment(SS, gla, T::SIZE, size)?;
    cpu.probe_write(SS, top & mask, T::SIZE)?;
    cpu.undoing(|cpu| {
        cpu.push(cpu.get::<T>(RBP))?;
        let frame = cpu.arch.gpr(Gpr::Rsp);
        for &at in copied {
            let value: T = cpu.read(SS, at)?;
            cpu.push(value)?;
        }
        if level > 0 {
            cpu.push(T::from_u64(frame))?;
        }
        cpu.set_stack_pointer(top);
        cpu.set(RBP, T::from_u64(frame));
        Ok(())
    })
}

fn leave<T: Int>(cpu: &mut Cpu, _: &Op) -> Done {
    let frame = cpu.arch.gpr(Gpr::Rbp) & cpu.mode.stack_mask;
    let value: T = cpu.read(SS, frame)?;
    cpu.set_stack_pointer(frame.wrapping_add(T::SIZE as u64));
    cpu.set(RBP, value);
    Ok(())
}
