//! Survival of guest memory that lost its file.
//!
//! A client that truncates the file behind guest memory makes every later access of ours a bus
//! error (`SIGBUS`, see sigaction(2)), which would end the process and with it the machines of
//! others. Inside a registered range the handler puts an anonymous zero page over the lost one
//! and the access is repeated; the guest sees zeroes. All other bus errors go to the handler that
//! was there before.
//!
//! The handler is async-signal-safe: system calls and atomic loads only, `errno` preserved.
//! `unsafe`: signal handlers and `mmap` have no safe form.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr;

use cpu_signal::{GuardError, SignalGuard};

use crate::guarded_ranges::range_around;

/// Sizes that a page over a lost one may need: huge mappings can only be replaced as a whole.
const PAGE_SIZES: [usize; 3] = [1 << 12, 1 << 21, 1 << 30];

// SAFETY: the handler makes system calls and atomic loads only, and preserves errno.
static GUARD: SignalGuard = unsafe { SignalGuard::new(libc::SIGBUS, "SIGBUS", on_sigbus) };

/// Installs the handler of bus errors, once per process; further calls return the first result.
///
/// A handler that is installed later replaces this one: install others first.
///
/// # Errors
/// When sigaction(2) fails.
pub fn install_sigbus_guard() -> Result<(), GuardError> {
    GUARD.install()
}

extern "C" fn on_sigbus(_: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; errno is this thread's.
    let (code, address, errno) =
        unsafe { ((*info).si_code, (*info).si_addr() as usize, *libc::__errno_location()) };
    let lost_page = code == libc::BUS_ADRERR;
    if !(lost_page && replace_page(address)) {
        // SAFETY: they are what the kernel has passed.
        unsafe { GUARD.chain(info, context) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Maps zeroes over the page of `address` if it lies in a registered range.
fn replace_page(address: usize) -> bool {
    let Some((start, end)) = range_around(address) else {
        return false;
    };
    PAGE_SIZES.into_iter().any(|size| {
        let page = address & !(size - 1);
        if page < start || page + size > end {
            return false;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the page lies inside a range whose owner declared it guest memory, to which no
        // Rust reference exists; replacing its contents is what the owner asked for.
        let mapped = unsafe {
            libc::mmap(ptr::with_exposed_provenance_mut(page), size, protection, flags, -1, 0)
        };
        mapped != libc::MAP_FAILED
    })
}
