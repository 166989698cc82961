//! Which memory holds code that processors of a virtual machine keep decoded or translated, so that
//! they hear of each other's stores to it.
//!
//! SDM volume 3, "Handling Self- and Cross-Modifying Code". Marks are kept by host page, since a page
//! may have several guest-physical addresses, in granules of 64 bytes.
//!
//! Laws:
//! - A processor marks code before it compares what it keeps with memory, and may use it until
//!   [`CodeWatch::changed`] says yes. It asks where the architecture has stores of others become code.
//! - Stores that look at no marks go to pages that had none when the processor got hold of them. It
//!   gives up those that were marked since when it [catches up](CodeWatch::catch_up); until all that
//!   run have done so, `changed` says yes.
//! - Who stores to a marked page says so afterwards, by [`CodeWatch::stored`].

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::address_hasher::AddressHasher;
use crate::{HostPage, PAGE_SIZE};

/// Bytes of a granule: a page has as many as a word has bits.
const GRANULE: usize = PAGE_SIZE / 64;
const SHARDS: usize = 64;
const PLACES: usize = 1 << 14;
/// Marked pages that are remembered one by one.
const LOG_LEN: usize = 64;
/// A processor does not run: it catches up before it does.
const AWAY: u64 = u64::MAX;

/// The granules that `len` bytes at an address touch, as far as they are in its page.
#[must_use]
pub fn granules(address: u64, len: usize) -> u64 {
    let offset = address as usize % PAGE_SIZE;
    let first = offset / GRANULE;
    let last = ((offset + len.max(1) - 1) / GRANULE).min(63);
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

/// What is known of a page to which stores are noticed.
#[derive(Debug, Default)]
struct Marks {
    /// Granules with code. None: there was some, and may soon be again.
    granules: u64,
    /// Stores since there was code.
    stores: u32,
}

/// Stores to a page without code after which they are no longer noticed. Noticing them anew costs each
/// processor a look through its translations, so that code which is patched over and over shall not.
const STORES: u32 = 64;

type Pages = HashMap<u64, Marks, BuildHasherDefault<AddressHasher>>;

/// The marks of one virtual machine.
pub struct CodeMarks {
    /// By the address of the page.
    shards: [Mutex<Pages>; SHARDS],
    /// How many of these pages share a place.
    places: Box<[AtomicU32]>,
    /// How often marked code was written.
    changes: AtomicU64,
    /// How often a page got its first mark.
    marked: AtomicU64,
    /// The last pages that did, in turn.
    log: Mutex<[u64; LOG_LEN]>,
    seats: RwLock<Vec<Arc<Seat>>>,
}

/// A processor as the others see it.
struct Seat {
    /// The value of `marked` that it has caught up with, or [`AWAY`].
    caught_up: AtomicU64,
    /// Asks it to catch up.
    call: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl CodeMarks {
    pub(crate) fn new() -> Self {
        CodeMarks {
            shards: std::array::from_fn(|_| Mutex::default()),
            places: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            changes: AtomicU64::new(0),
            marked: AtomicU64::new(0),
            log: Mutex::new([0; LOG_LEN]),
            seats: RwLock::default(),
        }
    }

    /// Somebody who knows of no marks may have written code.
    pub fn distrust(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn shard(&self, page: u64) -> MutexGuard<'_, Pages> {
        lock(&self.shards[page as usize / PAGE_SIZE % SHARDS])
    }

    fn place(&self, page: u64) -> &AtomicU32 {
        &self.places[page as usize / PAGE_SIZE % PLACES]
    }

    /// Marks granules; what all have to have caught up with before the marks can be relied on.
    fn mark(&self, page: u64, granules: u64) -> u64 {
        let mut shard = self.shard(page);
        let marked = shard.len();
        let marks = shard.entry(page).or_default();
        marks.granules |= granules;
        marks.stores = 0;
        if shard.len() == marked {
            return self.marked.load(Ordering::SeqCst);
        }
        self.place(page).fetch_add(1, Ordering::SeqCst);
        let mut log = lock(&self.log);
        let number = self.marked.load(Ordering::SeqCst);
        log[number as usize % LOG_LEN] = page;
        self.marked.store(number + 1, Ordering::SeqCst);
        number + 1
    }
}

impl fmt::Debug for CodeMarks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CodeMarks").finish_non_exhaustive()
    }
}

/// One processor's part in the marks.
#[derive(Debug)]
pub struct CodeWatch {
    marks: Arc<CodeMarks>,
    seat: Arc<Seat>,
    /// Changes that it has heard of.
    heard: u64,
    /// What the others have to catch up with before it can rely on its marks; 0: nothing.
    awaited: u64,
    /// What they have caught up with for certain.
    relied: u64,
    /// The value of `marked` that it has caught up with.
    caught_up: u64,
}

