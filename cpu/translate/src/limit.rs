//! How much memory translated code may take: a limit that the processors of a machine share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: usize = 1 << 20;
/// Bytes that a processor may have in any case: less than a few blocks would be made again and again.
const LEAST_SHARE: usize = 256 << 10;

/// What all processors of a machine may have together.
#[derive(Debug)]
pub struct CodeLimit {
    bytes: usize,
    sharers: AtomicUsize,
}

impl CodeLimit {
    /// MiB without a choice.
    pub const DEFAULT_MIB: u16 = 256;
    /// Most MiB: branches reach 2 GiB.
    pub const MOST_MIB: u16 = 1024;

    /// A limit in MiB; None for 0 and for more than [`Self::MOST_MIB`].
    #[must_use]
    pub fn from_mib(mib: u64) -> Option<Self> {
        let known = (1..=u64::from(Self::MOST_MIB)).contains(&mib);
        known.then(|| CodeLimit { bytes: mib as usize * MIB, sharers: AtomicUsize::new(0) })
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more processor that has code.
    pub(crate) fn join(self: &Arc<Self>) -> CodeShare {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        CodeShare(Arc::clone(self))
    }
}

impl Default for CodeLimit {
    fn default() -> Self {
        let bytes = usize::from(Self::DEFAULT_MIB) * MIB;
        CodeLimit { bytes, sharers: AtomicUsize::new(0) }
    }
}

/// What of it one processor may have, as long as this lives.
pub(crate) struct CodeShare(Arc<CodeLimit>);

impl CodeShare {
    /// Bytes now: less when other processors have come, more when they have gone.
    pub(crate) fn bytes(&self) -> usize {
        (self.0.bytes / self.0.sharers.load(Ordering::Relaxed)).max(LEAST_SHARE)
    }
}

impl Drop for CodeShare {
    fn drop(&mut self) {
        self.0.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_share_alike() {
        let limit = Arc::new(CodeLimit::from_mib(4).expect("4 MiB"));
        let first = limit.join();
        assert_eq!(first.bytes(), 4 * MIB);
        let second = limit.join();
        assert_eq!((first.bytes(), second.bytes()), (2 * MIB, 2 * MIB));
        drop(first);
        assert_eq!(second.bytes(), 4 * MIB);
    }

    #[test]
    fn each_has_room_for_some_blocks() {
        let limit = Arc::new(CodeLimit::from_mib(1).expect("1 MiB"));
        let shares: Vec<_> = (0..100).map(|_| limit.join()).collect();
        assert!(shares.iter().all(|share| share.bytes() == LEAST_SHARE));
    }

    #[test]
    fn a_limit_is_one_that_branches_reach() {
        let most = u64::from(CodeLimit::MOST_MIB);
        let known = [0, 1, most, most + 1, u64::MAX].map(|mib| CodeLimit::from_mib(mib).is_some());
        assert_eq!(known, [false, true, true, false, false]);
    }
}
