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
use std::sync::OnceLock;
use std::{fmt, mem, ptr};

use crate::guarded_ranges::range_around;

/// Why the guard could not be installed: the `errno` of sigaction(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardError(pub i32);

impl fmt::Display for GuardError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sigaction(SIGBUS): errno {}", self.0)
    }
}

impl std::error::Error for GuardError {}

/// Sizes that a page over a lost one may need: huge mappings can only be replaced as a whole.
const PAGE_SIZES: [usize; 3] = [1 << 12, 1 << 21, 1 << 30];

/// The disposition before ours; unset while the guard is being installed.
static PREVIOUS: OnceLock<Result<libc::sigaction, GuardError>> = OnceLock::new();

/// Installs the handler of bus errors, once per process; further calls return the first result.
///
/// A handler that is installed later replaces this one: install others first.
///
/// # Errors
/// When sigaction(2) fails.
pub fn install_sigbus_guard() -> Result<(), GuardError> {
    PREVIOUS.get_or_init(install).as_ref().map(|_| ()).map_err(|error| *error)
}

fn install() -> Result<libc::sigaction, GuardError> {
    // SAFETY: all-zero is a valid sigaction (default handler, empty mask).
    let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    new.sa_sigaction = handler as libc::sighandler_t;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: both point to live structures; the handler has the signature of SA_SIGINFO and is
    // async-signal-safe.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(GuardError(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; errno is this thread's.
    let (code, address, errno) =
        unsafe { ((*info).si_code, (*info).si_addr() as usize, *libc::__errno_location()) };
    let lost_page = code == libc::BUS_ADRERR;
    if !(lost_page && replace_page(address)) {
        chain(signal, info, context);
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
        // A sent signal that was ignored stays so, and any other is sent again. The kernel forces the
        // default action on a fault that is ignored, too: the access is repeated. Either ends the
        // process with the right status.
        // SAFETY: the kernel passes a valid siginfo; signal(2) and raise(3) are async-signal-safe.
        _ => unsafe {
            let ignored = previous.is_some_and(|action| action.sa_sigaction == libc::SIG_IGN);
            let sent = (*info).si_code <= 0;
            if !sent || !ignored {
                libc::signal(signal, libc::SIG_DFL);
            }
            if sent && !ignored {
                libc::raise(signal);
            }
        },
    }
}
