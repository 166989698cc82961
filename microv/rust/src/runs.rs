//! Which guest-physical memory of a VM is mapped to which memory of this process, as runs.
//!
//! The page map answers the vCPUs page by page; this table answers map and unmap calls, which must
//! know beforehand whether they can succeed. Neighbours that continue each other are one run.

use std::collections::BTreeMap;

use cpu_mem::PageFlags;

/// Contiguous pages: `bytes` from guest-physical `gpa` lie at `hva` in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Guest-physical start, page aligned.
    pub gpa: u64,
    /// Start in this process, page aligned.
    pub hva: u64,
    /// Length, page multiple, not 0.
    pub bytes: u64,
    /// What the guest may do.
    pub flags: PageFlags,
}

impl Run {
    fn end(&self) -> u64 {
        self.gpa + self.bytes
    }

    /// The part of the run from `gpa` to `end`, both within it.
    fn part(&self, gpa: u64, end: u64) -> Run {
        Run { gpa, hva: self.hva + (gpa - self.gpa), bytes: end - gpa, flags: self.flags }
    }

    fn is_continued_by(&self, next: &Run) -> bool {
        self.end() == next.gpa && self.hva + self.bytes == next.hva && self.flags == next.flags
    }
}

/// Whether two of the runs share a guest page.
pub fn overlap_each_other(runs: &[Run]) -> bool {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_unstable_by_key(|run| run.gpa);
    !sorted.is_sorted_by(|a, b| a.end() <= b.gpa)
}

/// The runs of one VM by guest-physical start; they never overlap.
#[derive(Debug, Default)]
pub struct Runs(BTreeMap<u64, Run>);

impl Runs {
    /// No page of `[gpa, gpa + bytes)` is mapped.
    pub fn is_free(&self, gpa: u64, bytes: u64) -> bool {
        self.0.range(..gpa + bytes).next_back().is_none_or(|(_, last)| last.end() <= gpa)
    }

    /// Every page of `[gpa, gpa + bytes)` is mapped.
    pub fn is_mapped(&self, gpa: u64, bytes: u64) -> bool {
        self.pieces(gpa, bytes).map(|piece| piece.bytes).sum::<u64>() == bytes
    }

    /// The parts of runs within `[gpa, gpa + bytes)`, in order.
    pub fn pieces(&self, gpa: u64, bytes: u64) -> impl Iterator<Item = Run> {
        let end = gpa + bytes;
        self.touched(gpa, end).map(move |run| run.part(run.gpa.max(gpa), run.end().min(end)))
    }

    /// Adds a run whose pages are free.
    pub fn insert(&mut self, mut run: Run) -> Change {
        debug_assert!(self.is_free(run.gpa, run.bytes));
        let before = self.0.range(..run.gpa).next_back().map(|(_, before)| *before);
        let before = before.filter(|before| before.is_continued_by(&run));
        let after = self.0.get(&run.end()).copied().filter(|after| run.is_continued_by(after));
        if let Some(before) = before {
            run = Run { bytes: before.bytes + run.bytes, ..before };
        }
        if let Some(after) = after {
            run.bytes += after.bytes;
        }
        self.change(before.into_iter().chain(after).collect(), vec![run])
    }

    /// Takes the pages of `[gpa, gpa + bytes)` out.
    pub fn remove(&mut self, gpa: u64, bytes: u64) -> Change {
        let end = gpa + bytes;
        let touched: Vec<Run> = self.touched(gpa, end).copied().collect();
        let before = touched.first().filter(|run| run.gpa < gpa).map(|run| run.part(run.gpa, gpa));
        let after = touched.last().filter(|run| run.end() > end);
        let after = after.map(|run| run.part(end, run.end()));
        self.change(touched, before.into_iter().chain(after).collect())
    }

    /// All runs, in order.
    pub fn all(&self) -> impl Iterator<Item = &Run> {
        self.0.values()
    }

