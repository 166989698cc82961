//! Memory operands of which a mask chooses the bytes: the others are neither read nor written, and
//! cannot fault.
//!
//! SDM volume 1, "Memory Fault Suppression" of "Programming with Intel AVX-512"; volume 2,
//! "VMASKMOV".

use cpu_mmu::{Access, AccessKind};

use super::execute::{self, MAX_LEN, check_aligned, vector_alignment};
use crate::access::address_fault;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::native::{Active, NativeOp};
use crate::op::Op;
use crate::stop::{Done, Stop};
use crate::wide::Place;

/// Loads the active bytes; the others are zero in the host's operand, which ignores them.
pub(super) fn load(cpu: &mut Cpu, op: &Op, native: &NativeOp) -> Done {
    let active = active_bytes(cpu, native);
    let mut bytes = [0; MAX_LEN];
    if let Some(start) = operand(cpu, op, native, active, Rights::READ)? {
        for run in runs(active) {
            let gla = start.wrapping_add(run.start as u64);
            cpu.read_bytes(op.seg, gla, &mut bytes[run])?;
        }
    }
    cpu.native.memory()[..MAX_LEN].copy_from_slice(&bytes);
    Ok(())
}

/// Has the instruction executed, then stores the active bytes.
pub(super) fn store(cpu: &mut Cpu, op: &Op, native: &NativeOp) -> Done {
    let active = active_bytes(cpu, native);
    if matches!(native.active, Active::Unsuppressed { .. }) {
        let len = usize::from(native.len);
        let gla = cpu.linear(op.seg, cpu.offset(op), len as u64, Rights::WRITE)?;
        cpu.check_alignment(op.seg, gla, len, vector_alignment(len))?;
        cpu.place(op.seg, gla, len)?;
    }
    let mut places: Vec<Place> = Vec::new();
    if let Some(start) = operand(cpu, op, native, active, Rights::WRITE)? {
        for run in runs(active) {
            let gla = start.wrapping_add(run.start as u64);
            places.push(cpu.place(op.seg, gla, run.len())?);
        }
    }
    execute::run(cpu, native)?;
    let bytes = *cpu.native.memory();
    for (place, run) in places.into_iter().zip(runs(active)) {
        cpu.write_place(place, &bytes[run]);
    }
    Ok(())
}

/// Linear address of the operand's first byte, active or not; None if no byte is active. Only
/// active bytes must be inside of the segment. Alignment is not asked of an operand without active
/// bytes (AMD's processors).
fn operand(
    cpu: &mut Cpu,
    op: &Op,
    native: &NativeOp,
    active: u64,
    need: u8,
) -> Result<Option<u64>, Stop> {
    if active == 0 {
        return Ok(None);
    }
    let first = u64::from(active.trailing_zeros());
    let len = 64 - u64::from(active.leading_zeros()) - first;
    let offset = cpu.offset(op);
    check_aligned(cpu, op, native, offset)?;
    // The operand's end does not wrap at the address size.
    let inside = cpu
        .linear(op.seg, offset.wrapping_add(first), len, need)
        .and_then(|gla| cpu.check_canonical(op.seg, gla, len as usize).map(|()| gla));
    let Ok(gla) = inside else {
        return Err(first_fault(cpu, op, native, active, need));
    };
    // The first active byte is that of an element.
    cpu.check_alignment(op.seg, gla, len as usize, alignment(native))?;
    Ok(Some(gla.wrapping_sub(first)))
}

/// Why an operand that leaves its segment or the canonical addresses faults: elements are judged
/// one by one, so that a page fault of one that is inside comes before.
#[cold]
fn first_fault(cpu: &mut Cpu, op: &Op, native: &NativeOp, active: u64, need: u8) -> Stop {
    let step = element(native);
    let kind = if need & Rights::WRITE != 0 { AccessKind::Write } else { AccessKind::Read };
    let access = Access { kind, privilege: cpu.mode.privilege };
    let start = cpu.offset(op);
    for at in (0..MAX_LEN).step_by(step).filter(|at| active >> at & 1 != 0) {
        // The operand's end does not wrap at the address size.
        let done =
            cpu.linear(op.seg, start.wrapping_add(at as u64), step as u64, need).and_then(|gla| {
                cpu.check_alignment(op.seg, gla, step, alignment(native))?;
                cpu.unaligned_span(op.seg, gla, step, access)
            });
        if let Err(stop) = done {
            return stop;
        }
    }
    address_fault(op.seg)
}

