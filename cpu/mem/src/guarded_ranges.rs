//! The host address ranges whose bus errors are ours to repair.
//!
//! Read inside a signal handler, so lookups take no lock and allocate nothing: a list of chunks of
//! atomic slots that only grows. Slots of ranges that were unregistered are used again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const SLOTS_PER_CHUNK: usize = 256;

/// `start` of a slot without a range.
const VACANT: usize = 0;
/// `start` of a slot that a writer is filling.
const CLAIMED: usize = 1;

/// One range; `end` is valid only while `start` is neither `VACANT` nor `CLAIMED`.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
}

struct Chunk {
    slots: [Slot; SLOTS_PER_CHUNK],
    next: OnceLock<Box<Chunk>>,
}

impl Chunk {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS_PER_CHUNK], next: OnceLock::new() }
    }
}

/// The process has one signal handler, hence one table.
static RANGES: Chunk = Chunk::new();

/// Registers `[hva, hva + len_bytes)`, mapped guest memory: a bus error there is repaired by the
/// guard (see [`crate::install_sigbus_guard`]).
///
/// Ranges may repeat and overlap; each registration is undone by one [`unregister_range`].
///
/// # Panics
/// When the range is empty, starts in page zero or wraps around.
pub fn register_range(hva: u64, len_bytes: u64) {
    let (start, end) = bounds(hva, len_bytes);
    let mut chunk = &RANGES;
    loop {
        if chunk.slots.iter().any(|slot| slot.take(start, end)) {
            return;
        }
        chunk = chunk.next.get_or_init(|| Box::new(Chunk::new()));
    }
}

/// Undoes one [`register_range`] with the same arguments; returns whether there was one.
///
/// Call it when no vCPU uses the memory any more, and before the memory is unmapped, so that the
/// guard never maps a page into a range that was given to something else.
pub fn unregister_range(hva: u64, len_bytes: u64) -> bool {
    let (start, end) = bounds(hva, len_bytes);
    slots().any(|slot| slot.release(start, end))
}

/// Start and end (exclusive) of a registered range around `address`; called by the signal handler.
pub(crate) fn range_around(address: usize) -> Option<(usize, usize)> {
    slots().filter_map(Slot::read).find(|&(start, end)| (start..end).contains(&address))
}

fn slots() -> impl Iterator<Item = &'static Slot> {
    std::iter::successors(Some(&RANGES), |chunk| chunk.next.get().map(|next| &**next))
        .flat_map(|chunk| &chunk.slots)
}

fn bounds(hva: u64, len_bytes: u64) -> (usize, usize) {
    let end = hva.checked_add(len_bytes).expect("a range of memory does not wrap around");
    assert!(hva >= 4096 && end > hva, "no guest memory at {hva:#x}..{end:#x}");
    (hva as usize, end as usize)
}

impl Slot {
    const fn new() -> Self {
        Self { start: AtomicUsize::new(VACANT), end: AtomicUsize::new(0) }
    }

    fn take(&self, start: usize, end: usize) -> bool {
        let claim =
            self.start.compare_exchange(VACANT, CLAIMED, Ordering::Acquire, Ordering::Relaxed);
        if claim.is_err() {
            return false;
        }
        self.end.store(end, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        true
    }

    fn release(&self, start: usize, end: usize) -> bool {
        self.read() == Some((start, end))
            && self
                .start
                .compare_exchange(start, VACANT, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
    }

    /// A consistent copy: `start` is read on both sides of `end`, for the slot may be released and
    /// taken again in between.
    fn read(&self) -> Option<(usize, usize)> {
        let start = self.start.load(Ordering::SeqCst);
        let end = self.end.load(Ordering::SeqCst);
        let settled = start != VACANT && start != CLAIMED;
        (settled && self.start.load(Ordering::SeqCst) == start).then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Addresses that no mapping of the test process has, a distinct region for each test.

    #[test]
    fn a_range_holds_its_first_and_last_byte_and_no_more() {
        register_range(0x7000_0000_0000, 0x2000);
        assert_eq!(range_around(0x6fff_ffff_ffff), None);
        assert!(range_around(0x7000_0000_0000).is_some());
        assert_eq!(range_around(0x7000_0000_1fff), Some((0x7000_0000_0000, 0x7000_0000_2000)));
        assert_eq!(range_around(0x7000_0000_2000), None);
        assert!(unregister_range(0x7000_0000_0000, 0x2000));
        assert_eq!(range_around(0x7000_0000_0000), None);
    }

    #[test]
    fn each_registration_is_undone_once() {
        register_range(0x7100_0000_0000, 0x1000);
        register_range(0x7100_0000_0000, 0x1000);
        assert!(!unregister_range(0x7100_0000_0000, 0x2000));
        assert!(unregister_range(0x7100_0000_0000, 0x1000));
        assert!(range_around(0x7100_0000_0000).is_some());
        assert!(unregister_range(0x7100_0000_0000, 0x1000));
        assert!(!unregister_range(0x7100_0000_0000, 0x1000));
    }

    #[test]
    fn the_table_grows_beyond_a_chunk() {
        let address = |n: usize| 0x7200_0000_0000 + (n as u64) * 0x10_0000;
        let count = 3 * SLOTS_PER_CHUNK;
        (0..count).for_each(|n| register_range(address(n), 0x1000));
        assert!((0..count).all(|n| range_around(address(n) as usize).is_some()));
        assert!((0..count).all(|n| unregister_range(address(n), 0x1000)));
        assert!((0..count).all(|n| range_around(address(n) as usize).is_none()));
    }

    #[test]
    #[should_panic(expected = "no guest memory")]
    fn an_empty_range_is_refused() {
        register_range(0x7300_0000_0000, 0);
    }
}
