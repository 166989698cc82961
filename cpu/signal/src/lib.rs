//! A handler of ours for a signal that faults raise (sigaction(2)), before whatever was there.
//!
//! `unsafe`: signal handlers have no safe form.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::OnceLock;
use std::{fmt, mem};

/// A handler with `SA_SIGINFO`.
pub type SignalHandler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Why a guard could not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardError {
    signal: &'static str,
    /// The errno of sigaction(2).
    errno: i32,
}

impl fmt::Display for GuardError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sigaction({}): errno {}", self.signal, self.errno)
    }
}

impl std::error::Error for GuardError {}

/// The handler of a signal, and what was there before.
pub struct SignalGuard {
    signal: c_int,
    name: &'static str,
    handler: SignalHandler,
    /// Unset while the guard is being installed.
    previous: OnceLock<Result<libc::sigaction, GuardError>>,
}

impl SignalGuard {
    /// A guard that is yet to be [installed](Self::install).
    ///
    /// # Safety
    /// The handler is async-signal-safe and leaves `errno` as it was.
    #[must_use]
    pub const unsafe fn new(signal: c_int, name: &'static str, handler: SignalHandler) -> Self {
        SignalGuard { signal, name, handler, previous: OnceLock::new() }
    }

    /// Installs the handler, once per process; further calls return the first result.
    ///
    /// # Errors
    /// When sigaction(2) fails.
    pub fn install(&self) -> Result<(), GuardError> {
        let installed = self.previous.get_or_init(|| self.replace());
        installed.as_ref().map(|_| ()).map_err(|error| *error)
    }

    fn replace(&self) -> Result<libc::sigaction, GuardError> {
        // SAFETY: all-zero is a valid sigaction (default handler, empty mask).
        let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { mem::zeroed() };
        new.sa_sigaction = self.handler as libc::sighandler_t;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: both point to live structures; the handler has the signature of SA_SIGINFO and is
        // what `new` was promised.
        if unsafe { libc::sigaction(self.signal, &raw const new, &raw mut old) } == 0 {
            return Ok(old);
        }
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        Err(GuardError { signal: self.name, errno })
    }

    /// Does what would have happened without the guard. Async-signal-safe.
    ///
    /// # Safety
    /// The handler calls it with what the kernel has passed.
    pub unsafe fn chain(&self, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let signal = self.signal;
        let previous = self.previous.get().and_then(|result| result.as_ref().ok());
        match previous {
            Some(action)
                if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN =>
            {
                // SAFETY: sigaction returned this address as the handler of the process, with the
                // signature that its SA_SIGINFO flag says.
                unsafe {
                    if action.sa_flags & libc::SA_SIGINFO != 0 {
                        let handler: SignalHandler = mem::transmute(action.sa_sigaction);
                        handler(signal, info, context);
                    } else {
                        let handler: extern "C" fn(c_int) = mem::transmute(action.sa_sigaction);
                        handler(signal);
                    }
                }
            }
            // A sent signal that was ignored stays so, and any other is sent again. The kernel forces
            // the default action on a fault that is ignored, too: what faulted is repeated. Either
            // ends the process with the right status.
            // SAFETY: siginfo is valid; signal(2) and raise(3) are async-signal-safe.
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
}
