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
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::{fmt, mem, ptr};

/// Why the guard could not be installed: the `errno` of sigaction(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpeGuardError(pub i32);

impl fmt::Display for FpeGuardError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sigaction(SIGFPE): errno {}", self.0)
    }
}

impl std::error::Error for FpeGuardError {}

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

/// The disposition before ours; unset while the guard is being installed.
static PREVIOUS: OnceLock<Result<libc::sigaction, FpeGuardError>> = OnceLock::new();

/// Installs the handler of arithmetic faults, once per process; further calls return the first
/// result. The first snippet does it, if nobody has before.
///
/// A handler that is installed later replaces this one: install others first.
///
/// # Errors
/// When sigaction(2) fails.
pub fn install_sigfpe_guard() -> Result<(), FpeGuardError> {
    PREVIOUS.get_or_init(install).as_ref().map(|_| ()).map_err(|error| *error)
}

fn install() -> Result<libc::sigaction, FpeGuardError> {
    // SAFETY: all-zero is a valid sigaction (default handler, empty mask).
    let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigfpe;
    new.sa_sigaction = handler as libc::sighandler_t;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: both point to live structures; the handler has the signature of SA_SIGINFO and is
    // async-signal-safe.
    match unsafe { libc::sigaction(libc::SIGFPE, &raw const new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(FpeGuardError(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
    }
}

extern "C" fn on_sigfpe(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
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
        _ => chain(signal, info, context),
    }
}

/// Does what would have happened without the guard.
fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().and_then(|result| result.as_ref().ok());
    match previous {
        Some(action)
            if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN =>
        {
            // SAFETY: sigaction returned this address as the handler of the process, with the
            // signature that its SA_SIGINFO flag says.
            unsafe {
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        mem::transmute(action.sa_sigaction);
                    handler(signal, info, context);
                } else {
                    let handler: extern "C" fn(c_int) = mem::transmute(action.sa_sigaction);
                    handler(signal);
                }
            }
        }
        // A sent signal that was ignored stays so. A fault is repeated, and ends the process with
        // the right status.
        // SAFETY: the kernel passes a valid siginfo; signal(2) is async-signal-safe.
        _ => unsafe {
            let ignored = previous.is_some_and(|action| action.sa_sigaction == libc::SIG_IGN);
            if (*info).si_code > 0 || !ignored {
                libc::signal(signal, libc::SIG_DFL);
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
        },
    }
}
