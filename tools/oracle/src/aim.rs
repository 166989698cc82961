//! Makes the memory operand of a case hit the test pages, by changing its base or index register,
//! or its displacement.

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction, OpKind, Register};

use crate::case::{CODE_LEN, Case};
use crate::generate::poke;
use crate::layout::LOCALS;
use crate::random::Random;

/// Aims an explicit memory operand, and puts something interesting where it points.
pub fn at_memory(case: &mut Case, instruction: &Instruction, random: &mut Random) {
    small_counts(case, instruction, random);
    let kinds = (0..instruction.op_count()).map(|number| instruction.op_kind(number));
    if !kinds.into_iter().any(|kind| kind == OpKind::Memory) {
        pokes_at_registers(case, random);
        return;
    }
    let mut target = random.address();
    let wide = instruction.memory_size().size() as u64;
    // Operands that must be aligned mostly are.
    if wide >= 16 && random.chance(60) {
        target &= !(wide.next_power_of_two().min(64) - 1);
    }
    poke(case, target, random);
    poke(case, target.wrapping_add(63), random);
    if random.chance(96) {
        aim(case, instruction, target, random);
    }
}

/// REP and shifts by CL: a count that ends soon.
fn small_counts(case: &mut Case, instruction: &Instruction, random: &mut Random) {
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    if instruction.is_string_instruction() && (repeats || random.chance(30)) {
        // Without single-stepping a long count would fill all pages, and end at a fault: some do.
        case.gpr[1] = if random.chance(90) { random.below(12) } else { random.below(3000) };
    }
}

fn pokes_at_registers(case: &mut Case, random: &mut Random) {
    for number in [3, 4, 5, 6, 7] {
        let address = case.gpr[number];
        if random.chance(50) {
            poke(case, address, random);
        }
    }
}

fn segment_base(case: &Case, instruction: &Instruction) -> u64 {
    let number = match instruction.memory_segment() {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::DS => 3,
        Register::FS => 4,
        _ => 5,
    };
    if case.bits == 64 {
        return match number {
            4 => case.fs_base,
            5 => case.gs_base,
            _ => 0,
        };
    }
    let selector = case.seg[number];
    let local = LOCALS.get(usize::from(selector >> 3)).filter(|_| selector & 4 != 0);
    local.map_or(0, |local| u64::from(local.base))
}

fn aim(case: &mut Case, instruction: &Instruction, target: u64, random: &mut Random) {
    let offset = target.wrapping_sub(segment_base(case, instruction));
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let scale = u64::from(instruction.memory_index_scale());
    let displacement = instruction.memory_displacement64();
    if is_vector(index) {
        aim_lanes(case, instruction, offset, random);
        return;
    }
    if index == Register::None && (base == Register::None || base == Register::RIP) {
        aim_displacement(case, instruction, offset);
        return;
    }
    let index_value = register_value(case, index);
    if let Some(number) = gpr_number(base) {
        // Index first: it should not be so large that the base leaves the canonical range.
        if gpr_number(index).is_some() && index != base && random.chance(80) {
            set_gpr(case, index, random.below(64));
        }
        let index_value = if index == base { 0 } else { register_value(case, index) };
        let value = offset.wrapping_sub(index_value.wrapping_mul(scale)).wrapping_sub(displacement);
        let value = if index == base { value / (1 + scale) } else { value };
        put_gpr(case, base, number, value);
    } else if gpr_number(index).is_some() {
        set_gpr(case, index, offset.wrapping_sub(displacement) / scale);
    } else {
        debug_assert_eq!(index_value, 0);
    }
}

/// Sets the index lanes of a gather or scatter so that base and lanes together hit.
fn aim_lanes(case: &mut Case, instruction: &Instruction, offset: u64, random: &mut Random) {
    let base = instruction.memory_base();
    let displacement = instruction.memory_displacement64();
    if let Some(number) = gpr_number(base) {
        let middle = offset.wrapping_sub(displacement);
        put_gpr(case, base, number, middle);
    }
    let narrow = random.chance(50);
    let near = random.below(4) * 0x100 + 16;
    let zmm = &mut case.fpu.zmm[instruction.memory_index().number() & 31];
    // The same bytes serve as 32-bit and as 64-bit lanes: small, now and then negative.
    for lane in zmm.chunks_exact_mut(if narrow { 4 } else { 8 }) {
        let value = random.below(near) as i64 - if random.chance(30) { near as i64 / 2 } else { 0 };
        lane.copy_from_slice(&value.to_le_bytes()[..lane.len()]);
    }
    if base == Register::None {
        case.fpu.zmm[instruction.memory_index().number() & 31].fill(0);
        aim_displacement(case, instruction, offset);
    }
}

/// Overwrites the displacement in the code.
fn aim_displacement(case: &mut Case, instruction: &Instruction, offset: u64) {
    let code = &case.code[..(case.len as usize).min(CODE_LEN)];
    let decoder = Decoder::with_ip(case.bits, code, case.rip, DecoderOptions::NONE);
    let offsets: ConstantOffsets = decoder.get_constant_offsets(instruction);
    let (at, len) = (offsets.displacement_offset(), offsets.displacement_size());
    let relative = instruction.is_ip_rel_memory_operand();
    let value = offset.wrapping_sub(if relative { instruction.next_ip() } else { 0 });
    if len > 0 && at + len <= CODE_LEN {
        case.code[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }
}

fn is_vector(register: Register) -> bool {
    register.is_vector_register()
}

fn gpr_number(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

fn register_value(case: &Case, register: Register) -> u64 {
    let mask = match register.size() {
        2 => 0xFFFF,
        4 => 0xFFFF_FFFF,
        _ => u64::MAX,
    };
    gpr_number(register).map_or(0, |number| case.gpr[number] & mask)
}

/// Sets a register of any size; the upper part of a narrow one keeps its random value.
fn set_gpr(case: &mut Case, register: Register, value: u64) {
    if let Some(number) = gpr_number(register) {
        put_gpr(case, register, number, value);
    }
}

fn put_gpr(case: &mut Case, register: Register, number: usize, value: u64) {
    let keep = match register.size() {
        2 => !0xFFFF,
        4 => !0xFFFF_FFFF,
        _ => 0,
    };
    case.gpr[number] = case.gpr[number] & keep | value & !keep;
}
