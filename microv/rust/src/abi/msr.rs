//! Extension: msr_leave_set, msr_filter_set. Which MSRs the VSs of a VM may touch, and which refusals
//! leave with mv_exit_msr_t instead of raising #GP.
#![allow(missing_docs, reason = "the names follow the specification's")]

super::define::constants! {
    /// The MSR cannot hold the value.
    MV_MSR_LEAVE_INVALID = 1 << 0;
    /// There is no such MSR.
    MV_MSR_LEAVE_UNKNOWN = 1 << 1;
    /// The filter denies the access.
    MV_MSR_LEAVE_DENIED = 1 << 2;
    MV_MSR_LEAVE_ALL = 0x7;

    /// The range is the first of a new filter.
    MV_MSR_FILTER_FIRST = 1 << 0;
    /// The filter is complete and takes effect; it allows everything if it has neither ranges nor DENY.
    MV_MSR_FILTER_LAST = 1 << 1;
    /// With FIRST: MSRs in no range are denied.
    MV_MSR_FILTER_DENY = 1 << 2;
    /// The range counts for reads, for writes.
    MV_MSR_FILTER_READ = 1 << 3;
    MV_MSR_FILTER_WRITE = 1 << 4;
    MV_MSR_FILTER_ALL = 0x1F;
    MV_MSR_FILTER_MAX_RANGES = 16;
    MV_MSR_FILTER_MAX_MSRS = 0x3000;
}

super::define::layouts! {
    /// A range of a filter.
    mv_msr_filter_t, size 0x610 {
        /// MV_MSR_FILTER_*.
        0x000 flags: u64,
        0x008 first: u32,
        /// How many MSRs; 0 for no range.
        0x00C count: u32,
        /// A bit for each MSR: the access is allowed.
        0x010 bitmap: [u8; 0x600],
    }
}
