//! How long a thread of the host was ready to run and had to wait for a CPU, nanoseconds.
//!
//! A host without it keeps nobody waiting as far as is known here.

use std::cell::RefCell;
use std::fs::File;

use crate::schedstat::{self, Number};

thread_local! {
    static OWN: RefCell<Option<RunDelay>> = const { RefCell::new(None) };
}

/// The waits of one thread.
#[derive(Debug)]
pub struct RunDelay {
    file: File,
    seen_ns: u64,
}

impl RunDelay {
    /// Those of a thread from now on. None where there is no such thread.
    pub fn of(thread: u32) -> Option<RunDelay> {
        RunDelay::at(&format!("/proc/{thread}/schedstat"))
    }

    fn at(path: &str) -> Option<RunDelay> {
        let mut delay = RunDelay { file: File::open(path).ok()?, seen_ns: 0 };
        delay.grown_ns();
        Some(delay)
    }

    /// By how much they have grown since the last call.
    pub fn grown_ns(&mut self) -> u64 {
        let now = schedstat::read(&self.file, Number::Waited).unwrap_or(self.seen_ns);
        now.saturating_sub(std::mem::replace(&mut self.seen_ns, now))
    }
}

/// As [`RunDelay::grown_ns`], of the calling thread; 0 the first time.
pub fn own_grown_ns() -> u64 {
    OWN.with_borrow_mut(|own| match own {
        Some(own) => own.grown_ns(),
        None => {
            *own = RunDelay::at(schedstat::OWN);
            0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_none_waits_for_nothing() {
        assert!(RunDelay::of(u32::MAX).is_none());
    }
}