/// Pages that a processor has to give up for stores without a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Marked {
    /// All.
    All,
    /// Those at these addresses.
    Pages(Vec<u64>),
}

impl CodeWatch {
    /// Another processor. It does not run yet.
    #[must_use]
    pub fn new(marks: Arc<CodeMarks>) -> Self {
        let seat = Arc::new(Seat { caught_up: AtomicU64::new(AWAY), call: OnceLock::new() });
        marks.seats.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&seat));
        CodeWatch { marks, seat, heard: 0, awaited: 0, relied: 0, caught_up: 0 }
    }

    /// How this processor is asked to catch up while it runs. The first call counts.
    pub fn on_call(&self, call: impl Fn() + Send + Sync + 'static) {
        self.seat.call.get_or_init(|| Box::new(call));
    }

    /// It runs from now on: it may store.
    pub fn begin(&mut self) {
        self.seat.caught_up.store(self.caught_up, Ordering::SeqCst);
    }

    /// It does not run.
    pub fn end(&mut self) {
        self.seat.caught_up.store(AWAY, Ordering::SeqCst);
    }

    /// Pages that were marked since the last call. The caller gives them up before it does anything
    /// else, and calls [`Self::caught_up`].
    #[inline]
    pub fn catch_up(&mut self) -> Option<Marked> {
        let now = self.marks.marked.load(Ordering::SeqCst);
        (now != self.caught_up).then(|| self.newly_marked())
    }

    #[cold]
    fn newly_marked(&mut self) -> Marked {
        let log = lock(&self.marks.log);
        let now = self.marks.marked.load(Ordering::SeqCst);
        let before = std::mem::replace(&mut self.caught_up, now);
        if now - before > LOG_LEN as u64 {
            return Marked::All;
        }
        Marked::Pages((before..now).map(|number| log[number as usize % LOG_LEN]).collect())
    }

    /// What [`Self::catch_up`] returned has been given up.
    pub fn caught_up(&mut self) {
        self.seat.caught_up.store(self.caught_up, Ordering::SeqCst);
    }

    /// Whether stores to the page have to be noticed: it has marks, or had them a short while ago.
    #[must_use]
    pub fn holds_code(&self, page: HostPage) -> bool {
        let page = page.address();
        self.marks.place(page).load(Ordering::SeqCst) != 0
            && self.marks.shard(page).contains_key(&page)
    }

    /// Marks granules of a page: they are code, and not yet compared with what is kept of them.
    pub fn mark(&mut self, page: HostPage, granules: u64) {
        let marked = self.marks.mark(page.address(), granules);
        if marked <= self.relied.max(self.awaited) {
            return;
        }
        if self.have_caught_up(marked, true) {
            self.relied = marked;
        } else {
            self.awaited = marked;
        }
    }

    /// Whether code that is kept may differ from memory. All of it has to be marked anew then, and
    /// compared.
    #[inline]
    pub fn changed(&mut self) -> bool {
        let changes = self.marks.changes.load(Ordering::SeqCst);
        let heard = std::mem::replace(&mut self.heard, changes);
        heard != changes || (self.awaited != 0 && self.still_awaits())
    }

    #[cold]
    fn still_awaits(&mut self) -> bool {
        if self.have_caught_up(self.awaited, false) {
            self.relied = self.relied.max(self.awaited);
            self.awaited = 0;
        }
        // What they have stored before they did has to be found in any case.
        true
    }

    /// This processor has stored to granules of a page. True if there was code: the page has no marks
    /// any more, and the others hear of it; this one does not, if it gives up by itself what it
    /// `keeps` of the page.
    pub fn stored(&mut self, page: HostPage, granules: u64, keeps: bool) -> bool {
        let page = page.address();
        // A first mark that is made meanwhile has to be caught up with.
        if self.marks.place(page).load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut shard = self.marks.shard(page);
        let Some(marks) = shard.get_mut(&page) else { return false };
        let hit = marks.granules & granules != 0;
        if marks.granules == 0 {
            marks.stores += 1;
            if marks.stores == STORES {
                shard.remove(&page);
                self.marks.place(page).fetch_sub(1, Ordering::SeqCst);
            }
        } else if hit {
            marks.granules = 0;
            let before = self.marks.changes.fetch_add(1, Ordering::SeqCst);
            if keeps && before == self.heard {
                self.heard = before + 1;
            }
        }
        hit
    }

    /// Somebody who knows of no marks may have written code: the others hear of it, and the caller
    /// marks and compares all that it keeps anew.
    pub fn distrust(&mut self) {
        self.marks.distrust();
        self.changed();
    }

    /// Whether all others that run have caught up with `marked`; with `call` they are asked to.
    fn have_caught_up(&self, marked: u64, call: bool) -> bool {
        let seats = self.marks.seats.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = true;
        for seat in seats.iter().filter(|seat| !Arc::ptr_eq(seat, &self.seat)) {
            if seat.caught_up.load(Ordering::SeqCst) < marked {
                all = false;
                if let Some(ask) = seat.call.get().filter(|_| call) {
                    ask();
                }
            }
        }
        all
    }
}

