//! Map and unmap calls that take longer than their time budget.
//!
//! A call is an operation that advances page by page and answers "call again" when its budget is used
//! up, so that other threads of the root get their turn; the identical call continues it. An unmap is
//! done only when every vCPU has acknowledged that it dropped the translations: a running one is asked
//! and the answer is awaited by "call again" too. Laws: what an operation needs is checked before it
//! touches anything; an operation that is dropped unfinished leaves the VM as it found it (but for the dirty log, which begins anew).
#![allow(unsafe_code, reason = "PhysMap::map_page takes the caller's word for the host page")]

use std::sync::Arc;
use std::time::Instant;

use cpu_mem::{BLOCK_SIZE, PageFlags, register_range, unregister_range};
use zerocopy::IntoBytes;

use crate::abi::id::MV_PAGE_SIZE;
use crate::abi::map::mv_mdl_t;
use crate::call::Regs;
use crate::host_memory::{HostMemory, Need};
use crate::mdl::{self, Direction};
use crate::object::presence::Presence;
use crate::object::vm::MapClaim;
use crate::runs::Run;

/// Pages changed between two looks at the clock.
const PAGES_PER_STEP: u64 = 16;

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not there yet; advance it again.
    Again,
    /// Finished; it stays done when the operation is dropped.
    Done,
}

/// A map or unmap under way. It holds the VM's claim, so there is one at a time.
#[derive(Debug)]
pub struct MapOperation {
    claim: MapClaim,
    direction: Direction,
    /// The call that began it, registers and page; only an identical one continues it.
    regs: Regs,
    mdl: Box<mv_mdl_t>,
    runs: Vec<Run>,
    /// What was mapped there before a replacement.
    before: Vec<Run>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The pages before this place are done.
    Pages(Place),
    /// All pages are taken out; these vCPUs have yet to acknowledge.
    Acknowledgements(Vec<Arc<Presence>>),
    Finished,
}

/// The page at `offset` bytes of run number `run`.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    run: usize,
    offset: u64,
}

impl MapOperation {
    /// Checks the list and begins. `None` where the list is not safe, a page is mapped already (map)
    /// or is not (unmap), or a source is no memory of this process with the needed rights.
    pub fn begin(
        claim: MapClaim,
        direction: Direction,
        regs: &Regs,
        mdl: mv_mdl_t,
    ) -> Option<MapOperation> {
        let runs = mdl::runs(&mdl, direction)?;
        let possible = {
            let table = claim.vm().runs();
            runs.iter().all(|run| match direction {
                Direction::Map => table.is_free(run.gpa, run.bytes),
                Direction::Replace | Direction::Unmap => table.is_mapped(run.gpa, run.bytes),
            })
        };
        if !possible || (direction != Direction::Unmap && !are_memory(&runs)) {
            return None;
        }
        let before = match direction {
            Direction::Replace => claim.vm().pieces(&runs),
            Direction::Map | Direction::Unmap => Vec::new(),
        };
        match direction {
            Direction::Map => runs.iter().for_each(|run| claim.vm().insert_run(*run)),
            // In the table are those before, until no vCPU uses them any more.
            Direction::Replace => runs.iter().for_each(|run| register_range(run.hva, run.bytes)),
            Direction::Unmap => {}
        }
        let (regs, mdl, phase) = (*regs, Box::new(mdl), Phase::Pages(Place::default()));
        Some(MapOperation { claim, direction, regs, mdl, runs, before, phase })
    }

    /// Whether registers are those of the call that began this.
    pub fn is_call(&self, regs: &Regs) -> bool {
        // R13 is no input of map and unmap.
        *regs == Regs { r13: regs.r13, ..self.regs }
    }

    /// Whether registers and page are those of the call that began this.
    pub fn is_for(&self, regs: &Regs, mdl: &mv_mdl_t) -> bool {
        self.is_call(regs) && self.mdl.as_bytes() == mdl.as_bytes()
    }

