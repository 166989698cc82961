//! Which process a thread belongs to: a VM and its vCPUs serve only the process that made the VM.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// Threads that are remembered, by the last bits of their number.
const KNOWN: usize = 16;

/// The process a vCPU or VM belongs to, and threads of it that were seen last.
pub struct Owner {
    process: u32,
    known_threads: [AtomicU32; KNOWN],
}

impl Owner {
    /// `process` is a thread group id in this process's PID namespace.
    pub fn new(process: u32) -> Self {
        Self { process, known_threads: Default::default() }
    }

    /// Whether thread `tid` is one of the owner's.
    ///
    /// Reads `/proc` only for a thread that it does not remember.
    pub fn has(&self, tid: u32) -> bool {
        let known = &self.known_threads[tid as usize % KNOWN];
        if tid != 0 && known.load(Ordering::Relaxed) == tid {
            return true;
        }
        let own = thread_group(tid) == Some(self.process);
        if own {
            known.store(tid, Ordering::Relaxed);
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
        assert!(!owner.has(0));
    }
}
