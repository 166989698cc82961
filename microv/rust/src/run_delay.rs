//! How long a thread of the host was ready to run and had to wait for a CPU: the second number of
//! `/proc/<tid>/schedstat` (Linux, `Documentation/scheduler/sched-stats.rst`), nanoseconds.
//!
//! A host without it keeps nobody waiting as far as is known here.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

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
        let mut text = [0; 64];
        let len = self.file.read_at(&mut text, 0).unwrap_or(0);
        let now = parse(&text[..len]).unwrap_or(self.seen_ns);
        now.saturating_sub(std::mem::replace(&mut self.seen_ns, now))
    }
}

/// As [`RunDelay::grown_ns`], of the calling thread; 0 the first time.
pub fn own_grown_ns() -> u64 {
    OWN.with_borrow_mut(|own| match own {
        Some(own) => own.grown_ns(),
        None => {
            *own = RunDelay::at("/proc/thread-self/schedstat");
            0
        }
    })
}

fn parse(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts() {
        assert_eq!(parse(b"1234 5678 9\n"), Some(5678));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 x 2"), None);
    }

    #[test]
    fn a_thread_that_is_none_waits_for_nothing() {
        assert!(RunDelay::of(u32::MAX).is_none());
    }
}