    /// Goes on for one time budget, but at least a few pages.
    pub fn advance(&mut self) -> Progress {
        if let Phase::Pages(place) = &mut self.phase {
            let mut at = *place;
            let all = self.advance_pages(&mut at);
            self.phase = match (all, self.direction) {
                (false, _) => Phase::Pages(at),
                (true, Direction::Map) => Phase::Finished,
                (true, _) => Phase::Acknowledgements(self.flush()),
            };
        }
        if let Phase::Acknowledgements(missing) = &mut self.phase {
            missing.retain(|vcpu| !vcpu.has_forgotten());
            if missing.is_empty() {
                self.phase = Phase::Finished;
                self.forget_runs();
                if self.direction == Direction::Replace {
                    self.runs.iter().for_each(|run| self.claim.vm().insert_run(*run));
                    self.unregister_runs();
                }
            }
        }
        match self.phase {
            Phase::Finished => Progress::Done,
            _ => Progress::Again,
        }
    }

    /// Returns whether the last page was reached.
    fn advance_pages(&self, place: &mut Place) -> bool {
        let budget = self.claim.vm().time_budget();
        let start = Instant::now();
        loop {
            for _ in 0..PAGES_PER_STEP {
                let Some(run) = self.runs.get(place.run) else { return true };
                place.offset += match self.direction {
                    Direction::Map => self.map(run, place.offset),
                    Direction::Replace => self.replace(run, place.offset),
                    Direction::Unmap => self.unmap(run, place.offset),
                };
                if place.offset == run.bytes {
                    *place = Place { run: place.run + 1, offset: 0 };
                }
            }
            if start.elapsed() >= budget {
                return place.run == self.runs.len();
            }
        }
    }

    /// Maps what begins at `offset`; how many bytes these were.
    fn map(&self, run: &Run, offset: u64) -> u64 {
        let (map, gpa) = self.claim.vm().memory.at(run.gpa + offset);
        let hva = run.hva + offset;
        // SAFETY: as below, for all pages of the block.
        if run.bytes - offset >= BLOCK_SIZE && unsafe { map.map_block(gpa, hva, run.flags) } {
            return BLOCK_SIZE;
        }
        // SAFETY: the page is memory of this process: `begin` looked it up for a new run, or it was
        // looked up when the run that an unmap now restores was mapped. The root keeps it mapped until
        // its unmap call has succeeded (contract of mmio_map), which is after every vCPU has
        // acknowledged the flush, or until the VM, and with it every vCPU, is destroyed.
        let mapped = unsafe { map.map_page(gpa, hva, run.flags) };
        mapped.expect("the table of runs says that this page is free");
        MV_PAGE_SIZE
    }

    /// As [`Self::map`], for memory that is mapped.
    fn replace(&self, run: &Run, offset: u64) -> u64 {
        let (map, gpa) = self.claim.vm().memory.at(run.gpa + offset);
        // SAFETY: as in `map`, for the memory before as for what comes in its place.
        let replaced = unsafe { map.replace_page(gpa, run.hva + offset, run.flags) };
        replaced.expect("the table of runs says that this page is mapped");
        MV_PAGE_SIZE
    }

    /// The opposite of [`Self::map`].
    fn unmap(&self, run: &Run, offset: u64) -> u64 {
        let (map, gpa) = self.claim.vm().memory.at(run.gpa + offset);
        if run.bytes - offset >= BLOCK_SIZE && map.unmap_block(gpa) {
            return BLOCK_SIZE;
        }
        let unmapped = map.unmap_page(gpa);
        unmapped.expect("the table of runs says that this page is mapped");
        MV_PAGE_SIZE
    }

    /// Asks every vCPU of the VM to drop what it remembers of the map; those that have yet to.
    fn flush(&self) -> Vec<Arc<Presence>> {
        self.claim.vm().have_forget(Presence::ask_for_flush)
    }

    fn unregister_runs(&self) {
        for run in &self.runs {
            unregister_range(run.hva, run.bytes);
        }
    }

    fn forget_runs(&self) {
        for run in &self.runs {
            self.claim.vm().remove_run(run.gpa, run.bytes);
        }
    }

