//! What became of a line's change.

use super::delivery::Delivered;

/// What KVM_IRQ_LINE_STATUS tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOutcome {
    /// Masked, or leads nowhere.
    Ignored,
    /// Pending already.
    Coalesced,
    /// So many interrupts were raised.
    Raised(usize),
}

impl From<Delivered> for LineOutcome {
    fn from(delivered: Delivered) -> Self {
        match delivered {
            Delivered::ToNobody => LineOutcome::Ignored,
            Delivered::Coalesced => LineOutcome::Coalesced,
            Delivered::To(count) => LineOutcome::Raised(count),
        }
    }
}

impl LineOutcome {
    /// The sum over the routes of a line.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ignored, other) => other,
            (this, Self::Ignored) => this,
            (Self::Coalesced, other) => other,
            (this, Self::Coalesced) => this,
            (Self::Raised(some), Self::Raised(more)) => Self::Raised(some + more),
        }
    }
}
