//! `--pin-vcpus`: a thread that calls KVM_RUN stays on one processor, and so does whoever serves it.
//!
//! An exit goes from one thread to another and back. On one processor these are two switches; on two
//! the one that sleeps has to be woken there, which takes several times as long, more so in a virtual
//! machine. Linux wakes a thread elsewhere as long as another processor is idle, so the client's thread
//! has to be kept from it too.
//!
//! Only for who asks for it: the client sees it in sched_getaffinity(2), and threads that it starts from
//! such a thread stay there as well.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Where a client's thread is kept.
struct Pin {
    cpu: usize,
    /// Where it was allowed to be before.
    before: CpuSet,
}

/// By thread of a client; None for one that cannot be pinned. Empty as long as nobody asked for it.
type Pins = HashMap<u32, Option<Pin>>;

static PINS: OnceLock<RwLock<Pins>> = OnceLock::new();

/// Requests of one client's thread, none of another in between, before a thread goes where it is: to go
/// takes longer than some.
const STEADY: u32 = 8;

thread_local! {
    /// Where this thread of the server is kept.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whose requests it has handled last, and how many of them.
    static LATEST: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Threads that call KVM_RUN are kept where they are from now on.
pub fn enable() {
    PINS.get_or_init(RwLock::default);
}

/// Keeps thread `tid` of a client on the processor that has the fewest others.
pub fn keep(tid: u32) {
    if let Some(mut pins) = write()
        && !pins.contains_key(&tid)
    {
        let pin = pin(tid, &pins);
        pins.insert(tid, pin);
    }
}

/// Lets it go where it was allowed to be before, unless it has been sent elsewhere since.
pub fn release(tid: u32) {
    let Some(pin) = write().and_then(|mut pins| pins.remove(&tid)).flatten() else { return };
    let Some(thread) = thread(tid) else { return };
    if sched_getaffinity(Some(thread)).is_ok_and(|now| now == only(pin.cpu)) {
        // It may be gone by now.
        let _ = sched_setaffinity(Some(thread), &pin.before);
    }
}

/// This thread handles a request of thread `tid`: if these become many it goes where that one is kept,
/// and stays.
pub fn follow(tid: u32) {
    if PINS.get().is_none() || !is_steady(tid) {
        return;
    }
    let cpu = read().and_then(|pins| pins.get(&tid)?.as_ref().map(|pin| pin.cpu));
    let Some(cpu) = cpu.filter(|&cpu| HERE.get() != Some(cpu)) else { return };
    if sched_setaffinity(None, &only(cpu)).is_ok() {
        HERE.set(Some(cpu));
    }
}

fn is_steady(tid: u32) -> bool {
    let (latest, before) = LATEST.get();
    let count = if latest == tid { before.saturating_add(1) } else { 1 };
    LATEST.set((tid, count));
    count >= STEADY
}

/// Whether this thread is where a client's thread is kept, and would keep it from running.
pub fn shares_processor() -> bool {
    HERE.get().is_some()
}

fn pin(tid: u32, pins: &Pins) -> Option<Pin> {
    let thread = thread(tid)?;
    let before = sched_getaffinity(Some(thread)).ok()?;
    let here = sched_getcpu();
    let others = |cpu: usize| pins.values().flatten().filter(|pin| pin.cpu == cpu).count();
    let cpu = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| before.is_set(cpu))
        .min_by_key(|&cpu| (others(cpu), cpu != here))?;
    sched_setaffinity(Some(thread), &only(cpu)).ok()?;
    Some(Pin { cpu, before })
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

/// None for 0, a thread of another PID namespace, which cannot be named.
fn thread(tid: u32) -> Option<Pid> {
    Pid::from_raw(tid.cast_signed())
}

fn read() -> Option<RwLockReadGuard<'static, Pins>> {
    Some(PINS.get()?.read().unwrap_or_else(PoisonError::into_inner))
}

fn write() -> Option<RwLockWriteGuard<'static, Pins>> {
    Some(PINS.get()?.write().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_two_threads_in_turn_follows_neither() {
        assert!((0..100).all(|turn| !is_steady(1 + turn % 2)));
        assert!(!(0..STEADY - 1).any(|_| is_steady(7)));
        assert!(is_steady(7));
        assert!(!is_steady(8));
    }
}
