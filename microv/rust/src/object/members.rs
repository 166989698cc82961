//! How many objects stand on an object, and whether it has been retired: the rule "VS before VP before
//! VM" without a lock.

use std::sync::atomic::{AtomicU32, Ordering};

const RETIRED: u32 = u32::MAX;

/// The count of a parent's children.
#[derive(Debug, Default)]
pub struct Members(AtomicU32);

/// Why a parent cannot be retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetireError {
    /// Something still stands on it.
    InUse,
    /// Somebody else retired it.
    AlreadyRetired,
}

impl Members {
    /// Counts one more child; false where the parent is retired already.
    pub fn join(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count != RETIRED).then(|| count + 1)
            })
            .is_ok()
    }

    /// Counts one child less.
    pub fn leave(&self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before != 0 && before != RETIRED);
    }

    /// Closes the parent to new children; exactly one caller succeeds, and only without children.
    pub fn retire(&self) -> Result<(), RetireError> {
        match self.0.compare_exchange(0, RETIRED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(RETIRED) => Err(RetireError::AlreadyRetired),
            Err(_) => Err(RetireError::InUse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retires_once_and_only_when_empty() {
        let members = Members::default();
        assert!(members.join());
        assert_eq!(members.retire(), Err(RetireError::InUse));
        members.leave();
        assert_eq!(members.retire(), Ok(()));
        assert_eq!(members.retire(), Err(RetireError::AlreadyRetired));
        assert!(!members.join());
    }
}
