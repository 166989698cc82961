//! Memory descriptor lists (mmio_map, mmio_unmap) and the map flags of their entries, which
//! gla_to_gpa also answers with.
#![allow(missing_docs, reason = "the names are the specification's")]

super::define::constants! {
    MV_MAP_FLAG_READ_ACCESS = 1 << 0;
    MV_MAP_FLAG_WRITE_ACCESS = 1 << 1;
    MV_MAP_FLAG_EXECUTE_ACCESS = 1 << 2;
    MV_MAP_FLAG_USER = 1 << 3;
    MV_MAP_FLAG_4K_PAGE = 1 << 9;
    MV_MAP_FLAG_2M_PAGE = 1 << 10;
    MV_MAP_FLAG_1G_PAGE = 1 << 11;
    MV_MAP_FLAG_UNCACHEABLE = 1 << 57;
    MV_MAP_FLAG_UNCACHEABLE_MINUS = 1 << 58;
    MV_MAP_FLAG_WRITE_COMBINING = 1 << 59;
    MV_MAP_FLAG_WRITE_COMBINING_PLUS = 1 << 60;
    MV_MAP_FLAG_WRITE_THROUGH = 1 << 61;
    MV_MAP_FLAG_WRITE_BACK = 1 << 62;
    MV_MAP_FLAG_WRITE_PROTECTED = 1 << 63;

    /// Extension. Writes to the run are logged, none of its pages written yet.
    MV_MAP_FLAG_LOG_WRITES = 1 << 52;

    MV_MDL_MAX_ENTRIES = 125;

    /// Extension. In a guest-physical address of mmio_map, mmio_unmap and dirty_log_*: one that VSs
    /// see in system management mode. That address space has no memory in common with the other.
    MV_GPA_SMM = 1 << 62;

    /// dirty_log_set: log writes, else stop.
    MV_DIRTY_LOG_ON = 1 << 0;
    /// dirty_log_set: begin with every page written.
    MV_DIRTY_LOG_ALL_WRITTEN = 1 << 1;
    /// Guest pages whose bits fit on a page.
    MV_DIRTY_LOG_MAX_PAGES = 0x8000;
}

super::define::layouts! {
    /// Extension. Pages of a dirty log.
    mv_written_t, size 0x1000 {
        /// How many there are.
        0x000 num_pages: u64,
        /// Guest-physical addresses, page aligned.
        0x008 pages: [u64; 511],
    }

    /// A run of memory. For unmap only `dst` and `bytes` count.
    mv_mdl_entry_t, size 0x20 {
        /// Guest-physical address, page aligned; MV_GPA_SMM allowed.
        0x00 dst: u64,
        /// Root-physical address, page aligned: an address of this process.
        0x08 src: u64,
        /// Length, a multiple of the page size, not 0.
        0x10 bytes: u64,
        /// MV_MAP_FLAG_*; READ is implied, caching is ignored.
        0x18 flags: u64,
    }

    mv_mdl_t, size 0x1000 {
        0x000 reg: [u64; 8],
        0x040 reserved: [u64; 3],
        0x058 num_entries: u64,
        0x060 entries: [mv_mdl_entry_t; 125],
    }
}
