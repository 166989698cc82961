//! Root-physical memory: which addresses of this process a hypercall may name.
//!
//! The root VM is this process, so its memory map is `/proc/self/maps` (proc_pid_maps(5)). An address
//! is looked up once, when it is handed over; from then on it is the caller's duty to keep it mapped.

/// What the memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Loads only.
    Read,
    /// Loads and stores.
    ReadWrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    readable: bool,
    writable: bool,
}

/// A snapshot of the memory map.
#[derive(Debug)]
pub struct HostMemory {
    /// In ascending order, without overlap.
    mappings: Vec<Mapping>,
}

impl HostMemory {
    /// The map of this process now; empty where /proc does not tell.
    pub fn now() -> HostMemory {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        HostMemory { mappings: text.lines().filter_map(parse).collect() }
    }

    /// Every byte of `[start, start + bytes)` is mapped with the needed rights.
    pub fn allows(&self, start: u64, bytes: u64, need: Need) -> bool {
        let Some(end) = start.checked_add(bytes) else { return false };
        let first = self.mappings.partition_point(|mapping| mapping.end <= start);
        let mut reached = start;
        for mapping in &self.mappings[first..] {
            if reached >= end {
                break;
            }
            let enough = mapping.readable && (mapping.writable || need == Need::Read);
            if mapping.start > reached || !enough {
                return false;
            }
            reached = mapping.end;
        }
        reached >= end
    }
}

/// One line: `start-end perms offset device inode path`.
fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes();
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        readable: rights.first() == Some(&b'r'),
        writable: rights.get(1) == Some(&b'w'),
    })
}

/// Memory maps for tests.
#[cfg(test)]
pub mod fake {
    use super::{HostMemory, Mapping};

    /// All addresses may be written.
    pub fn everything() -> HostMemory {
        let all = Mapping { start: 0, end: u64::MAX, readable: true, writable: true };
        HostMemory { mappings: vec![all] }
    }

    /// No address exists.
    pub fn nothing() -> HostMemory {
        HostMemory { mappings: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-3000 rw-p 00000000 00:00 0
3000-4000 r--s 00000000 00:01 7 /memfd:x (deleted)
5000-6000 rw-p 00000000 00:00 0 [heap]
6000-7000 ---p 00000000 00:00 0
7fffffffe000-ffffffffffffffff rw-p 00000000 00:00 0 [stack]
";

    fn host() -> HostMemory {
        HostMemory { mappings: MAPS.lines().filter_map(parse).collect() }
    }

    #[test]
    fn a_range_may_span_adjacent_mappings() {
        assert!(host().allows(0x1000, 0x3000, Need::Read));
        assert!(!host().allows(0x1000, 0x3000, Need::ReadWrite));
        assert!(host().allows(0x1000, 0x2000, Need::ReadWrite));
    }

    #[test]
    fn holes_and_ends_are_refused() {
        for (start, bytes) in [(0, 0x1000), (0x3000, 0x2000), (0x5000, 0x2000), (0x8000, 0x1000)] {
            assert!(!host().allows(start, bytes, Need::Read), "{start:#x}+{bytes:#x}");
        }
        assert!(!host().allows(u64::MAX - 0xFFF, 0x2000, Need::Read));
    }

    #[test]
    fn this_stack_is_writable_and_this_code_is_not() {
        let local = 0_u8;
        let now = HostMemory::now();
        assert!(now.allows(&raw const local as u64, 1, Need::ReadWrite));
        let code = parse as *const () as u64;
        assert!(now.allows(code, 1, Need::Read));
        assert!(!now.allows(code, 1, Need::ReadWrite));
    }
}
