//! Index of every hypercall within its group, reserved ones included.
//!
//! MicroV Hypercall Specification, "Hypercalls"; clock_get and clock_set as in the mk-demo branch.
//! Indexes from 0x40 are extensions of this implementation.
#![allow(missing_docs, reason = "the names are the specification's")]

super::define::constants! {
    MV_ID_OP_VERSION_IDX_VAL = 0x0;
    MV_ID_OP_GET_CAPABILITY_IDX_VAL = 0x1;
    MV_ID_OP_CLR_CAPABILITY_IDX_VAL = 0x2;
    MV_ID_OP_SET_CAPABILITY_IDX_VAL = 0x3;
    MV_ID_OP_HAS_CAPABILITY_IDX_VAL = 0x4;

    MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL = 0x0;
    MV_HANDLE_OP_CLOSE_HANDLE_IDX_VAL = 0x1;

    MV_DEBUG_OP_OUT_IDX_VAL = 0x0;

    MV_PP_OP_PPID_IDX_VAL = 0x00;
    MV_PP_OP_ONLINE_PPS_IDX_VAL = 0x01;
    MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL = 0x02;
    MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL = 0x03;
    MV_PP_OP_CPUID_GET_SUPPORTED_IDX_VAL = 0x04;
    MV_PP_OP_CPUID_GET_SUPPORTED_LIST_IDX_VAL = 0x05;
    MV_PP_OP_CPUID_GET_PERMISSABLE_IDX_VAL = 0x06;
    MV_PP_OP_CPUID_GET_PERMISSABLE_LIST_IDX_VAL = 0x07;
    MV_PP_OP_CPUID_GET_EMULATED_IDX_VAL = 0x08;
    MV_PP_OP_CPUID_GET_EMULATED_LIST_IDX_VAL = 0x09;
    MV_PP_OP_REG_GET_SUPPORTED_IDX_VAL = 0x0A;
    MV_PP_OP_REG_GET_SUPPORTED_LIST_IDX_VAL = 0x0B;
    MV_PP_OP_REG_GET_PERMISSABLE_IDX_VAL = 0x0C;
    MV_PP_OP_REG_GET_PERMISSABLE_LIST_IDX_VAL = 0x0D;
    MV_PP_OP_REG_GET_EMULATED_IDX_VAL = 0x0E;
    MV_PP_OP_REG_GET_EMULATED_LIST_IDX_VAL = 0x0F;
    MV_PP_OP_MSR_GET_SUPPORTED_IDX_VAL = 0x10;
    MV_PP_OP_MSR_GET_SUPPORTED_LIST_IDX_VAL = 0x11;
    MV_PP_OP_MSR_GET_PERMISSABLE_IDX_VAL = 0x12;
    MV_PP_OP_MSR_GET_PERMISSABLE_LIST_IDX_VAL = 0x13;
    MV_PP_OP_MSR_GET_EMULATED_IDX_VAL = 0x14;
    MV_PP_OP_MSR_GET_EMULATED_LIST_IDX_VAL = 0x15;
    MV_PP_OP_TSC_GET_KHZ_IDX_VAL = 0x16;
    MV_PP_OP_TSC_SET_KHZ_IDX_VAL = 0x17;
    /// Extension. R10 out: address of the calling PP's shared page, 0 where none is set.
    MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL = 0x40;
    /// Extension. R11: the vendor that guests see in VSs created from now on and that the supported
    /// lists describe, 0 Intel, 1 AMD. Without the call it is the host's.
    MV_PP_OP_SET_PERSONALITY_IDX_VAL = 0x41;
    /// Extension. R11: MiB that the translated code of a VM created from now on may take, 1 to
    /// MV_MAX_CODE_CACHE_MIB; its VSs share them. Without the call they are 256.
    MV_PP_OP_SET_CODE_CACHE_IDX_VAL = 0x42;
    /// Extension. mv_rdl_t on the page: MSRs that describe the processor, with their values.
    MV_PP_OP_MSR_GET_FEATURE_LIST_IDX_VAL = 0x60;

    /// Extension. As cpuid_get_supported_list: the leaves that guests of Hyper-V can have, in their order.
    MV_PP_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL = 0x100;

    MV_VM_OP_CREATE_VM_IDX_VAL = 0x0;
    MV_VM_OP_DESTROY_VM_IDX_VAL = 0x1;
    MV_VM_OP_VMID_IDX_VAL = 0x2;
    MV_VM_OP_MMIO_MAP_IDX_VAL = 0x3;
    MV_VM_OP_MMIO_UNMAP_IDX_VAL = 0x4;
    /// Extension. R11 VM, R12 nanoseconds (not 0) that one map or unmap call of it may take.
    MV_VM_OP_SET_TIME_BUDGET_IDX_VAL = 0x40;
    /// Extension. R11 VM; mv_clock_t on the page.
    MV_VM_OP_CLOCK_GET_IDX_VAL = 0x60;
    /// Extension. R11 VM, R12 first page and MV_DIRTY_LOG_*, R13 bytes.
    MV_VM_OP_DIRTY_LOG_SET_IDX_VAL = 0x62;
    /// Extension. R11 VM, R12 first page, R13 bytes; a bitmap on the page.
    MV_VM_OP_DIRTY_LOG_GET_IDX_VAL = 0x63;
    MV_VM_OP_DIRTY_LOG_CLEAR_IDX_VAL = 0x64;
    /// Extension. R11 VM, R12 MV_MSR_LEAVE_*.
    MV_VM_OP_MSR_LEAVE_SET_IDX_VAL = 0x65;
    /// Extension. R11 VM; mv_msr_filter_t on the page.
    MV_VM_OP_MSR_FILTER_SET_IDX_VAL = 0x66;
    /// Extension. R11 VM, R12 1 where its guest can read the MSR PLATFORM_INFO, else 0.
    MV_VM_OP_PLATFORM_INFO_SET_IDX_VAL = 0x67;
    /// Extension. R11 VM, R12 nanoseconds, R13 the CLOCK_REALTIME of that moment, or 0 for now.
    MV_VM_OP_CLOCK_SET_IDX_VAL = 0x61;
    /// Extension. R11 VM, R12 MV_QUIRK_*.
    MV_VM_OP_QUIRKS_SET_IDX_VAL = 0x70;
    /// Extension. R11 VM; mv_vm_stats_t on the page.
    MV_VM_OP_STATS_GET_IDX_VAL = 0x80;
    /// Extension. As mmio_map, for pages that are mapped and are to be other memory.
    MV_VM_OP_MMIO_REPLACE_IDX_VAL = 0x81;
    /// Extension. R11 VM, R12 first page, and 1 to refuse accesses to pages that are not mapped, else
    /// 0; R13 bytes.
    MV_VM_OP_REFUSE_SET_IDX_VAL = 0x82;
    /// Extension. R11 VM, R12 first page, R13 bytes. R10 out: bytes until the first page that is not
    /// mapped; the root's memory behind them is there.
    MV_VM_OP_POPULATE_IDX_VAL = 0x83;
    /// Extension. R11 VM without VPs, R12 MV_IRQCHIP_*, R13 lines of the root's I/O APIC (split).
    MV_VM_OP_IRQCHIP_CREATE_IDX_VAL = 0x41;
    /// Extension. R11 VM, R12 line, R13 MV_IRQ_*; R10 out: interrupts raised, or MV_IRQ_IGNORED.
    MV_VM_OP_IRQ_LINE_IDX_VAL = 0x42;
    /// Extension. R11 VM, R12 MV_GSI_LIST_*; mv_gsi_list_t on the page.
    MV_VM_OP_GSI_LIST_SET_IDX_VAL = 0x43;
    /// Extension. R11 VM, R12 address, R13 data; R10 out as for irq_line.
    MV_VM_OP_SIGNAL_MSI_IDX_VAL = 0x44;
    /// Extension. R11 VM, R12 MV_CHIP_*; mv_pic_t or mv_ioapic_t on the page.
    MV_VM_OP_CHIP_GET_IDX_VAL = 0x45;
    MV_VM_OP_CHIP_SET_IDX_VAL = 0x46;
    /// Extension. R11 VM, R12 MV_PIT_SPEAKER or 0.
    MV_VM_OP_PIT_CREATE_IDX_VAL = 0x47;
    /// Extension. R11 VM; mv_pit_t on the page.
    MV_VM_OP_PIT_GET_IDX_VAL = 0x48;
    MV_VM_OP_PIT_SET_IDX_VAL = 0x49;
    /// Extension. R11 VM, R12 0 or 1: whether late ticks are kept.
    MV_VM_OP_PIT_REINJECT_IDX_VAL = 0x4A;
    /// Extension. R11 VM; mv_line_list_t on the page: lines driven with MV_IRQ_RESAMPLED whose
    /// interrupts have ended since the last call.
    MV_VM_OP_LINES_ENDED_IDX_VAL = 0x4B;
    /// Extension. R11 VM, R12 MV_X2APIC_*.
    MV_VM_OP_X2APIC_FORMAT_SET_IDX_VAL = 0x4C;
    /// Extension. R11 VM; from now on dirty_log_take tells which VS has written which page.
    MV_VM_OP_DIRTY_LOG_NOTE_IDX_VAL = 0x84;
    /// Extension. R11 VM; mv_written_t on the page. As dirty_log_clear for pages anywhere.
    MV_VM_OP_DIRTY_LOG_CLEAR_LIST_IDX_VAL = 0x85;
    /// Extension. R11 VM, R12 MV_HYPERCALL_LEAVE_*.
    MV_VM_OP_HYPERCALL_LEAVE_SET_IDX_VAL = 0xC0;

    /// Extension. R11 VM, R12 a connection of Hyper-V's, 24 bits, R13 1 where its signals leave as
    /// MV_EXIT_HYPERV_SIGNAL, else 0.
    MV_VM_OP_HYPERV_CONNECT_IDX_VAL = 0x100;

    MV_VP_OP_CREATE_VP_IDX_VAL = 0x0;
    MV_VP_OP_DESTROY_VP_IDX_VAL = 0x1;
    MV_VP_OP_VMID_IDX_VAL = 0x2;
    MV_VP_OP_VPID_IDX_VAL = 0x3;

    MV_VS_OP_CREATE_VS_IDX_VAL = 0x00;
    MV_VS_OP_DESTROY_VS_IDX_VAL = 0x01;
    MV_VS_OP_VMID_IDX_VAL = 0x02;
    MV_VS_OP_VPID_IDX_VAL = 0x03;
    MV_VS_OP_VSID_IDX_VAL = 0x04;
    MV_VS_OP_GVA_TO_GLA_IDX_VAL = 0x05;
    MV_VS_OP_GLA_TO_GPA_IDX_VAL = 0x06;
    MV_VS_OP_GVA_TO_GPA_IDX_VAL = 0x07;
    MV_VS_OP_RUN_IDX_VAL = 0x08;
    MV_VS_OP_CPUID_GET_IDX_VAL = 0x09;
    MV_VS_OP_CPUID_SET_IDX_VAL = 0x0A;
    MV_VS_OP_CPUID_GET_LIST_IDX_VAL = 0x0B;
    MV_VS_OP_CPUID_SET_LIST_IDX_VAL = 0x0C;
    MV_VS_OP_REG_GET_IDX_VAL = 0x0D;
    MV_VS_OP_REG_SET_IDX_VAL = 0x0E;
    MV_VS_OP_REG_GET_LIST_IDX_VAL = 0x0F;
    MV_VS_OP_REG_SET_LIST_IDX_VAL = 0x10;
    MV_VS_OP_MSR_GET_IDX_VAL = 0x17;
    MV_VS_OP_MSR_SET_IDX_VAL = 0x18;
    MV_VS_OP_MSR_GET_LIST_IDX_VAL = 0x19;
    MV_VS_OP_MSR_SET_LIST_IDX_VAL = 0x1A;
    MV_VS_OP_FPU_GET_IDX_VAL = 0x1B;
    MV_VS_OP_FPU_SET_IDX_VAL = 0x1C;
    MV_VS_OP_FPU_GET_ALL_IDX_VAL = 0x1D;
    MV_VS_OP_FPU_SET_ALL_IDX_VAL = 0x1E;
    MV_VS_OP_XSAVE_GET_IDX_VAL = 0x1F;
    MV_VS_OP_XSAVE_SET_IDX_VAL = 0x20;
    MV_VS_OP_XSAVE_GET_ALL_IDX_VAL = 0x21;
    MV_VS_OP_XSAVE_SET_ALL_IDX_VAL = 0x22;
    MV_VS_OP_MP_STATE_GET_IDX_VAL = 0x23;
    MV_VS_OP_MP_STATE_SET_IDX_VAL = 0x24;
    MV_VS_OP_INJECT_EXCEPTION_IDX_VAL = 0x25;
    MV_VS_OP_QUEUE_INTERRUPT_IDX_VAL = 0x26;
    MV_VS_OP_TSC_GET_KHZ_IDX_VAL = 0x27;
    MV_VS_OP_TSC_SET_KHZ_IDX_VAL = 0x28;
    MV_VS_OP_CLOCK_GET_IDX_VAL = 0x29;
    MV_VS_OP_CLOCK_SET_IDX_VAL = 0x30;
    /// Extension. R11 VS; legal from any PP, also while the VS runs.
    MV_VS_OP_KICK_IDX_VAL = 0x40;
    /// Extension. R11 VS; mv_rdl_t on the page, of registers and, with MV_RDL_ENTRY_MSR, MSRs: their
    /// values at one moment. Legal from any PP, also while the VS runs: it pauses between two
    /// instructions, and run does not come back.
    MV_VS_OP_PEEK_LIST_IDX_VAL = 0xE0;
    /// Extension. R11 VS; mv_activity_t on the page. Legal from any PP, also while the VS runs.
    MV_VS_OP_ACTIVITY_GET_IDX_VAL = 0xE1;
    /// Extension. R11 VS, R12 MV_TRACE_*: what is recorded from now on. Legal from any PP, also while
    /// the VS runs.
    MV_VS_OP_TRACE_SET_IDX_VAL = 0xE2;
    /// Extension. R11 VS, R12 number of the first record wanted, or MV_TRACE_NOW; mv_trace_t on the
    /// page. Legal from any PP, also while the VS runs.
    MV_VS_OP_TRACE_READ_IDX_VAL = 0xE3;
    /// Extension. As lapic_get_all. Legal from any PP, also while the VS runs, as peek_list.
    MV_VS_OP_LAPIC_PEEK_ALL_IDX_VAL = 0xE4;
    MV_VS_OP_QUEUED_INTERRUPT_IDX_VAL = 0x41;
    /// Extension. R11 VS; mv_event_t on the page.
    MV_VS_OP_EVENT_GET_ALL_IDX_VAL = 0x60;
    MV_VS_OP_EVENT_SET_ALL_IDX_VAL = 0x61;
    /// Extension. R11 VS; mv_debug_t on the page.
    MV_VS_OP_DEBUG_SET_IDX_VAL = 0x62;
    /// Extension. R11 VS; what its time-stamp counter is ahead of the host's, scaled: R10 out, R12 in.
    MV_VS_OP_TSC_GET_OFFSET_IDX_VAL = 0x80;
    MV_VS_OP_TSC_SET_OFFSET_IDX_VAL = 0x81;
    /// Extension. R11 VS; mv_vs_stats_t on the page. Legal from any PP, also while the VS runs.
    MV_VS_OP_STATS_GET_IDX_VAL = 0x82;
    /// Extension. R11 VS; mv_written_t on the page: pages that the VS has written since they were
    /// last cleared, each told once, as many as there is room for.
    MV_VS_OP_DIRTY_LOG_TAKE_IDX_VAL = 0x83;
    /// Extension. R11 VS, R12 guest-linear address, R13 MV_PROBE_*; mv_probe_t on the page: what an
    /// access there would find, which is not made.
    MV_VS_OP_PROBE_IDX_VAL = 0x84;
    /// Extension. R11 VS, which enters system management mode as soon as it is not in it.
    MV_VS_OP_INJECT_SMI_IDX_VAL = 0xA0;
    /// Extension. R11 VS, R12 mv_lvt_t: that source of its local APIC is active, which does what its
    /// entry in the local vector table says.
    MV_VS_OP_LVT_RAISE_IDX_VAL = 0xA1;
    /// Extension. R11 VS of a VM with interrupt controllers, R12 APIC ID; resets the local APIC.
    MV_VS_OP_APIC_ID_SET_IDX_VAL = 0x42;
    /// Extension. R11 VS; the registers of its local APIC, 1 KiB on the page as KVM lays them out.
    MV_VS_OP_LAPIC_GET_ALL_IDX_VAL = 0x43;
    MV_VS_OP_LAPIC_SET_ALL_IDX_VAL = 0x44;
    /// Extension. R11 VS, whose paravirtual clock is to say that the guest was stopped.
    MV_VS_OP_GUEST_STOPPED_IDX_VAL = 0xC0;
    /// Extension. R11 VS, R12 1 where the guest may use of the paravirtual interface only what its
    /// CPUID announces, else 0.
    MV_VS_OP_PARAVIRT_ENFORCE_IDX_VAL = 0xC1;
    /// Extension. R11 VS, R12 a thread of the host, or 0: when it waits for a CPU the guest does.
    MV_VS_OP_WAIT_WITH_IDX_VAL = 0xC2;
    /// Extension. R11 VS with a local APIC, R12 where its guest has its task priority, until INIT; or 0.
    MV_VS_OP_VAPIC_SET_IDX_VAL = 0xC3;
    /// Extension. R11 VS, R12 1 where it leaves when it has accessed the task priority of its local
    /// APIC, else 0.
    MV_VS_OP_TPR_REPORT_SET_IDX_VAL = 0xC4;
    /// Extension. R11 VS, R12 1 where the guest may use of the interface of Hyper-V only what its CPUID
    /// announces, else 0.
    MV_VS_OP_HYPERV_ENFORCE_IDX_VAL = 0x100;
    /// Extension. R11 VS. As mv_pp_op_hyperv_cpuid_get_supported_list, for this VS.
    MV_VS_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL = 0x101;
    /// Extension. R11 VS with a local APIC, which gets a synthetic interrupt controller. R12 1 where the
    /// guest's pages stay as they are when it names them, 0 where they are cleared.
    MV_VS_OP_HYPERV_SYNIC_ACTIVATE_IDX_VAL = 0x102;
    /// Extension. R11 VS, R12 1 where no hypercall of Hyper-V may flush it, else 0. On return the flushes
    /// that were asked for before are done. Legal from any PP, also while the VS runs.
    MV_VS_OP_HYPERV_FLUSH_INHIBIT_IDX_VAL = 0x103;
}
