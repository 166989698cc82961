//! Extension: clock_get and clock_set of a VM. The clock of mk-demo is a VS's; what guests of one VM
//! show each other must be one.
#![allow(missing_docs, reason = "the names follow the specification's")]

super::define::layouts! {
    /// The same moment by three clocks.
    mv_clock_t, size 0x18 {
        /// The VM's clock in ns.
        0x00 clock: u64,
        /// The host's CLOCK_REALTIME in ns.
        0x08 realtime: u64,
        /// The host's time-stamp counter.
        0x10 tsc: u64,
    }
}
