//! Gathers and scatters: one memory access for each element that a mask chooses.
//!
//! SDM volume 2, "VGATHERDPS" and its relatives. Elements are done from the lowest on; the mask
//! bit of each is cleared when it is done, so that after a fault the instruction goes on where it
//! stopped. Destination, index and mask of a gather must differ (AVX2), destination and index
//! (AVX-512).

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind, Register};

use super::available;
use crate::cpu::Cpu;
use crate::exec::undefined;
use crate::mode::Rights;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop};

/// Where the shape of a gather is in [`Op::imm`].
const INDEX_BYTES: u32 = 8;
const WIDTH: u32 = 16;

/// The shape: elements, bytes of an index, bytes of the destination that stay in use.
struct Shape {
    count: usize,
    index: usize,
    element: usize,
    width: usize,
}

impl Shape {
    fn of(op: &Op) -> Self {
        Shape {
            count: usize::from(op.imm as u8),
            index: usize::from((op.imm >> INDEX_BYTES) as u8),
            element: usize::from(op.size),
            width: usize::from((op.imm >> WIDTH) as u8),
        }
    }
}

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let (index, scatter) = match instruction.mnemonic() {
        M::Vgatherdps | M::Vgatherdpd | M::Vpgatherdd | M::Vpgatherdq => (4, false),
        M::Vgatherqps | M::Vgatherqpd | M::Vpgatherqd | M::Vpgatherqq => (8, false),
        M::Vscatterdps | M::Vscatterdpd | M::Vpscatterdd | M::Vpscatterdq => (4, true),
        M::Vscatterqps | M::Vscatterqpd | M::Vpscatterqd | M::Vpscatterqq => (8, true),
        _ => return None,
    };
    let evex = instruction.encoding() == EncodingKind::EVEX;
    let (data, mask) = match (evex, scatter) {
        (true, true) => (instruction.op1_register(), instruction.op_mask()),
        (true, false) => (instruction.op0_register(), instruction.op_mask()),
        _ => (instruction.op0_register(), instruction.op2_register()),
    };
    let indexes = instruction.memory_index();
    let same = |a: Register, b: Register| a.number() == b.number();
    let coincide = match (evex, scatter) {
        (true, true) => false,
        (true, false) => same(data, indexes),
        _ => same(data, indexes) || same(data, mask) || same(indexes, mask),
    };
    debug_assert!((0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory));
    if coincide || (evex && mask == Register::None) {
        return Some(undefined);
    }
    let element = instruction.memory_size().element_size();
    // The narrower of both limits the number: a register may be half full.
    let count = (data.size() / element).min(indexes.size() / index);
    op.size = element as u8;
    op.dst = data.number() as u8;
    op.third = mask.number() as u8;
    op.index = indexes.number() as u8;
    if instruction.memory_base() == Register::None && instruction.memory_displ_size() == 4 {
        op.address_mask = 0xFFFF_FFFF;
    }
    op.imm = count as u64 | (index as u64) << INDEX_BYTES | ((count * element) as u64) << WIDTH;
    Some(match (evex, scatter) {
        (true, true) => |cpu, op| {
            available::avx512(cpu)?;
            each_chosen(cpu, op, scatter_element, |_, _| {})
        },
        (true, false) => |cpu, op| {
            available::avx512(cpu)?;
            each_chosen(cpu, op, gather_and_clear, |cpu, op| zero_above(cpu, op, op.dst))
        },
        _ => gather_by_signs,
    })
}

/// AVX-512: the mask register is cleared bit by bit, and as a whole at the end.
fn each_chosen(
    cpu: &mut Cpu,
    op: &Op,
    element: fn(&mut Cpu, &Op, usize) -> Done,
    finish: fn(&mut Cpu, &Op),
) -> Done {
    let opmask = usize::from(op.third & 7);
    let (mask, data) = (cpu.fpu.opmask[opmask], cpu.fpu.zmm[usize::from(op.dst & 31)]);
    let done = each_chosen_until_fault(cpu, op, element);
    if done.is_ok() {
        finish(cpu, op);
    }
    let progress = cpu.fpu.opmask[opmask] != mask;
    if leaves_for_device(cpu, done) {
        cpu.fpu.opmask[opmask] = mask;
        cpu.fpu.zmm[usize::from(op.dst & 31)] = data;
        return done;
    }
    fault_or_trap(cpu, op, done, progress)
}

/// With single steps, a fault after an element that was done waits: the step ends before the
/// element that faults.
fn fault_or_trap(cpu: &mut Cpu, op: &Op, done: Done, progress: bool) -> Done {
    if !matches!(done, Err(Stop::Fault(_))) || !progress || !cpu.steps() {
        return done;
    }
    cpu.arch.set_rip(cpu.arch.rip().wrapping_sub(u64::from(op.len)));
    cpu.attention = true;
    Ok(())
}