    /// Takes a half-done map back. The caller is about to forget its memory, so this waits for the
    /// vCPUs: none of them waits for anything but the end of its current block.
    fn undo_map(&self) {
        for address in self.pages() {
            let (map, gpa) = self.claim.vm().memory.at(address);
            // Not mapped: the operation had not come so far.
            let _ = map.unmap_page(gpa);
        }
        self.wait_for_flush();
        self.forget_runs();
    }

    /// Puts back what was there before a replacement.
    fn undo_replace(&self) {
        for run in &self.before {
            for offset in (0..run.bytes).step_by(MV_PAGE_SIZE as usize) {
                self.replace(run, offset);
            }
        }
        self.wait_for_flush();
        self.unregister_runs();
    }

    fn wait_for_flush(&self) {
        let mut missing = self.flush();
        while !missing.is_empty() {
            missing.retain(|vcpu| !vcpu.has_forgotten());
            std::thread::yield_now();
        }
    }

    fn undo_unmap(&self) {
        let table = self.claim.vm().runs();
        for address in self.pages() {
            let (map, gpa) = self.claim.vm().memory.at(address);
            if map.page(gpa).is_some() {
                continue;
            }
            let piece = table.pieces(address, MV_PAGE_SIZE).next();
            self.map(&piece.expect("a run stays in the table until its unmap is done"), 0);
        }
    }

    fn pages(&self) -> impl Iterator<Item = u64> {
        self.runs
            .iter()
            .flat_map(|run| (run.gpa..run.gpa + run.bytes).step_by(MV_PAGE_SIZE as usize))
    }
}

impl Drop for MapOperation {
    fn drop(&mut self) {
        match (&self.phase, self.direction) {
            (Phase::Finished, _) => {}
            (_, Direction::Map) => self.undo_map(),
            (_, Direction::Replace) => self.undo_replace(),
            (_, Direction::Unmap) => self.undo_unmap(),
        }
    }
}

