//! Object IDs (16 bits, one space for each kind of object) and limits.
//!
//! Root VP n and root VS n belong to PP n, so the first MV_MAX_PPS numbers of both spaces are never
//! given to a guest.
#![allow(missing_docs, reason = "the names are the specification's")]

super::define::constants! {
    MV_INVALID_ID = 0xFFFF;
    MV_SELF_ID = 0xFFFE;
    MV_ALL_ID = 0xFFFD;
    MV_BS_PPID = 0;
    MV_ROOT_VMID = 0;

    MV_MAX_HANDLES = 1024;
    MV_MAX_PPS = 1024;
    MV_MAX_VMS = 1024;
    MV_MAX_VPS = 8192;
    MV_MAX_VSS = 8192;
    /// Extension. MiB that the translated code of a VM may take.
    MV_MAX_CODE_CACHE_MIB = 1024;

    MV_PAGE_SIZE = 0x1000;
    MV_PAGE_SHIFT = 12;
    /// First guest-physical address that does not exist.
    MV_MAX_GPA = 0x0000_2000_0000_0000;
}
