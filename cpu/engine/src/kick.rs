//! How other threads get the attention of a running vCPU.
//!
//! Laws: every operation but [`Kick::forget`] is one atomic access; a request made before `run` is
//! seen by it; an exit request stays until a `run` returns [`crate::Exit::Interrupted`] for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cpu_mmu::Forget;

const EXIT: u32 = 1;
const FLUSH: u32 = 2;
const LOOK: u32 = 4;
const PROTECT: u32 = 8;
const PAUSE: u32 = 16;
const CATCH_UP: u32 = 32;
const FORGET: u32 = 64;

/// Ranges that one vCPU is asked to forget one by one; more are everything.
const MAX_RANGES: usize = 16;

/// Shared between one vCPU and the threads that interrupt it or take memory from it.
#[derive(Debug, Default)]
pub struct Kick {
    requests: AtomicU32,
    running: AtomicBool,
    /// What [`Kick::forget`] asks for. The bit is set and taken behind it.
    forgotten: Mutex<Vec<Forget>>,
}

impl Kick {
    /// No request pending, not running.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ask the vCPU to leave at the next block end (or the next `run` to return at once).
    pub fn exit(&self) {
        self.requests.fetch_or(EXIT, Ordering::SeqCst);
    }

    /// Ask the vCPU to drop its TLB and decoded blocks. Call after the pages were unmapped.
    pub fn flush(&self) {
        self.requests.fetch_or(FLUSH, Ordering::SeqCst);
    }

    /// Ask the vCPU to drop translations. Call after the guest has changed its page tables.
    pub fn forget(&self, forget: &Forget) {
        let mut list = self.list();
        let ranges = |forget: &Forget| forget.pages.as_ref().map_or(1, Vec::len);
        let total = list.iter().map(ranges).sum::<usize>() + ranges(forget);
        if total > MAX_RANGES {
            list.clear();
            list.push(Forget::all());
        } else {
            list.push(forget.clone());
        }
        self.requests.fetch_or(FORGET, Ordering::SeqCst);
    }

    fn list(&self) -> MutexGuard<'_, Vec<Forget>> {
        // Whatever is in the list, to forget too much is no harm.
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ask the vCPU to look up the next page that it writes. Call after bits of the log were taken.
    pub fn protect(&self) {
        self.requests.fetch_or(PROTECT, Ordering::SeqCst);
    }

    /// Ask the vCPU to look at its interrupt controllers at the next block end.
    pub fn look(&self) {
        self.requests.fetch_or(LOOK, Ordering::SeqCst);
    }

    /// Ask the vCPU to come back with [`crate::Exit::Paused`] at the next block end.
    pub fn pause(&self) {
        self.requests.fetch_or(PAUSE, Ordering::SeqCst);
    }

    /// Ask the vCPU to hear which pages hold code that others keep, at the next block end.
    pub(crate) fn catch_up(&self) {
        self.requests.fetch_or(CATCH_UP, Ordering::SeqCst);
    }

    /// Ask the vCPU to say how many instructions it has executed ([`crate::Counters::instructions`]), at the
    /// next block end. One that does not run has said so.
    pub fn count(&self) {
        if self.running() {
            // Whatever is asked, it looks up from them.
            self.catch_up();
        }
    }

    /// Whether any request waits.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requests.load(Ordering::SeqCst) != 0
    }

    /// No flush is outstanding: the vCPU holds no page unmapped before the last `flush`, none that the
    /// last `forget` named, nor one to write from before the last `protect`.
    #[must_use]
    pub fn acked(&self) -> bool {
        self.requests.load(Ordering::SeqCst) & (FLUSH | PROTECT | FORGET) == 0
    }

    /// The vCPU is executing. A vCPU that is not running flushes before it touches memory again,
    /// so an unmapper waits for `acked() || !running()`.
    #[must_use]
    pub fn running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// Whether anything is requested; cheap enough for every block end.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.requests.load(Ordering::Relaxed) != 0
    }

    /// Not zero while anything is requested.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.requests
    }

    pub(crate) fn flush_requested(&self) -> bool {
        self.requests.load(Ordering::SeqCst) & FLUSH != 0
    }

    pub(crate) fn protect_requested(&self) -> bool {
        self.requests.load(Ordering::SeqCst) & PROTECT != 0
    }

    pub(crate) fn forget_requested(&self) -> bool {
        self.requests.load(Ordering::SeqCst) & FORGET != 0
    }

    /// What is to be forgotten: `drop_them` has done so before others see the request answered.
    pub(crate) fn answer_forget(&self, drop_them: impl FnOnce(&[Forget])) {
        let mut list = self.list();
        drop_them(&list);
        list.clear();
        self.requests.fetch_and(!FORGET, Ordering::SeqCst);
    }

    pub(crate) fn ack_protect(&self) {
        self.requests.fetch_and(!PROTECT, Ordering::SeqCst);
    }

    pub(crate) fn ack_flush(&self) {
        self.requests.fetch_and(!FLUSH, Ordering::SeqCst);
    }

    pub(crate) fn take_look(&self) -> bool {
        self.requests.fetch_and(!LOOK, Ordering::SeqCst) & LOOK != 0
    }

    /// Takes the request to pause if there is one.
    pub(crate) fn take_pause(&self) -> bool {
        self.requests.fetch_and(!PAUSE, Ordering::SeqCst) & PAUSE != 0
    }

    /// Takes the request to catch up.
    pub(crate) fn take_catch_up(&self) {
        self.requests.fetch_and(!CATCH_UP, Ordering::SeqCst);
    }

    /// Takes the exit request if there is one.
    pub(crate) fn take_exit(&self) -> bool {
        self.requests.fetch_and(!EXIT, Ordering::SeqCst) & EXIT != 0
    }

    /// Marks the vCPU as running until the guard is dropped.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.running.store(true, Ordering::SeqCst);
        Running(self)
    }
}

/// While this lives, [`Kick::running`] is true.
pub(crate) struct Running<'a>(&'a Kick);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::SeqCst);
    }
}
