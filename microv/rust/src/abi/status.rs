//! mv_status_t, RAX on return: 63:48 zero or 0xDEAD, 47:16 flags, 15:0 class.
//!
//! Where specification and headers disagree (UNSUPPORTED and INVALID_HANDLE, the two EXIT statuses)
//! the headers' numbers are used.
#![allow(missing_docs, reason = "the names are the specification's")]

super::define::constants! {
    MV_STATUS_SUCCESS = 0x0;
    MV_STATUS_FAILURE_UNKNOWN = 0xDEAD_0000_0001_0001;
    MV_STATUS_FAILURE_INVALID_HANDLE = 0xDEAD_0000_0002_0001;
    MV_STATUS_FAILURE_UNSUPPORTED = 0xDEAD_0000_0004_0001;
    /// The caller is not the root VM. Never produced: nobody else can call.
    MV_STATUS_INVALID_PERM_DENIED = 0xDEAD_0000_0001_0002;
    MV_STATUS_INVALID_INPUT_REG0 = 0xDEAD_0000_0001_0003;
    MV_STATUS_INVALID_INPUT_REG1 = 0xDEAD_0000_0002_0003;
    MV_STATUS_INVALID_INPUT_REG2 = 0xDEAD_0000_0004_0003;
    MV_STATUS_INVALID_INPUT_REG3 = 0xDEAD_0000_0008_0003;
    MV_STATUS_INVALID_OUTPUT_REG0 = 0xDEAD_0000_0010_0003;
    MV_STATUS_INVALID_OUTPUT_REG1 = 0xDEAD_0000_0020_0003;
    MV_STATUS_INVALID_OUTPUT_REG2 = 0xDEAD_0000_0040_0003;
    MV_STATUS_INVALID_OUTPUT_REG3 = 0xDEAD_0000_0080_0003;
    /// Not a failure: make the identical call again, and no other in between.
    MV_STATUS_RETRY_CONTINUATION = 0xDEAD_0000_0010_0004;
    MV_STATUS_RETRY_CONTINUATION_SCC = 0xDEAD_0000_0020_0004;
    /// run left with mv_exit_failure_t on the page.
    MV_STATUS_EXIT_FAILURE = 0xDEAD_0000_0010_0005;
    /// run left with mv_exit_unknown_t on the page.
    MV_STATUS_EXIT_UNKNOWN = 0xDEAD_0000_0020_0005;
}
