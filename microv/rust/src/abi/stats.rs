//! Extension: stats_get of a VM and of a VS.
#![allow(missing_docs, reason = "each is said")]

super::define::layouts! {
    /// Counts since the VM was created; `pages` is what there is now.
    mv_vm_stats_t, size 0x18 {
        /// Changes of the page map or the dirty log that VSs had to be told of.
        0x00 flush_requests: u64,
        /// Those for which a VS in use had to be waited for.
        0x08 flushes: u64,
        /// Guest pages that are mapped.
        0x10 pages: u64,
    }

    /// Counts since the VS was created.
    mv_vs_stats_t, size 0xB8 {
        /// Exits of any kind, also those that are answered without the caller of run.
        0x00 exits: u64,
        /// Port accesses.
        0x08 io_exits: u64,
        /// Accesses to memory that is not mapped.
        0x10 mmio_exits: u64,
        /// HLT.
        0x18 hlt_exits: u64,
        /// Exits that a kick asked for.
        0x20 interrupt_exits: u64,
        /// Exits because an interrupt could be delivered.
        0x28 interrupt_window_exits: u64,
        /// Instructions that are not emulated.
        0x30 unknown_exits: u64,
        /// External interrupts delivered.
        0x38 interrupts: u64,
        /// NMIs delivered.
        0x40 nmis: u64,
        /// Times the VS has dropped its translations because the page map changed.
        0x48 flushes: u64,
        /// RDMSR and WRMSR.
        0x50 msr_exits: u64,
        /// VMCALL and VMMCALL.
        0x58 hypercall_exits: u64,
        /// Steps and breakpoints of debug_set.
        0x60 debug_exits: u64,
        /// Accesses to memory that refuse_set refuses.
        0x68 memory_fault_exits: u64,
        /// Triple faults, and an SMI that could not be entered.
        0x70 shutdown_exits: u64,
        /// Exits to have dirty_log_take called.
        0x78 noted_exits: u64,
        /// Times that run came back to its caller with an exit.
        0x80 left: u64,
        /// Instructions that ran to their end; a string instruction counts each time that it is
        /// interrupted. While the VS runs, those until it was asked last.
        0x88 instructions: u64,
        /// Page faults that the guest has caused.
        0x90 page_faults: u64,
        /// Notifications that found the VS asleep in HLT, or waiting for its start.
        0x98 wakeups: u64,
        /// Nanoseconds that it has slept in HLT, as of the last time that it woke up or left.
        0xA0 hlt_wait_ns: u64,
        /// 1 while it sleeps in HLT or waits for its start, otherwise 0.
        0xA8 asleep: u64,
        /// Times that the guest's other VSs were told that it does not execute (MSR_KVM_STEAL_TIME).
        0xB0 preemptions: u64,
    }
}
