//! Extension: trace_set and trace_read.
#![allow(missing_docs, reason = "each is said")]

super::define::constants! {
    MV_TRACE_EXITS = 1 << 0;
    MV_TRACE_EVENTS = 1 << 1;
    MV_TRACE_INSTRUCTIONS = 1 << 2;
    MV_TRACE_ALL = 7;

    /// In R12 of trace_read: from the next record on that is written.
    MV_TRACE_NOW = 0xFFFF_FFFF_FFFF_FFFF;
    MV_TRACE_MAX_RECORDS = 63;

    /// `detail` is mv_exit_reason_t. `data` of an exit for a port, memory or an MSR: address, value of a
    /// write, bytes, and bit 0 for a write, bits 63:32 elements. Of a hypercall: RAX, RBX, RCX, RDX. Of
    /// debug_set: vector, DR6. Of an instruction that is not emulated: 16 bytes, how many count.
    MV_TRACE_KIND_EXIT = 0;
    /// What the instruction gets that left last. `data`: value, bytes.
    MV_TRACE_KIND_ANSWER = 1;
    /// `detail` is MV_TRACE_EVENT_*. `data`: vector, error code, 1 where it has one.
    MV_TRACE_KIND_EVENT = 2;
    /// `detail` is 16, 32 or 64, the code size. `data`: 16 bytes from the instruction on, how many
    /// of them could be fetched (at most 15), its linear address.
    MV_TRACE_KIND_INSTRUCTION = 3;

    MV_TRACE_EVENT_INTERRUPT = 0;
    MV_TRACE_EVENT_NMI = 1;
    MV_TRACE_EVENT_SMI = 2;
    MV_TRACE_EVENT_EXCEPTION = 3;
    MV_TRACE_EVENT_SOFTWARE_INTERRUPT = 4;
    MV_TRACE_EVENT_INIT = 5;
    MV_TRACE_EVENT_START_UP = 6;
}

super::define::layouts! {
    mv_trace_record_t, size 0x40 {
        /// Of the records of the VS, from 0.
        0x00 number: u64,
        /// The host's time-stamp counter.
        0x08 tsc: u64,
        0x10 rip: u64,
        /// MV_TRACE_KIND_*
        0x18 kind: u32,
        0x1C detail: u32,
        0x20 data: [u64; 4],
    }

    mv_trace_t, size 0x1000 {
        /// R12 of the call that goes on from here.
        0x00 next: u64,
        /// Records from R12 on that nobody will see.
        0x08 lost: u64,
        0x10 num_records: u64,
        /// The host's time-stamp counter now, and its frequency.
        0x18 tsc: u64,
        0x20 tsc_khz: u64,
        0x28 reserved: [u64; 3],
        0x40 records: [super::trace::mv_trace_record_t; 63],
    }
}
