//! MOVS, CMPS, SCAS, LODS, STOS. INS and OUTS are in `io`.
//!
//! Every iteration of a repeated instruction commits; a fault, a device access, a trap or an
//! interrupt leaves RIP at the instruction with the registers of the iterations done.

use cpu_alu::arith;
use cpu_defs::{Gpr, rflags};
use cpu_mem::{HostPage, PAGE_SIZE};
use iced_x86::{Code, Instruction};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::mode::Rights;
use crate::op::{Handler, Op, Rep};
use crate::stop::{Done, Stop};

const RAX: u8 = Gpr::Rax as u8;
/// Destination strings are always in ES.
pub(super) const ES: u8 = 0;
/// Iterations after which interrupts get a look.
const BUDGET: u32 = 4096;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.code() {
        Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 | Code::Movsq_m64_m64 => {
            by_size!(op.size, movs)
        }
        Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX | Code::Stosq_m64_RAX => {
            by_size!(op.size, stos)
        }
        Code::Lodsb_AL_m8 | Code::Lodsw_AX_m16 | Code::Lodsd_EAX_m32 | Code::Lodsq_RAX_m64 => {
            by_size!(op.size, lods)
        }
        Code::Scasb_AL_m8 | Code::Scasw_AX_m16 | Code::Scasd_EAX_m32 | Code::Scasq_RAX_m64 => {
            by_size!(op.size, scas)
        }
        Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 | Code::Cmpsq_m64_m64 => {
            by_size!(op.size, cmps)
        }
        _ => return None,
    })
}

impl Cpu {
    /// RSI or RDI in the address size.
    #[inline(always)]
    pub(super) fn string_offset(&self, gpr: Gpr, op: &Op) -> u64 {
        self.arch.gpr(gpr) & op.address_mask
    }

    /// Moves RSI or RDI by `bytes` in the direction of DF.
    #[inline(always)]
    pub(super) fn advance_string(&mut self, gpr: Gpr, op: &Op, bytes: u64) {
        let down = self.arch.rflags & rflags::DF != 0;
        let offset = self.string_offset(gpr, op);
        let moved = if down { offset.wrapping_sub(bytes) } else { offset.wrapping_add(bytes) };
        self.set_address_register(gpr, op.address_mask, moved);
    }

    /// Iterations still to do; one without a prefix.
    pub(super) fn iterations(&self, op: &Op) -> u64 {
        if op.rep == Rep::Once { 1 } else { self.arch.gpr(Gpr::Rcx) & op.address_mask }
    }

    /// Counts `done` iterations. True if some are left.
    pub(super) fn count_iterations(&mut self, op: &Op, done: u64) -> bool {
        if op.rep == Rep::Once {
            return false;
        }
        let left = (self.arch.gpr(Gpr::Rcx) & op.address_mask).wrapping_sub(done);
        self.set_counter(op.address_mask, left);
        left & op.address_mask != 0
    }

    /// Goes back to the start of a string instruction that has iterations left. RF keeps an
    /// instruction breakpoint from firing at each of them; AMD's processors do
    /// not set it in a single-step trap.
    pub(super) fn resume_string(&mut self, op: &Op) {
        let shown = !self.features.amd || self.arch.rflags & rflags::TF == 0;
        if shown {
            self.arch.rflags |= rflags::RF;
        }
        self.arch.set_rip(self.arch.rip().wrapping_sub(u64::from(op.len)));
        self.attention = true;
    }
}

/// Repeats `body`; it returns how many iterations it did. `compares`: ZF ends the loop.
#[inline(always)]
fn repeat(
    cpu: &mut Cpu,
    op: &Op,
    compares: bool,
    body: impl Fn(&mut Cpu, &Op, u64) -> Result<u64, Stop>,
) -> Done {
    let mut left = cpu.iterations(op);
    let budget = if cpu.steps() { 1 } else { BUDGET };
    for _ in 0..budget {
        if left == 0 {
            return Ok(());
        }
        let done = body(cpu, op, left)?;
        left -= done;
        if cpu.memory.mmio.is_active() {
            cpu.memory.mmio.forget_reads();
        }
        if !cpu.count_iterations(op, done) {
            return Ok(());
        }
        if compares {
            let equal = cpu.arch.rflags & rflags::ZF != 0;
            if equal != (op.rep == Rep::WhileEqual) {
                return Ok(());
            }
        }
        if cpu.attention {
            break;
        }
    }
    if left != 0 {
        cpu.resume_string(op);
    }
    Ok(())
}

fn movs<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    repeat(cpu, op, false, |cpu, op, left| {
        if left > 1
            && let Some(done) = copy_run::<T>(cpu, op, left)
        {
            return Ok(done);
        }
        let value: T = cpu.read(op.seg, cpu.string_offset(Gpr::Rsi, op))?;
        cpu.write(ES, cpu.string_offset(Gpr::Rdi, op), value)?;
        cpu.advance_string(Gpr::Rsi, op, T::SIZE as u64);
        cpu.advance_string(Gpr::Rdi, op, T::SIZE as u64);
        Ok(1)
    })
}

