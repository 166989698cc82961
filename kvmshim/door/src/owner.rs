//! Which process a thread belongs to: a vCPU serves only the process that made its VM.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// The process a vCPU belongs to, and the thread of it that was seen last.
pub struct Owner {
    process: u32,
    known_thread: AtomicU32,
}

impl Owner {
    /// `process` is a thread group id in this process's PID namespace.
    pub fn new(process: u32) -> Self {
        Self { process, known_thread: AtomicU32::new(process) }
    }

    /// Whether thread `tid` is one of the owner's.
    ///
    /// Reads `/proc` only for a thread other than the last: a vCPU stays on its thread.
    pub fn has(&self, tid: u32) -> bool {
        if self.known_thread.load(Ordering::Relaxed) == tid {
            return true;
        }
        let own = thread_group(tid) == Some(self.process);
        if own {
            self.known_thread.store(tid, Ordering::Relaxed);
        }
        own
    }
}

fn thread_group(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn knows_its_threads_from_others() {
        let owner = Owner::new(std::process::id());
        assert!(owner.has(std::process::id()));
        assert!(!owner.has(1));
        assert!(!owner.has(u32::MAX));
    }
}
