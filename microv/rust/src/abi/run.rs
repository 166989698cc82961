//! run: what goes in (mv_run_t), why it came out (mv_exit_reason_t), what comes out
//! (mv_run_return_t, then the structure of the exit at MV_RUN_RETURN_EXIT_OFFSET).
#![allow(missing_docs, reason = "the names are the specification's")]
#![allow(non_upper_case_globals, reason = "the names are the specification's")]

use cpu_paravirt::hyperv::msr::{SYNDBG_CONTROL, SYNDBG_STATUS};

super::define::constants! {
    mv_exit_reason_t_failure = 0;
    mv_exit_reason_t_unknown = 1;
    mv_exit_reason_t_hlt = 2;
    mv_exit_reason_t_io = 3;
    mv_exit_reason_t_mmio = 4;
    mv_exit_reason_t_msr = 5;
    mv_exit_reason_t_interrupt = 6;
    mv_exit_reason_t_interrupt_window = 7;
    mv_exit_reason_t_nmi = 8;
    mv_exit_reason_t_shutdown = 9;
    /// Extension. A step or breakpoint of debug_set.
    mv_exit_reason_t_debug = 0x40;
    /// Extension. An access to memory that refuse_set refuses.
    mv_exit_reason_t_memory_fault = 0x80;
    /// Extension.
    mv_exit_reason_t_interrupt_end = 0x41;
    /// Extension. Many pages were written for the first time; dirty_log_take tells which.
    mv_exit_reason_t_noted = 0x81;

    /// Extension. VMCALL or VMMCALL of the guest.
    mv_exit_reason_t_hypercall = 0x44;

    /// Extension. An access of the local APIC's task priority that tpr_report_set tells.
    mv_exit_reason_t_tpr_access = 0xC0;

    /// Extension. The guest wants something of the root by the interface of Hyper-V.
    mv_exit_reason_t_hyperv = 0x100;

    /// In `kind` of mv_exit_hyperv_t. Unless another one says so the instruction has ended, and the
    /// next run brings nothing.
    MV_EXIT_HYPERV_CRASH = 1;
    MV_EXIT_HYPERV_RESET = 2;
    /// data: the MSR that was written, then control, status, send, receive and pending buffer.
    MV_EXIT_HYPERV_DEBUG = 3;
    /// data: the input word, then addresses of input and output (or the input itself). The next run
    /// brings MV_EXIT_HYPERCALL_ANSWER_SIZE bytes: the result.
    MV_EXIT_HYPERV_CALL = 4;
    /// data: the MSR that was written, then control, page of event flags and page of messages.
    MV_EXIT_HYPERV_SYNIC = 5;
    /// data: as MV_EXIT_HYPERV_CALL, and the connection that the guest signals, which hyperv_connect has
    /// made known. The next run brings the result as well.
    MV_EXIT_HYPERV_SIGNAL = 6;

    /// With MV_EXIT_HYPERV_DEBUG: what is to be done was written, and gets a status,
    MV_HYPERV_MSR_DEBUG_CONTROL = SYNDBG_CONTROL as u64;
    /// which goes here.
    MV_HYPERV_MSR_DEBUG_STATUS = SYNDBG_STATUS as u64;

    MV_RUN_MAX_REG_ENTRIES = 10;
    MV_RUN_MAX_MSR_ENTRIES = 10;
    MV_RUN_MAX_IOMEM_SIZE = 0xEA0;
    /// Finish the instruction that left last time, execute no other.
    MV_RUN_FLAG_COMPLETE_ONLY = 1 << 0;
    /// Leave also when an external interrupt could be delivered.
    MV_RUN_FLAG_INTERRUPT_WINDOW = 1 << 1;

    MV_RUN_RETURN_EXIT_OFFSET = 0x20;
    /// In `state`: an external interrupt could be delivered now.
    MV_RUN_RETURN_STATE_INTERRUPTIBLE = 1 << 0;
    /// In `state`: the VS is in system management mode. Extension.
    MV_RUN_RETURN_STATE_SMM = 1 << 16;
    /// Extension. In `state`: lines_ended has something to tell.
    MV_RUN_RETURN_STATE_LINES_ENDED = 1 << 1;
    /// In `state`: dirty_log_take has something to tell.
    MV_RUN_RETURN_STATE_NOTED = 1 << 17;

    MV_EXIT_MSR_READ = 1;
    MV_EXIT_MSR_WRITE = 2;
    /// Bytes of iomem that answer an MSR exit: the value of a read, then 0, or not for #GP.
    MV_EXIT_MSR_ANSWER_SIZE = 16;

    /// In `flags` of mv_exit_hypercall_t: the caller is in 64-bit mode.
    MV_EXIT_HYPERCALL_LONG = 1 << 0;
    /// Of hypercall_leave_set: KVM_HC_MAP_GPA_RANGE leaves; without, there is no such hypercall.
    MV_HYPERCALL_LEAVE_MAP_GPA_RANGE = 1 << 12;
    /// Bytes of iomem that answer a hypercall: RAX.
    MV_EXIT_HYPERCALL_ANSWER_SIZE = 8;

    MV_EXIT_IO_IN = 0;
    MV_EXIT_IO_OUT = 1;
    MV_EXIT_IO_MAX_DATA = 1024;

    MV_EXIT_TPR_ACCESS_READ = 1;
    /// The instruction may have read as well.
    MV_EXIT_TPR_ACCESS_WRITE = 2;

    MV_EXIT_MMIO_READ = 1;
    MV_EXIT_MMIO_WRITE = 2;
    MV_EXIT_MMIO_EXECUTE = 4;

    /// In `reason` of mv_exit_failure_t: the state of the VS cannot be entered (SVM's VMEXIT_INVALID).
    MV_EXIT_FAILURE_INVALID_STATE = 0xFFFF_FFFF;
    /// In `reason` of mv_exit_failure_t: an earlier call broke the VS; it can only be destroyed.
    MV_EXIT_FAILURE_POISONED = 0xFFFF_FFFE;
    /// In `reason` of mv_exit_failure_t: an SMI came where a VS of the VM could not save its state. The
    /// VM can only be destroyed.
    MV_EXIT_FAILURE_LOST = 0xFFFF_FFFD;
    /// In `info0` of mv_exit_unknown_t: an instruction that is not emulated.
    /// info1 = number of bytes fetched, info2 and info3 = the bytes, lowest first.
    MV_EXIT_UNKNOWN_EMULATION = 1;

    mv_bit_size_t_8 = 0;
    mv_bit_size_t_16 = 1;
    mv_bit_size_t_32 = 2;
    mv_bit_size_t_64 = 3;
}