fn stos<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    repeat(cpu, op, false, |cpu, op, left| {
        let value = cpu.get::<T>(RAX);
        if left > 1
            && let Some(done) = fill_run(cpu, op, left, value)
        {
            return Ok(done);
        }
        cpu.write(ES, cpu.string_offset(Gpr::Rdi, op), value)?;
        cpu.advance_string(Gpr::Rdi, op, T::SIZE as u64);
        Ok(1)
    })
}

fn lods<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    repeat(cpu, op, false, |cpu, op, _| {
        let value: T = cpu.read(op.seg, cpu.string_offset(Gpr::Rsi, op))?;
        cpu.set(RAX, value);
        cpu.advance_string(Gpr::Rsi, op, T::SIZE as u64);
        Ok(1)
    })
}

fn scas<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    repeat(cpu, op, true, |cpu, op, _| {
        let value: T = cpu.read(ES, cpu.string_offset(Gpr::Rdi, op))?;
        let flags = arith::cmp(cpu.get::<T>(RAX), value);
        cpu.set_status(flags);
        cpu.advance_string(Gpr::Rdi, op, T::SIZE as u64);
        Ok(1)
    })
}

fn cmps<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    repeat(cpu, op, true, |cpu, op, _| {
        let first: T = cpu.read(op.seg, cpu.string_offset(Gpr::Rsi, op))?;
        let second: T = cpu.read(ES, cpu.string_offset(Gpr::Rdi, op))?;
        cpu.set_status(arith::cmp(first, second));
        cpu.advance_string(Gpr::Rsi, op, T::SIZE as u64);
        cpu.advance_string(Gpr::Rdi, op, T::SIZE as u64);
        Ok(1)
    })
}

/// Part of a page that a run of elements may use: the page, the offset in it, whole elements.
struct Run {
    page: HostPage,
    offset: usize,
    elements: u64,
}

/// The run of ascending elements of `size` bytes at an offset in a segment that is one RAM page,
/// if it is in the TLB.
fn run_at(cpu: &Cpu, seg: u8, at: u64, size: usize, limit: u64, store: bool) -> Option<Run> {
    let need = if store { Rights::WRITE } else { Rights::READ };
    let gla = cpu.linear(seg, at, 1, need).ok()?;
    let offset = gla as usize % PAGE_SIZE;
    let elements = limit.min(((PAGE_SIZE - offset) / size) as u64);
    if elements == 0 || cpu.linear(seg, at, elements * size as u64, need).is_err() {
        return None;
    }
    let privilege = cpu.mode.privilege;
    let tlb = &cpu.memory.tlb;
    let page = if store { tlb.write(privilege, gla) } else { tlb.read(privilege, gla) }?;
    Some(Run { page, offset, elements })
}

/// Copies many elements at once. None where that would differ from one by one: descending,
/// overlapping, at device memory, at page ends.
fn copy_run<T: Int>(cpu: &mut Cpu, op: &Op, left: u64) -> Option<u64> {
    if cpu.steps() || cpu.arch.rflags & rflags::DF != 0 {
        return None;
    }
    let (si, di) = (cpu.string_offset(Gpr::Rsi, op), cpu.string_offset(Gpr::Rdi, op));
    let source = run_at(cpu, op.seg, si, T::SIZE, left, false)?;
    let target = run_at(cpu, ES, di, T::SIZE, source.elements, true)?;
    let bytes = target.elements as usize * T::SIZE;
    if wraps(si, bytes, op) || wraps(di, bytes, op) {
        return None;
    }
    let overlap = source.page.same_memory(target.page)
        && target.offset > source.offset
        && target.offset < source.offset + bytes;
    if overlap {
        return None;
    }
    let elements = target.elements as usize;
    source.page.copy_run::<T>(source.offset, target.page, target.offset, elements);
    cpu.advance_string(Gpr::Rsi, op, bytes as u64);
    cpu.advance_string(Gpr::Rdi, op, bytes as u64);
    Some(target.elements)
}

/// Fills many elements at once; see [`copy_run`].
fn fill_run<T: Int>(cpu: &mut Cpu, op: &Op, left: u64, value: T) -> Option<u64> {
    if cpu.steps() || cpu.arch.rflags & rflags::DF != 0 {
        return None;
    }
    let di = cpu.string_offset(Gpr::Rdi, op);
    let target = run_at(cpu, ES, di, T::SIZE, left, true)?;
    let bytes = target.elements as usize * T::SIZE;
    if wraps(di, bytes, op) {
        return None;
    }
    target.page.fill_run(target.offset, value, target.elements as usize);
    cpu.advance_string(Gpr::Rdi, op, bytes as u64);
    Some(target.elements)
}

/// Whether an offset passes the end of its address size within `bytes`.
fn wraps(at: u64, bytes: usize, op: &Op) -> bool {
    at.checked_add(bytes as u64 - 1).is_none_or(|last| last > op.address_mask)
}