/// The instruction will run again from its start, and repeat its device accesses: those it has
/// made are answered from the record, or have been dropped.
fn leaves_for_device(cpu: &Cpu, done: Done) -> bool {
    matches!(done, Err(Stop::Exit)) || (done.is_err() && cpu.memory.mmio.has_writes())
}

fn each_chosen_until_fault(
    cpu: &mut Cpu,
    op: &Op,
    element: fn(&mut Cpu, &Op, usize) -> Done,
) -> Done {
    let opmask = usize::from(op.third & 7);
    for number in 0..Shape::of(op).count {
        let bit = 1_u64 << number;
        if cpu.fpu.opmask[opmask] & bit == 0 {
            continue;
        }
        element(cpu, op, number)?;
        cpu.fpu.opmask[opmask] &= !bit;
    }
    cpu.fpu.opmask[opmask] = 0;
    Ok(())
}

/// AVX2: the mask is the sign of each element of a vector register, which ends up zero.
fn gather_by_signs(cpu: &mut Cpu, op: &Op) -> Done {
    available::avx(cpu)?;
    let (data, mask) = (usize::from(op.dst & 31), usize::from(op.third & 31));
    let before = (cpu.fpu.zmm[data], cpu.fpu.zmm[mask]);
    let done = gather_by_signs_until_fault(cpu, op);
    let progress = signs(&cpu.fpu.zmm[mask], op) != signs(&before.1, op);
    if leaves_for_device(cpu, done) {
        (cpu.fpu.zmm[data], cpu.fpu.zmm[mask]) = before;
        return done;
    }
    fault_or_trap(cpu, op, done, progress)
}

/// Which elements the mask chooses.
fn signs(mask: &[u8; 64], op: &Op) -> [bool; 64] {
    let element = Shape::of(op).element.max(1);
    std::array::from_fn(|at| at % element == element - 1 && mask[at] >> 7 != 0)
}

fn gather_by_signs_until_fault(cpu: &mut Cpu, op: &Op) -> Done {
    let shape = Shape::of(op);
    let mask = usize::from(op.third & 31);
    for number in 0..shape.count {
        let place = number * shape.element..(number + 1) * shape.element;
        let sign = cpu.fpu.zmm[mask][place.end - 1] >> 7 != 0;
        if sign {
            gather_element(cpu, op, number)?;
        }
        cpu.fpu.zmm[mask][place].fill(0);
    }
    zero_above(cpu, op, op.dst);
    cpu.fpu.zmm[mask].fill(0);
    Ok(())
}

fn zero_above(cpu: &mut Cpu, op: &Op, register: u8) {
    let width = Shape::of(op).width;
    cpu.fpu.zmm[usize::from(register & 31)][width..].fill(0);
}

/// Linear address of an element.
fn element_address(cpu: &Cpu, op: &Op, number: usize, need: u8) -> Result<u64, Stop> {
    let shape = Shape::of(op);
    let indexes = &cpu.fpu.zmm[usize::from(op.index & 31)];
    let at = number * shape.index;
    let index = match shape.index {
        4 => i64::from(i32::from_le_bytes(std::array::from_fn(|n| indexes[at + n]))),
        _ => i64::from_le_bytes(std::array::from_fn(|n| indexes[at + n])),
    };
    let base = cpu.arch.slots[usize::from(op.base & 31)];
    let scaled = (index as u64) << (op.scale & 3);
    let offset = base.wrapping_add(scaled).wrapping_add(op.disp) & op.address_mask;
    cpu.linear(op.seg, offset, shape.element as u64, need)
}

/// Gathers an element of AVX-512, which clears the destination above the wider of data and indexes.
fn gather_and_clear(cpu: &mut Cpu, op: &Op, number: usize) -> Done {
    gather_element(cpu, op, number)?;
    let shape = Shape::of(op);
    let width = shape.count * shape.index.max(shape.element);
    cpu.fpu.zmm[usize::from(op.dst & 31)][width..].fill(0);
    Ok(())
}

fn gather_element(cpu: &mut Cpu, op: &Op, number: usize) -> Done {
    let gla = element_address(cpu, op, number, Rights::READ)?;
    let mut bytes = [0; 8];
    let bytes = &mut bytes[..usize::from(op.size).min(8)];
    cpu.read_bytes(op.seg, gla, bytes)?;
    let at = number * bytes.len();
    cpu.fpu.zmm[usize::from(op.dst & 31)][at..at + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

fn scatter_element(cpu: &mut Cpu, op: &Op, number: usize) -> Done {
    let gla = element_address(cpu, op, number, Rights::WRITE)?;
    let len = usize::from(op.size).min(8);
    let at = number * len;
    let mut bytes = [0; 8];
    bytes[..len].copy_from_slice(&cpu.fpu.zmm[usize::from(op.dst & 31)][at..at + len]);
    let place = cpu.place(op.seg, gla, len)?;
    cpu.write_place(place, &bytes[..len]);
    Ok(())
}