/// Bytes of an element, by which the mask counts.
fn element(native: &NativeOp) -> usize {
    usize::from(match native.active {
        Active::Mask { granule, .. }
        | Active::Unsuppressed { granule, .. }
        | Active::Repeated { granule, .. }
        | Active::Compressed { granule, .. }
        | Active::Signs { granule, .. } => granule.max(1),
        Active::All => 1,
    })
}

/// What #AC asks: elements must be aligned, but not those of VMASKMOV.
fn alignment(native: &NativeOp) -> u64 {
    u64::from(match native.active {
        Active::Mask { granule, .. }
        | Active::Repeated { granule, .. }
        | Active::Compressed { granule, .. } => granule.max(1),
        Active::All | Active::Unsuppressed { .. } | Active::Signs { .. } => 1,
    })
}

/// Bit n: byte n of the memory operand is touched.
fn active_bytes(cpu: &Cpu, native: &NativeOp) -> u64 {
    let opmask = |number: u8| cpu.fpu.opmask[usize::from(number & 7)];
    let all = low_bits(u32::from(native.len));
    let active = match native.active {
        Active::All => all,
        Active::Mask { opmask: number, granule }
        | Active::Unsuppressed { opmask: number, granule } => spread(opmask(number), granule),
        Active::Repeated { opmask: number, granule, bits } => {
            let chosen = opmask(number) & low_bits(u32::from(bits));
            spread(fold(chosen, u32::from(native.len / granule.max(1))), granule)
        }
        Active::Compressed { opmask: number, granule } => {
            let elements = u32::from(native.len / granule.max(1));
            let chosen = (opmask(number) & low_bits(elements)).count_ones();
            low_bits(chosen * u32::from(granule))
        }
        Active::Signs { vector, granule } => {
            let register = &cpu.fpu.zmm[usize::from(vector & 31)];
            let step = usize::from(granule.max(1));
            let signs = register
                .chunks_exact(step)
                .enumerate()
                .fold(0, |signs, (at, element)| signs | u64::from(element[step - 1] >> 7) << at);
            spread(signs, granule)
        }
    };
    active & all
}

fn low_bits(count: u32) -> u64 {
    u64::MAX.checked_shr(64_u32.saturating_sub(count)).unwrap_or(0)
}

/// Groups of `count` bits, laid over each other.
fn fold(mut bits: u64, count: u32) -> u64 {
    let mut folded = 0;
    while bits != 0 && count != 0 {
        folded |= bits & low_bits(count);
        bits = bits.checked_shr(count).unwrap_or(0);
    }
    folded
}

/// Each bit repeated `granule` times.
fn spread(bits: u64, granule: u8) -> u64 {
    let granule = u32::from(granule);
    (0..64_u32.checked_div(granule).unwrap_or(0))
        .filter(|number| bits >> number & 1 != 0)
        .fold(0, |bytes, number| bytes | low_bits(granule) << (number * granule))
}

/// The runs of set bits, lowest first.
fn runs(mut active: u64) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if active == 0 {
            return None;
        }
        let gap = active.trailing_zeros();
        active >>= gap;
        let len = active.trailing_ones();
        active = active.checked_shr(len).unwrap_or(0);
        let start = at + gap as usize;
        at = start + len as usize;
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_set_bits_in_order() {
        assert_eq!(runs(0).count(), 0);
        assert!(runs(u64::MAX).eq(std::iter::once(0..64)));
        assert_eq!(runs(0b1101_1000).collect::<Vec<_>>(), [3..5, 6..8]);
        assert_eq!(runs(1 << 63 | 1).collect::<Vec<_>>(), [0..1, 63..64]);
    }

    #[test]
    fn a_mask_bit_stands_for_its_element() {
        assert_eq!(spread(0b101, 4), 0xF0F);
        assert_eq!(spread(u64::MAX, 1), u64::MAX);
        assert_eq!(spread(2, 8), 0xFF00);
        assert_eq!(spread(1, 64), u64::MAX);
        assert_eq!((fold(0b1001_0000, 2), fold(0b1001, 1), fold(7, 0)), (0b11, 1, 0));
        assert_eq!((low_bits(0), low_bits(5), low_bits(64)), (0, 0x1F, u64::MAX));
    }
}
