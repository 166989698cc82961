//! Extension: probe.
#![allow(missing_docs, reason = "each is said")]

super::define::constants! {
    /// The access stores.
    MV_PROBE_WRITE = 1 << 0;
    /// User code makes it.
    MV_PROBE_USER = 1 << 1;
    /// It fetches. With neither this nor MV_PROBE_WRITE it loads.
    MV_PROBE_EXECUTE = 1 << 2;
    /// Accessed bits of the paging structures are set if there is a translation.
    MV_PROBE_SET_ACCESSED = 1 << 3;
    /// The dirty bit as well.
    MV_PROBE_SET_DIRTY = 1 << 4;
    /// Without a translation accessed bits are set of the entries before the one that ended the walk.
    MV_PROBE_FORCE_ACCESSED = 1 << 5;

    /// There is a translation.
    MV_PROBE_FOUND = 0;
    MV_PROBE_NOT_PRESENT = 1;
    /// An entry, or a protection key, denies the access.
    MV_PROBE_DENIED = 2;
    MV_PROBE_RESERVED_BIT = 3;
    /// Not canonical, or of more than 32 bits outside long mode.
    MV_PROBE_NO_ADDRESS = 4;
    /// There is no memory where an entry, or the page itself, is to be.
    MV_PROBE_NO_MEMORY = 5;
}

super::define::layouts! {
    mv_probe_t, size 0x18 {
        /// Guest-physical address, offset included. Without a translation that of the entry that ended
        /// the walk, or of the page that is not there.
        0x00 gpa: u64,
        /// MV_PROBE_FOUND, or why there is no translation.
        0x08 failure: u64,
        /// 1 where the bits that were asked for are set.
        0x10 marked: u64,
    }
}