super::define::layouts! {
    mv_run_t, size 0x1000 {
        0x000 num_reg_entries: u64,
        0x008 reg_entries: [super::list::mv_rdl_entry_t; 10],
        0x0A8 num_msr_entries: u64,
        0x0B0 msr_entries: [super::list::mv_rdl_entry_t; 10],
        /// Bytes of `iomem` that hold the answer to the last IO IN or MMIO read.
        0x150 num_iomem: u64,
        /// MV_RUN_FLAG_*
        0x158 flags: u64,
        0x160 iomem: [u8; 0xEA0],
    }

    mv_run_return_t, size 0x20 {
        0x00 rflags: u64,
        0x08 cr8: u64,
        0x10 apic_base: u64,
        /// MV_RUN_RETURN_STATE_*
        0x18 state: u64,
    }

    mv_exit_io_t, size 0x420 {
        /// Port.
        0x00 addr: u64,
        /// Number of elements, 1 without REP.
        0x08 reps: u64,
        /// MV_EXIT_IO_IN or MV_EXIT_IO_OUT.
        0x10 r#type: u64,
        /// Size of an element, mv_bit_size_t.
        0x18 size: i32,
        /// Valid bytes of `data` (OUT), or bytes wanted in `iomem` next time (IN).
        0x1C bytes: u32,
        0x20 data: [u8; 1024],
    }

    mv_exit_mmio_t, size 0x30 {
        0x00 gpa: u64,
        /// MV_EXIT_MMIO_READ or MV_EXIT_MMIO_WRITE.
        0x08 flags: u64,
        /// What is written, little endian, zero extended.
        0x10 data: u64,
        0x18 reserved0: u64,
        0x20 reserved1: u64,
        /// Length of the access in bytes, 1..=8.
        0x28 memory_access_size: u64,
    }

    mv_exit_interrupt_end_t, size 0x8 {
        0x00 vector: u64,
    }

    mv_exit_tpr_access_t, size 0x10 {
        /// RIP of the instruction, which is complete.
        0x00 rip: u64,
        /// MV_EXIT_TPR_ACCESS_*
        0x08 flags: u64,
    }

    mv_exit_unknown_t, size 0x20 {
        0x00 info0: u64,
        0x08 info1: u64,
        0x10 info2: u64,
        0x18 info3: u64,
    }

    mv_exit_msr_t, size 0x20 {
        0x00 msr: u64,
        /// MV_EXIT_MSR_READ or MV_EXIT_MSR_WRITE.
        0x08 flags: u64,
        /// What a write wants there.
        0x10 data: u64,
        /// MV_MSR_LEAVE_*.
        0x18 reason: u64,
    }

    mv_exit_hypercall_t, size 0x38 {
        /// RAX, RBX, RCX, RDX, RSI; 32 bits of each outside 64-bit mode.
        0x00 args: [u64; 5],
        /// MV_EXIT_HYPERCALL_*.
        0x28 flags: u64,
        /// The caller's privilege level.
        0x30 cpl: u64,
    }

    mv_exit_hyperv_t, size 0x38 {
        /// MV_EXIT_HYPERV_*
        0x00 kind: u64,
        0x08 data: [u64; 6],
    }

    mv_exit_debug_t, size 0x20 {
        /// 1 for a step or breakpoint, 3 for INT3.
        0x00 vector: u64,
        /// Guest-linear address of the next instruction; of the INT3.
        0x08 rip: u64,
        /// DR6 with the causes; that of the VS is unchanged.
        0x10 dr6: u64,
        /// DR7 that counted.
        0x18 dr7: u64,
    }

    mv_exit_memory_fault_t, size 0x8 {
        /// First byte.
        0x00 gpa: u64,
    }

    mv_exit_failure_t, size 0x8 {
        /// MV_EXIT_FAILURE_*
        0x00 reason: u64,
    }
}