impl Drop for CodeWatch {
    fn drop(&mut self) {
        let mut seats = self.marks.seats.write().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seat").field("caught_up", &self.caught_up).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PageFlags;
    use crate::phys_map::tests::page_of;

    fn two() -> (CodeWatch, CodeWatch, HostPage) {
        let marks = Arc::new(CodeMarks::new());
        let watch = || CodeWatch::new(Arc::clone(&marks));
        (watch(), watch(), page_of(PageFlags::ALL))
    }

    fn catch_up(watch: &mut CodeWatch) -> Option<Marked> {
        let marked = watch.catch_up();
        watch.caught_up();
        marked
    }

    #[test]
    fn granules_reach_the_page_end() {
        assert_eq!(granules(0xFFF, 1), 1 << 63);
        assert_eq!(granules(0x7000, 4096), u64::MAX);
        assert_eq!(granules(0x103F, 2), 3);
        assert_eq!(granules(0xFFF, 100), 1 << 63);
    }

    #[test]
    fn a_store_into_marked_code_is_a_change_for_all() {
        let (mut one, mut other, page) = two();
        one.mark(page, 0b110);
        assert!(!one.changed());
        assert!(other.holds_code(page));
        assert!(!other.stored(page, 1, false));
        assert!(!one.changed());
        assert!(other.stored(page, 0b10, false));
        assert!(one.changed());
        assert!(!one.changed());
        assert!(other.changed());
    }

    /// Stores to a page whose code was overwritten until stores are no longer noticed.
    fn leave(watch: &mut CodeWatch, page: HostPage) {
        for _ in 0..STORES {
            assert!(watch.holds_code(page));
            assert!(!watch.stored(page, u64::MAX, false));
        }
        assert!(!watch.holds_code(page));
    }

    #[test]
    fn a_page_whose_code_is_overwritten_needs_no_new_look_for_a_while() {
        let (mut one, mut other, page) = two();
        other.begin();
        one.mark(page, 1);
        catch_up(&mut other);
        assert!(one.changed());
        for _ in 0..3 {
            assert!(other.stored(page, 1, false));
            assert!(one.changed());
            assert!(!other.stored(page, 1, false), "there is no code");
            assert!(!one.changed());
            one.mark(page, 1);
            assert_eq!(catch_up(&mut other), None);
            assert!(!one.changed());
        }
        assert!(other.stored(page, 1, false));
        leave(&mut other, page);
        one.mark(page, 1);
        assert_eq!(catch_up(&mut other), Some(Marked::Pages(vec![page.address()])));
    }

    #[test]
    fn marks_are_relied_on_once_all_have_caught_up() {
        let (mut one, mut other, page) = two();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        other.on_call(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        other.begin();
        one.mark(page, 1);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(one.changed());
        assert!(one.changed());
        assert_eq!(catch_up(&mut other), Some(Marked::Pages(vec![page.address()])));
        assert_eq!(catch_up(&mut other), None);
        assert!(one.changed(), "what was stored before is looked for once");
        assert!(!one.changed());
        one.mark(page, 2);
        assert!(!one.changed(), "the page has marks already");
    }

    #[test]
    fn marks_of_another_have_to_be_caught_up_with_too() {
        let (mut one, mut other, page) = two();
        let mut third = CodeWatch::new(Arc::clone(&one.marks));
        third.begin();
        one.mark(page, 1);
        other.mark(page, 1);
        assert!(other.changed());
        third.end();
        assert!(other.changed());
        assert!(!other.changed());
    }

    #[test]
    fn who_was_away_catches_up_when_it_begins() {
        let (mut one, mut other, page) = two();
        one.mark(page, 1);
        assert!(!one.changed());
        other.begin();
        assert_eq!(catch_up(&mut other), Some(Marked::Pages(vec![page.address()])));
    }

    #[test]
    fn too_many_marks_are_all() {
        let (mut one, mut other, page) = two();
        for _ in 0..=LOG_LEN {
            one.mark(page, 1);
            assert!(one.stored(page, 1, true));
            assert!(!one.changed());
            leave(&mut one, page);
        }
        assert_eq!(catch_up(&mut other), Some(Marked::All));
        one.mark(page, 1);
        assert_eq!(catch_up(&mut other), Some(Marked::Pages(vec![page.address()])));
    }

    #[test]
    fn one_that_is_gone_is_not_waited_for() {
        let (mut one, mut other, page) = two();
        other.begin();
        drop(other);
        one.mark(page, 1);
        assert!(!one.changed());
    }

    #[test]
    fn writers_without_marks_are_a_change() {
        let (mut one, _other, _) = two();
        one.marks.distrust();
        assert!(one.changed());
        assert!(!one.changed());
    }
}