    fn touched(&self, gpa: u64, end: u64) -> impl Iterator<Item = &Run> {
        let first = self.0.range(..=gpa).next_back().map_or(gpa, |(start, _)| *start);
        self.0.range(first..end).map(|(_, run)| run).filter(move |run| run.end() > gpa)
    }

    fn change(&mut self, gone: Vec<Run>, come: Vec<Run>) -> Change {
        for run in &gone {
            self.0.remove(&run.gpa);
        }
        self.0.extend(come.iter().map(|run| (run.gpa, *run)));
        Change { gone, come }
    }
}

/// What an insertion or removal did to the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Runs that are in the table no more.
    pub gone: Vec<Run>,
    /// Runs that are new in it.
    pub come: Vec<Run>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(gpa: u64, hva: u64, bytes: u64) -> Run {
        Run { gpa, hva, bytes, flags: PageFlags::ALL }
    }

    #[test]
    fn continued_runs_become_one() {
        let mut runs = Runs::default();
        runs.insert(run(0x1000, 0x9_1000, 0x1000));
        runs.insert(run(0x3000, 0x9_3000, 0x1000));
        runs.insert(run(0x2000, 0x9_2000, 0x1000));
        assert_eq!(runs.pieces(0, 0x10000).collect::<Vec<_>>(), [run(0x1000, 0x9_1000, 0x3000)]);
    }

    #[test]
    fn neighbours_elsewhere_in_the_process_stay_apart() {
        let mut runs = Runs::default();
        runs.insert(run(0x1000, 0x9_1000, 0x1000));
        runs.insert(run(0x2000, 0x5_0000, 0x1000));
        assert_eq!(runs.pieces(0, 0x10000).count(), 2);
        assert!(runs.is_mapped(0x1000, 0x2000) && !runs.is_mapped(0x1000, 0x3000));
    }

    #[test]
    fn a_hole_splits_a_run() {
        let mut runs = Runs::default();
        runs.insert(run(0, 0x9_0000, 0x4000));
        let left = vec![run(0, 0x9_0000, 0x1000), run(0x2000, 0x9_2000, 0x2000)];
        let change = runs.remove(0x1000, 0x1000);
        assert_eq!(change, Change { gone: vec![run(0, 0x9_0000, 0x4000)], come: left.clone() });
        assert_eq!(runs.all().copied().collect::<Vec<_>>(), left);
    }

    #[test]
    fn runs_that_touch_do_not_overlap() {
        assert!(!overlap_each_other(&[run(0x2000, 0, 0x1000), run(0x1000, 0, 0x1000)]));
        assert!(overlap_each_other(&[run(0x2000, 0, 0x1000), run(0x1000, 0, 0x2000)]));
    }

    proptest! {
        /// The table against a plain array of pages.
        #[test]
        fn agrees_with_a_page_array(steps in prop::collection::vec((any::<bool>(), 0_u64..40, 1_u64..12), 1..60)) {
            let mut runs = Runs::default();
            let mut pages = [None; 64];
            for (map, first, count) in steps {
                let (gpa, bytes) = (first << 12, count << 12);
                let range = first as usize..(first + count) as usize;
                let free = pages[range.clone()].iter().all(Option::is_none);
                let mapped = pages[range.clone()].iter().all(Option::is_some);
                prop_assert_eq!(runs.is_free(gpa, bytes), free);
                prop_assert_eq!(runs.is_mapped(gpa, bytes), mapped);
                if map && free {
                    let hva = 0x10_0000 + gpa;
                    runs.insert(run(gpa, hva, bytes));
                    for page in range { pages[page] = Some(0x10_0000 + ((page as u64) << 12)); }
                } else if !map && mapped {
                    runs.remove(gpa, bytes);
                    for page in range { pages[page] = None; }
                }
            }
            for (page, expected) in pages.iter().enumerate() {
                let found = runs.pieces((page as u64) << 12, 0x1000).next().map(|run| run.hva);
                prop_assert_eq!(found, *expected);
            }
        }
    }
}
