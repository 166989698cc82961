//! dirty_log_set, dirty_log_get, dirty_log_clear: which pages of a VM its VSs have written; and
//! dirty_log_note, dirty_log_take, dirty_log_clear_list: which VS has written which, one by one.
//!
//! R11 is the VM, R12 the guest-physical address of the first page (MV_GPA_SMM allowed), R13 the
//! length in bytes, a multiple of the page size. The page holds one bit for each guest page, lowest
//! first. Pages that are not mapped, or not logged, were not written.

use std::sync::Arc;

use zerocopy::FromZeros;

use crate::abi::id::{MV_MAX_GPA, MV_PAGE_SIZE};
use crate::abi::map::{
    MV_DIRTY_LOG_ALL_WRITTEN, MV_DIRTY_LOG_MAX_PAGES, MV_DIRTY_LOG_ON, MV_GPA_SMM, mv_written_t,
};
use crate::call::Call;
use crate::object::Vm;
use crate::object::presence::Presence;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

const BITMAP_BYTES: usize = (MV_DIRTY_LOG_MAX_PAGES / 8) as usize;

/// The pages of R12 and R13.
struct Range {
    first: u64,
    pages: u64,
}

impl Range {
    fn new(first: u64, bytes: u64) -> Result<Self, Failure> {
        let end = (first & !MV_GPA_SMM).checked_add(bytes).filter(|end| *end <= MV_MAX_GPA);
        if !first.is_multiple_of(MV_PAGE_SIZE) || end.is_none() {
            return Err(Failure::Reg2);
        }
        if !bytes.is_multiple_of(MV_PAGE_SIZE) {
            return Err(Failure::Reg3);
        }
        Ok(Self { first, pages: bytes / MV_PAGE_SIZE })
    }

    fn on_a_page(self) -> Result<Self, Failure> {
        if self.pages <= MV_DIRTY_LOG_MAX_PAGES { Ok(self) } else { Err(Failure::Reg3) }
    }

    fn gpa(&self, number: u64) -> u64 {
        self.first + number * MV_PAGE_SIZE
    }
}

/// MV_DIRTY_LOG_* in bits 11:0 of R12: switches logging on, none or all of the pages written, or off.
/// When it returns, no VS writes unseen.
pub fn set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let flags = call.regs.r12 % MV_PAGE_SIZE;
    if flags & !(MV_DIRTY_LOG_ON | MV_DIRTY_LOG_ALL_WRITTEN) != 0 {
        return Err(Failure::Reg2);
    }
    let range = Range::new(call.regs.r12 - flags, call.regs.r13)?;
    let (on, written) = (flags & MV_DIRTY_LOG_ON != 0, flags & MV_DIRTY_LOG_ALL_WRITTEN != 0);
    let bytes = range.pages * MV_PAGE_SIZE;
    // The range may be all there is; only what is mapped takes time.
    let mapped: Vec<_> = vm.runs().pieces(range.first, bytes).collect();
    for run in mapped {
        for gpa in (run.gpa..run.gpa + run.bytes).step_by(MV_PAGE_SIZE as usize) {
            let (map, gpa) = vm.memory.at(gpa);
            map.log_writes(gpa, on, written);
        }
    }
    see_writes(&vm);
    Ok(Outcome::Done)
}

/// Fills the bitmap, and leaves the log as it is. At most MV_DIRTY_LOG_MAX_PAGES.
pub fn get(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let range = Range::new(call.regs.r12, call.regs.r13)?.on_a_page()?;
    let mut bitmap = [0; BITMAP_BYTES];
    for number in 0..range.pages {
        let (map, gpa) = vm.memory.at(range.gpa(number));
        if map.is_written(gpa) {
            bitmap[number as usize / 8] |= 1 << (number % 8);
        }
    }
    call.pp.page()?.copy_out(0, &bitmap);
    Ok(Outcome::Done)
}

/// Forgets the pages whose bits are set in the bitmap. When it returns, whatever was written before a
/// bit was forgotten can be read, and what is written afterwards is logged again. At most
/// MV_DIRTY_LOG_MAX_PAGES.
pub fn clear(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let range = Range::new(call.regs.r12, call.regs.r13)?.on_a_page()?;
    let mut bitmap = [0; BITMAP_BYTES];
    call.pp.page()?.copy_in(0, &mut bitmap);
    let wanted =
        (0..range.pages).filter(|number| bitmap[*number as usize / 8] >> (number % 8) & 1 != 0);
    let taken = wanted
        .filter(|number| {
            let (map, gpa) = vm.memory.at(range.gpa(*number));
            map.take_written(gpa)
        })
        .count();
    if taken != 0 {
        see_writes(&vm);
    }
    Ok(Outcome::Done)
}

/// VSs note which pages they write from now on.
pub fn note(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    vm.memory.normal.note_writes(0);
    vm.memory.smm.note_writes(MV_GPA_SMM);
    Ok(Outcome::Done)
}

/// Forgets the pages of the list, as [`clear`] does.
pub fn clear_list(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let list: mv_written_t = call.pp.page()?.read();
    let pages = list.pages.get(..list.num_pages as usize).ok_or(Failure::Unknown)?;
    let is_sound =
        |page: &u64| page.is_multiple_of(MV_PAGE_SIZE) && page & !MV_GPA_SMM < MV_MAX_GPA;
    if !pages.iter().all(is_sound) {
        return Err(Failure::Unknown);
    }
    let take = |page: &&u64| {
        let (map, gpa) = vm.memory.at(**page);
        map.take_written(gpa)
    };
    if pages.iter().filter(take).count() != 0 {
        see_writes(&vm);
    }
    Ok(Outcome::Done)
}

/// Tells the pages that the VS in R11 has written, in order, each once.
pub fn take(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let mut state = vs.lock()?;
    let page = call.pp.page()?;
    let mut list = mv_written_t::new_zeroed();
    let count = state.written.len().min(list.pages.len());
    for (to, from) in list.pages.iter_mut().zip(state.written.drain(..count)) {
        *to = from;
    }
    list.num_pages = count as u64;
    page.write(0, &list);
    Ok(Outcome::Done)
}

/// Waits until every VS looks up the next page it writes. None of them waits for anything but the end
/// of its current block.
fn see_writes(vm: &Arc<Vm>) {
    let mut missing = vm.have_forget(Presence::ask_for_protect);
    while !missing.is_empty() {
        missing.retain(|vcpu| !vcpu.has_forgotten());
        std::thread::yield_now();
    }
}