fn are_memory(runs: &[Run]) -> bool {
    let host = HostMemory::now();
    runs.iter().all(|run| {
        let need = if run.flags.contains(PageFlags::WRITE) { Need::ReadWrite } else { Need::Read };
        host.allows(run.hva, run.bytes, need)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;
    use crate::abi::map::{MV_MAP_FLAG_WRITE_ACCESS, mv_mdl_entry_t};
    use crate::object::Vm;

    const PAGES: u64 = 96;

    /// Host memory, page aligned.
    #[repr(align(4096))]
    struct Memory([u8; (PAGES * MV_PAGE_SIZE) as usize]);

    fn list(runs: &[(u64, u64)], hva: u64) -> mv_mdl_t {
        let mut mdl = mv_mdl_t::new_zeroed();
        mdl.num_entries = runs.len() as u64;
        for (entry, &(first, pages)) in mdl.entries.iter_mut().zip(runs) {
            let (dst, bytes) = (first * MV_PAGE_SIZE, pages * MV_PAGE_SIZE);
            let flags = MV_MAP_FLAG_WRITE_ACCESS;
            *entry = mv_mdl_entry_t { dst, src: hva + dst, bytes, flags };
        }
        mdl
    }

    fn begin(vm: &Arc<Vm>, direction: Direction, mdl: mv_mdl_t) -> Option<MapOperation> {
        let claim = MapClaim::new(Arc::clone(vm)).expect("no other operation is under way");
        MapOperation::begin(claim, direction, &Regs::default(), mdl)
    }

    fn mapped(vm: &Vm) -> Vec<bool> {
        (0..PAGES).map(|page| vm.memory.normal.page(page * MV_PAGE_SIZE).is_some()).collect()
    }

    proptest! {
        /// However often an operation is continued, and wherever it is dropped, the VM is as if it had
        /// been one call, or none.
        #[test]
        fn an_operation_happens_wholly_or_not_at_all(
            steps in prop::collection::vec(
                (any::<bool>(), prop::collection::vec((0_u64..64, 1_u64..32), 1..4), 0_usize..8),
                1..20,
            )
        ) {
            let mut memory = Box::new(Memory([0; _]));
            let hva = memory.0.as_mut_ptr().expose_provenance() as u64;
            let vm = Arc::new(Vm::new(1));
            vm.set_time_budget_ns(1);
            for (map, runs, patience) in steps {
                let direction = if map { Direction::Map } else { Direction::Unmap };
                let before = mapped(&vm);
                let mut expected = before.clone();
                for page in runs.iter().flat_map(|&(first, pages)| first..first + pages) {
                    expected[page as usize] = map;
                }
                let Some(mut operation) = begin(&vm, direction, list(&runs, hva)) else {
                    prop_assert_eq!(mapped(&vm), before);
                    continue;
                };
                let done = (0..patience).any(|_| operation.advance() == Progress::Done);
                drop(operation);
                prop_assert_eq!(mapped(&vm), if done { expected } else { before });
            }
        }
    }

    /// A VM whose first page is mapped, with a vCPU that is in the middle of something.
    fn vm_with_vcpu(hva: u64) -> (Arc<Vm>, Arc<Presence>) {
        let (vm, vcpu) = (Arc::new(Vm::new(1)), Arc::new(Presence::default()));
        let mut operation = begin(&vm, Direction::Map, list(&[(0, 1)], hva)).unwrap();
        assert_eq!(operation.advance(), Progress::Done);
        vm.add_vcpu(Arc::clone(&vcpu));
        (vm, vcpu)
    }

    #[test]
    fn an_unmap_is_not_done_before_every_vcpu_has_forgotten_the_pages() {
        let mut memory = Box::new(Memory([0; _]));
        let hva = memory.0.as_mut_ptr().expose_provenance() as u64;
        let (vm, vcpu) = vm_with_vcpu(hva);
        let present = vcpu.enter();
        let mut operation = begin(&vm, Direction::Unmap, list(&[(0, 1)], hva)).unwrap();
        for _ in 0..100 {
            assert_eq!(operation.advance(), Progress::Again);
        }
        assert!(!vcpu.kick.acked(), "the vCPU was asked to flush");
        drop(present);
        assert_eq!(operation.advance(), Progress::Done);
    }

    #[test]
    fn an_unmap_dropped_while_it_waits_leaves_the_pages_mapped() {
        let mut memory = Box::new(Memory([0; _]));
        let hva = memory.0.as_mut_ptr().expose_provenance() as u64;
        let (vm, vcpu) = vm_with_vcpu(hva);
        let _present = vcpu.enter();
        let mut operation = begin(&vm, Direction::Unmap, list(&[(0, 1)], hva)).unwrap();
        assert_eq!(operation.advance(), Progress::Again);
        assert!(!mapped(&vm)[0]);
        drop(operation);
        assert!(mapped(&vm)[0]);
    }

    #[test]
    fn a_map_taken_back_waits_for_vcpus_that_saw_its_pages() {
        let mut memory = Box::new(Memory([0; _]));
        let hva = memory.0.as_mut_ptr().expose_provenance() as u64;
        let (vm, vcpu) = vm_with_vcpu(hva);
        vm.set_time_budget_ns(1);
        let present = vcpu.enter();
        let mut operation = begin(&vm, Direction::Map, list(&[(1, 80)], hva)).unwrap();
        assert_eq!(operation.advance(), Progress::Again);
        let left = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let taking_back = scope.spawn(|| {
                drop(operation);
                left.load(Ordering::SeqCst)
            });
            // The flush is asked for after the pages are gone: from here on only the wait is left.
            while vcpu.kick.acked() {
                std::thread::yield_now();
            }
            for _ in 0..1000 {
                assert!(!taking_back.is_finished());
                std::thread::yield_now();
            }
            left.store(true, Ordering::SeqCst);
            drop(present);
            assert!(taking_back.join().unwrap());
        });
    }

    #[test]
    fn one_operation_at_a_time_claims_a_vm() {
        let mut memory = Box::new(Memory([0; _]));
        let hva = memory.0.as_mut_ptr().expose_provenance() as u64;
        let vm = Arc::new(Vm::new(1));
        let operation = begin(&vm, Direction::Map, list(&[(0, 1)], hva));
        assert!(MapClaim::new(Arc::clone(&vm)).is_none());
        drop(operation);
        assert!(MapClaim::new(vm).is_some());
    }
}
