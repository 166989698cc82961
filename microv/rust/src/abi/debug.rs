//! Extension: debug_set. Steps and breakpoints of the root, which the guest does not see.
#![allow(missing_docs, reason = "the names follow the specification's")]

super::define::constants! {
    /// Leave after each instruction.
    MV_DEBUG_STEP = 1 << 0;
    /// The registers of mv_debug_t count in place of the VS's.
    MV_DEBUG_POINTS = 1 << 1;
    /// Leave at INT3 instead of raising #BP.
    MV_DEBUG_INT3 = 1 << 2;
    /// No interrupt is taken.
    MV_DEBUG_BLOCK_INTERRUPTS = 1 << 3;
    MV_DEBUG_ALL = 0xF;
}

super::define::layouts! {
    mv_debug_t, size 0x30 {
        /// MV_DEBUG_*; with STEP or POINTS no #DB reaches the guest.
        0x00 flags: u64,
        0x08 dr: [u64; 4],
        0x28 dr7: u64,
    }
}
