//! refuse_set and populate: pages that must not be touched, and pages that will be.

use crate::abi::id::{MV_MAX_GPA, MV_PAGE_SIZE};
use crate::call::Call;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// Most bytes of one populate call, which is made again for the rest.
const MAX_POPULATED: u64 = 0x1000 * MV_PAGE_SIZE;

/// Bit 0 of R12: accesses to pages of the range that are not mapped leave with memory_fault rather
/// than mmio. Mapped pages are not concerned.
pub fn refuse_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let refused = call.regs.r12 % MV_PAGE_SIZE;
    if refused > 1 {
        return Err(Failure::Reg2);
    }
    let (start, end) = range(call.regs.r12 - refused, call.regs.r13)?;
    if start < end {
        vm.memory.normal.refuse(start, end, refused == 1);
    }
    Ok(Outcome::Done)
}

/// Makes the root's memory behind the first pages of the range present.
pub fn populate(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let (start, end) = range(call.regs.r12, call.regs.r13)?;
    let end = end.min(start.saturating_add(MAX_POPULATED));
    let pages = (start..end).step_by(MV_PAGE_SIZE as usize);
    let present = pages.map_while(|gpa| vm.memory.normal.page(gpa).map(|page| page.load::<u8>(0)));
    Ok(Outcome::Value(present.count() as u64 * MV_PAGE_SIZE))
}

fn range(start: u64, bytes: u64) -> Result<(u64, u64), Failure> {
    let end = start.checked_add(bytes).filter(|end| *end <= MV_MAX_GPA).ok_or(Failure::Reg2)?;
    match (start.is_multiple_of(MV_PAGE_SIZE), bytes.is_multiple_of(MV_PAGE_SIZE)) {
        (false, _) => Err(Failure::Reg2),
        (_, false) => Err(Failure::Reg3),
        _ => Ok((start, end)),
    }
}
