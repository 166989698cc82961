//! What the host's scheduler tells of a thread: `/proc/<tid>/schedstat` (Linux,
//! `Documentation/scheduler/sched-stats.rst`). Not every host has it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The file of the calling thread.
pub const OWN: &str = "/proc/thread-self/schedstat";

/// Its numbers.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Number {
    /// Nanoseconds on a CPU.
    Executed = 0,
    /// Nanoseconds ready to run, waiting for a CPU.
    Waited = 1,
}

/// One number as it is now; None where there is none.
pub fn read(file: &File, number: Number) -> Option<u64> {
    let mut text = [0; 64];
    let len = file.read_at(&mut text, 0).ok()?;
    parse(&text[..len], number)
}

fn parse(text: &[u8], number: Number) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(number as usize)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts() {
        assert_eq!(parse(b"1234 5678 9\n", Number::Waited), Some(5678));
        assert_eq!(parse(b"", Number::Waited), None);
        assert_eq!(parse(b"1 x 2", Number::Waited), None);
    }

    #[test]
    fn hv_05_the_first_number_counts() {
        assert_eq!(parse(b"1234 5678 9\n", Number::Executed), Some(1234));
        assert_eq!(parse(b"", Number::Executed), None);
    }
}
