//! Exceptions of snippets: unmasked SIMD (#XM) and pending x87 (#MF) ones arrive as SIGFPE.
//!
//! The handler looks whether RIP was in a registered arena. If so it goes on at the arena's start,
//! where the stub is that ends a snippet early, with the exception's vector in RAX; the hardware
//! has left the destination alone and its flags in MXCSR. All other signals go to the handler that
//! was there before.
//!
//! The handler is async-signal-safe: atomic loads only. Linux puts the vector of a fault into
//! `REG_TRAPNO`.
//!
//! `unsafe`: signal handlers, and a list that they read.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use cpu_signal::{GuardError, SignalGuard};

/// One arena's executable range; free while `start` is zero. Never deallocated: the handler may
/// be reading it.
struct Range {
    start: AtomicUsize,
    len: AtomicUsize,
    next: AtomicPtr<Range>,
}

static RANGES: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());

/// Holds an arena's range in the list.
pub(crate) struct Registration(&'static Range);

/// `start` of a range that has an owner but no address yet.
const CLAIMED: usize = 1;

impl Registration {
    pub(crate) fn new(start: usize, len: usize) -> Self {
        let range = free_range().unwrap_or_else(new_range);
        range.len.store(len, Ordering::Relaxed);
        range.start.store(start, Ordering::Release);
        Registration(range)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

fn ranges() -> impl Iterator<Item = &'static Range> {
    let mut at = RANGES.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: nodes are leaked boxes, linked once they are complete.
        let range: &'static Range = unsafe { at.as_ref() }?;
        at = range.next.load(Ordering::Acquire);
        Some(range)
    })
}

fn free_range() -> Option<&'static Range> {
    ranges().find(|range| {
        range.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}

fn new_range() -> &'static Range {
    let range: &'static Range = Box::leak(Box::new(Range {
        start: AtomicUsize::new(CLAIMED),
        len: AtomicUsize::new(0),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut head = RANGES.load(Ordering::Acquire);
    loop {
        range.next.store(head, Ordering::Relaxed);
        let new = ptr::from_ref(range).cast_mut();
        match RANGES.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return range,
            Err(now) => head = now,
        }
    }
}

/// Start of the arena that holds `address`.
fn arena_of(address: usize) -> Option<usize> {
    ranges().find_map(|range| {
        let start = range.start.load(Ordering::Acquire);
        let len = range.len.load(Ordering::Relaxed);
        (start > CLAIMED && address.wrapping_sub(start) < len).then_some(start)
    })
}

// SAFETY: the handler makes atomic loads only.
static GUARD: SignalGuard = unsafe { SignalGuard::new(libc::SIGFPE, "SIGFPE", on_sigfpe) };

/// Installs the handler of arithmetic faults, once per process; further calls return the first
/// result. The first snippet does it, if nobody has before.
///
/// A handler that is installed later replaces this one: install others first.
///
/// # Errors
/// When sigaction(2) fails.
pub fn install_sigfpe_guard() -> Result<(), GuardError> {
    GUARD.install()
}

extern "C" fn on_sigfpe(_: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted context, which is ours to change until we return.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize] as usize;
    // SAFETY: the kernel passes a valid siginfo. Positive codes are faults, not kill(2).
    let fault = unsafe { (*info).si_code } > 0;
    match arena_of(rip) {
        Some(start) if fault => {
            registers[libc::REG_RAX as usize] = registers[libc::REG_TRAPNO as usize];
            registers[libc::REG_RIP as usize] = start as i64;
        }
        // SAFETY: they are what the kernel has passed.
        _ => unsafe { GUARD.chain(info, context) },
    }
}
