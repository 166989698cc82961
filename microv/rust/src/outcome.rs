//! What a hypercall answers: done, a value, "call again", an exit, or a failure.

use crate::abi::status;

/// A hypercall that did what was asked, wholly or in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to hand back; R10 keeps what it had.
    Done,
    /// R10.
    Value(u64),
    /// The time budget is used up, or a vCPU has not acknowledged yet: the caller makes the identical
    /// call again.
    Retry,
    /// The guest left; `reason` (mv_exit_reason_t) goes to R10, details are on the shared page.
    Exit {
        /// mv_exit_reason_t.
        reason: u64,
        /// MV_STATUS_SUCCESS, or one of the two EXIT statuses.
        status: u64,
    },
}

/// A hypercall that was refused and changed nothing, unless its description says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Anything without a status of its own: state, page contents, exhausted pools.
    Unknown,
    /// No such group, index or flag, or a reserved one.
    Unsupported,
    /// R10 is no open handle.
    InvalidHandle,
    /// R10 is bad in a call where it is not a handle.
    Reg0,
    /// R11 is bad.
    Reg1,
    /// R12 is bad.
    Reg2,
    /// R13 is bad.
    Reg3,
}

/// What every operation returns.
pub type OpResult = Result<Outcome, Failure>;

impl Outcome {
    /// mv_status_t.
    pub fn status(self) -> u64 {
        match self {
            Outcome::Done | Outcome::Value(_) => status::MV_STATUS_SUCCESS,
            Outcome::Retry => status::MV_STATUS_RETRY_CONTINUATION,
            Outcome::Exit { status, .. } => status,
        }
    }

    /// What R10 becomes, where the call has an answer.
    pub fn r10(self) -> Option<u64> {
        match self {
            Outcome::Done | Outcome::Retry => None,
            Outcome::Value(value) => Some(value),
            Outcome::Exit { reason, .. } => Some(reason),
        }
    }
}

impl Failure {
    /// mv_status_t.
    pub fn status(self) -> u64 {
        match self {
            Failure::Unknown => status::MV_STATUS_FAILURE_UNKNOWN,
            Failure::Unsupported => status::MV_STATUS_FAILURE_UNSUPPORTED,
            Failure::InvalidHandle => status::MV_STATUS_FAILURE_INVALID_HANDLE,
            Failure::Reg0 => status::MV_STATUS_INVALID_INPUT_REG0,
            Failure::Reg1 => status::MV_STATUS_INVALID_INPUT_REG1,
            Failure::Reg2 => status::MV_STATUS_INVALID_INPUT_REG2,
            Failure::Reg3 => status::MV_STATUS_INVALID_INPUT_REG3,
        }
    }
}
