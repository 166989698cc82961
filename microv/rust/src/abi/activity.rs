//! Extension: activity_get.
#![allow(missing_docs, reason = "each is said")]

super::define::constants! {
    /// The VS is not in run: the root has it.
    MV_ACTIVITY_ROOT = 0;
    /// Executes.
    MV_ACTIVITY_RUNNING = 1;
    /// Sleeps in run after HLT.
    MV_ACTIVITY_HALTED = 2;
    /// Sleeps in run until INIT comes, as an application processor that was never started.
    MV_ACTIVITY_WAIT_FOR_INIT = 3;
    /// Sleeps in run until a start-up comes.
    MV_ACTIVITY_WAIT_FOR_SIPI = 4;
    /// Sleeps in run until a VS that its guest wants to flush may be flushed.
    MV_ACTIVITY_SUSPENDED = 5;

    MV_PENDING_NONE = 0;
    MV_PENDING_IO_IN = 1;
    MV_PENDING_IO_OUT = 2;
    MV_PENDING_MMIO_READ = 3;
    MV_PENDING_MMIO_WRITE = 4;
    MV_PENDING_MSR = 5;
    MV_PENDING_HYPERCALL = 6;

    /// In `last_exit`: run has not come back yet.
    MV_ACTIVITY_NO_EXIT = 0xFFFF_FFFF_FFFF_FFFF;
    /// In `suspended_on`: the VS is not suspended.
    MV_ACTIVITY_NOT_SUSPENDED = 0xFFFF_FFFF_FFFF_FFFF;
}

super::define::layouts! {
    mv_activity_t, size 0x30 {
        /// MV_ACTIVITY_*
        0x00 activity: u64,
        /// MV_PENDING_*: the instruction that the next run finishes. Only with MV_ACTIVITY_ROOT.
        0x08 pending: u64,
        /// mv_exit_reason_t that run came back with last, or MV_ACTIVITY_NO_EXIT.
        0x10 last_exit: u64,
        /// mv_mp_state_t. Only with MV_ACTIVITY_ROOT.
        0x18 mp_state: u64,
        /// The VS that may not be flushed, or MV_ACTIVITY_NOT_SUSPENDED. Whether the VS is in run or not.
        0x20 suspended_on: u64,
        /// Code of the hypercall that the guest makes again then. Only where it is suspended.
        0x28 hypercall: u64,
    }
}
