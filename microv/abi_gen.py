# Generated from microv/rust/src/abi by `make gen`; do not edit.
"""Numbers and page layouts of the hypercall ABI."""

import ctypes
from typing import Final

# RAX on entry, specification IDs
MV_HYPERCALL_SIG_VAL: Final = 0x764D000000000000
MV_HYPERCALL_SIG_MASK: Final = 0xFFFF000000000000
MV_HYPERCALL_FLAGS_MASK: Final = 0xFFFF00000000
MV_HYPERCALL_OPCODE_MASK: Final = 0xFFFF0000FFFF0000
MV_HYPERCALL_OPCODE_NOSIG_MASK: Final = 0xFFFF0000
MV_HYPERCALL_INDEX_MASK: Final = 0xFFFF
MV_HYPERCALL_FLAGS_SCC: Final = 0x100000000
MV_ID_OP_VAL: Final = 0x764D000000000000
MV_HANDLE_OP_VAL: Final = 0x764D000000010000
MV_DEBUG_OP_VAL: Final = 0x764D000000020000
MV_PP_OP_VAL: Final = 0x764D000000030000
MV_VM_OP_VAL: Final = 0x764D000000040000
MV_VP_OP_VAL: Final = 0x764D000000050000
MV_VS_OP_VAL: Final = 0x764D000000060000
MV_ID_OP_NOSIG_VAL: Final = 0x0
MV_HANDLE_OP_NOSIG_VAL: Final = 0x10000
MV_DEBUG_OP_NOSIG_VAL: Final = 0x20000
MV_PP_OP_NOSIG_VAL: Final = 0x30000
MV_VM_OP_NOSIG_VAL: Final = 0x40000
MV_VP_OP_NOSIG_VAL: Final = 0x50000
MV_VS_OP_NOSIG_VAL: Final = 0x60000
MV_SPEC_ID1_VAL: Final = 0x3123764D
MV_SPEC_ID1_MASK: Final = 0x2
MV_ALL_SPECS_SUPPORTED_VAL: Final = 0x2
MV_INVALID_VERSION: Final = 0x80000000
MV_INVALID_HANDLE: Final = 0xFFFFFFFFFFFFFFFF

# Hypercall indexes
MV_ID_OP_VERSION_IDX_VAL: Final = 0x0
MV_ID_OP_GET_CAPABILITY_IDX_VAL: Final = 0x1
MV_ID_OP_CLR_CAPABILITY_IDX_VAL: Final = 0x2
MV_ID_OP_SET_CAPABILITY_IDX_VAL: Final = 0x3
MV_ID_OP_HAS_CAPABILITY_IDX_VAL: Final = 0x4
MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL: Final = 0x0
MV_HANDLE_OP_CLOSE_HANDLE_IDX_VAL: Final = 0x1
MV_DEBUG_OP_OUT_IDX_VAL: Final = 0x0
MV_PP_OP_PPID_IDX_VAL: Final = 0x0
MV_PP_OP_ONLINE_PPS_IDX_VAL: Final = 0x1
MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL: Final = 0x2
MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL: Final = 0x3
MV_PP_OP_CPUID_GET_SUPPORTED_IDX_VAL: Final = 0x4
MV_PP_OP_CPUID_GET_SUPPORTED_LIST_IDX_VAL: Final = 0x5
MV_PP_OP_CPUID_GET_PERMISSABLE_IDX_VAL: Final = 0x6
MV_PP_OP_CPUID_GET_PERMISSABLE_LIST_IDX_VAL: Final = 0x7
MV_PP_OP_CPUID_GET_EMULATED_IDX_VAL: Final = 0x8
MV_PP_OP_CPUID_GET_EMULATED_LIST_IDX_VAL: Final = 0x9
MV_PP_OP_REG_GET_SUPPORTED_IDX_VAL: Final = 0xA
MV_PP_OP_REG_GET_SUPPORTED_LIST_IDX_VAL: Final = 0xB
MV_PP_OP_REG_GET_PERMISSABLE_IDX_VAL: Final = 0xC
MV_PP_OP_REG_GET_PERMISSABLE_LIST_IDX_VAL: Final = 0xD
MV_PP_OP_REG_GET_EMULATED_IDX_VAL: Final = 0xE
MV_PP_OP_REG_GET_EMULATED_LIST_IDX_VAL: Final = 0xF
MV_PP_OP_MSR_GET_SUPPORTED_IDX_VAL: Final = 0x10
MV_PP_OP_MSR_GET_SUPPORTED_LIST_IDX_VAL: Final = 0x11
MV_PP_OP_MSR_GET_PERMISSABLE_IDX_VAL: Final = 0x12
MV_PP_OP_MSR_GET_PERMISSABLE_LIST_IDX_VAL: Final = 0x13
MV_PP_OP_MSR_GET_EMULATED_IDX_VAL: Final = 0x14
MV_PP_OP_MSR_GET_EMULATED_LIST_IDX_VAL: Final = 0x15
MV_PP_OP_TSC_GET_KHZ_IDX_VAL: Final = 0x16
MV_PP_OP_TSC_SET_KHZ_IDX_VAL: Final = 0x17
MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL: Final = 0x40
MV_PP_OP_SET_PERSONALITY_IDX_VAL: Final = 0x41
MV_PP_OP_SET_CODE_CACHE_IDX_VAL: Final = 0x42
MV_PP_OP_MSR_GET_FEATURE_LIST_IDX_VAL: Final = 0x60
MV_PP_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL: Final = 0x100
MV_VM_OP_CREATE_VM_IDX_VAL: Final = 0x0
MV_VM_OP_DESTROY_VM_IDX_VAL: Final = 0x1
MV_VM_OP_VMID_IDX_VAL: Final = 0x2
MV_VM_OP_MMIO_MAP_IDX_VAL: Final = 0x3
MV_VM_OP_MMIO_UNMAP_IDX_VAL: Final = 0x4
MV_VM_OP_SET_TIME_BUDGET_IDX_VAL: Final = 0x40
MV_VM_OP_CLOCK_GET_IDX_VAL: Final = 0x60
MV_VM_OP_DIRTY_LOG_SET_IDX_VAL: Final = 0x62
MV_VM_OP_DIRTY_LOG_GET_IDX_VAL: Final = 0x63
MV_VM_OP_DIRTY_LOG_CLEAR_IDX_VAL: Final = 0x64
MV_VM_OP_MSR_LEAVE_SET_IDX_VAL: Final = 0x65
MV_VM_OP_MSR_FILTER_SET_IDX_VAL: Final = 0x66
MV_VM_OP_PLATFORM_INFO_SET_IDX_VAL: Final = 0x67
MV_VM_OP_CLOCK_SET_IDX_VAL: Final = 0x61
MV_VM_OP_QUIRKS_SET_IDX_VAL: Final = 0x70
MV_VM_OP_STATS_GET_IDX_VAL: Final = 0x80
MV_VM_OP_MMIO_REPLACE_IDX_VAL: Final = 0x81
MV_VM_OP_REFUSE_SET_IDX_VAL: Final = 0x82
MV_VM_OP_POPULATE_IDX_VAL: Final = 0x83
MV_VM_OP_IRQCHIP_CREATE_IDX_VAL: Final = 0x41
MV_VM_OP_IRQ_LINE_IDX_VAL: Final = 0x42
MV_VM_OP_GSI_LIST_SET_IDX_VAL: Final = 0x43
MV_VM_OP_SIGNAL_MSI_IDX_VAL: Final = 0x44
MV_VM_OP_CHIP_GET_IDX_VAL: Final = 0x45
MV_VM_OP_CHIP_SET_IDX_VAL: Final = 0x46
MV_VM_OP_PIT_CREATE_IDX_VAL: Final = 0x47
MV_VM_OP_PIT_GET_IDX_VAL: Final = 0x48
MV_VM_OP_PIT_SET_IDX_VAL: Final = 0x49
MV_VM_OP_PIT_REINJECT_IDX_VAL: Final = 0x4A
MV_VM_OP_LINES_ENDED_IDX_VAL: Final = 0x4B
MV_VM_OP_X2APIC_FORMAT_SET_IDX_VAL: Final = 0x4C
MV_VM_OP_DIRTY_LOG_NOTE_IDX_VAL: Final = 0x84
MV_VM_OP_DIRTY_LOG_CLEAR_LIST_IDX_VAL: Final = 0x85
MV_VM_OP_HYPERCALL_LEAVE_SET_IDX_VAL: Final = 0xC0
MV_VM_OP_HYPERV_CONNECT_IDX_VAL: Final = 0x100
MV_VP_OP_CREATE_VP_IDX_VAL: Final = 0x0
MV_VP_OP_DESTROY_VP_IDX_VAL: Final = 0x1
MV_VP_OP_VMID_IDX_VAL: Final = 0x2
MV_VP_OP_VPID_IDX_VAL: Final = 0x3
MV_VS_OP_CREATE_VS_IDX_VAL: Final = 0x0
MV_VS_OP_DESTROY_VS_IDX_VAL: Final = 0x1
MV_VS_OP_VMID_IDX_VAL: Final = 0x2
MV_VS_OP_VPID_IDX_VAL: Final = 0x3
MV_VS_OP_VSID_IDX_VAL: Final = 0x4
MV_VS_OP_GVA_TO_GLA_IDX_VAL: Final = 0x5
MV_VS_OP_GLA_TO_GPA_IDX_VAL: Final = 0x6
MV_VS_OP_GVA_TO_GPA_IDX_VAL: Final = 0x7
MV_VS_OP_RUN_IDX_VAL: Final = 0x8
MV_VS_OP_CPUID_GET_IDX_VAL: Final = 0x9
MV_VS_OP_CPUID_SET_IDX_VAL: Final = 0xA
MV_VS_OP_CPUID_GET_LIST_IDX_VAL: Final = 0xB
MV_VS_OP_CPUID_SET_LIST_IDX_VAL: Final = 0xC
MV_VS_OP_REG_GET_IDX_VAL: Final = 0xD
MV_VS_OP_REG_SET_IDX_VAL: Final = 0xE
MV_VS_OP_REG_GET_LIST_IDX_VAL: Final = 0xF
MV_VS_OP_REG_SET_LIST_IDX_VAL: Final = 0x10
MV_VS_OP_MSR_GET_IDX_VAL: Final = 0x17
MV_VS_OP_MSR_SET_IDX_VAL: Final = 0x18
MV_VS_OP_MSR_GET_LIST_IDX_VAL: Final = 0x19
MV_VS_OP_MSR_SET_LIST_IDX_VAL: Final = 0x1A
MV_VS_OP_FPU_GET_IDX_VAL: Final = 0x1B
MV_VS_OP_FPU_SET_IDX_VAL: Final = 0x1C
MV_VS_OP_FPU_GET_ALL_IDX_VAL: Final = 0x1D
MV_VS_OP_FPU_SET_ALL_IDX_VAL: Final = 0x1E
MV_VS_OP_XSAVE_GET_IDX_VAL: Final = 0x1F
MV_VS_OP_XSAVE_SET_IDX_VAL: Final = 0x20
MV_VS_OP_XSAVE_GET_ALL_IDX_VAL: Final = 0x21
MV_VS_OP_XSAVE_SET_ALL_IDX_VAL: Final = 0x22
MV_VS_OP_MP_STATE_GET_IDX_VAL: Final = 0x23
MV_VS_OP_MP_STATE_SET_IDX_VAL: Final = 0x24
MV_VS_OP_INJECT_EXCEPTION_IDX_VAL: Final = 0x25
MV_VS_OP_QUEUE_INTERRUPT_IDX_VAL: Final = 0x26
MV_VS_OP_TSC_GET_KHZ_IDX_VAL: Final = 0x27
MV_VS_OP_TSC_SET_KHZ_IDX_VAL: Final = 0x28
MV_VS_OP_CLOCK_GET_IDX_VAL: Final = 0x29
MV_VS_OP_CLOCK_SET_IDX_VAL: Final = 0x30
MV_VS_OP_KICK_IDX_VAL: Final = 0x40
MV_VS_OP_PEEK_LIST_IDX_VAL: Final = 0xE0
MV_VS_OP_ACTIVITY_GET_IDX_VAL: Final = 0xE1
MV_VS_OP_TRACE_SET_IDX_VAL: Final = 0xE2
MV_VS_OP_TRACE_READ_IDX_VAL: Final = 0xE3
MV_VS_OP_LAPIC_PEEK_ALL_IDX_VAL: Final = 0xE4
MV_VS_OP_QUEUED_INTERRUPT_IDX_VAL: Final = 0x41
MV_VS_OP_EVENT_GET_ALL_IDX_VAL: Final = 0x60
MV_VS_OP_EVENT_SET_ALL_IDX_VAL: Final = 0x61
MV_VS_OP_DEBUG_SET_IDX_VAL: Final = 0x62
MV_VS_OP_TSC_GET_OFFSET_IDX_VAL: Final = 0x80
MV_VS_OP_TSC_SET_OFFSET_IDX_VAL: Final = 0x81
MV_VS_OP_STATS_GET_IDX_VAL: Final = 0x82
MV_VS_OP_DIRTY_LOG_TAKE_IDX_VAL: Final = 0x83
MV_VS_OP_PROBE_IDX_VAL: Final = 0x84
MV_VS_OP_INJECT_SMI_IDX_VAL: Final = 0xA0
MV_VS_OP_LVT_RAISE_IDX_VAL: Final = 0xA1
MV_VS_OP_APIC_ID_SET_IDX_VAL: Final = 0x42
MV_VS_OP_LAPIC_GET_ALL_IDX_VAL: Final = 0x43
MV_VS_OP_LAPIC_SET_ALL_IDX_VAL: Final = 0x44
MV_VS_OP_GUEST_STOPPED_IDX_VAL: Final = 0xC0
MV_VS_OP_PARAVIRT_ENFORCE_IDX_VAL: Final = 0xC1
MV_VS_OP_WAIT_WITH_IDX_VAL: Final = 0xC2
MV_VS_OP_VAPIC_SET_IDX_VAL: Final = 0xC3
MV_VS_OP_TPR_REPORT_SET_IDX_VAL: Final = 0xC4
MV_VS_OP_HYPERV_ENFORCE_IDX_VAL: Final = 0x100
MV_VS_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL: Final = 0x101
MV_VS_OP_HYPERV_SYNIC_ACTIVATE_IDX_VAL: Final = 0x102
MV_VS_OP_HYPERV_FLUSH_INHIBIT_IDX_VAL: Final = 0x103

# mv_status_t
MV_STATUS_SUCCESS: Final = 0x0
MV_STATUS_FAILURE_UNKNOWN: Final = 0xDEAD000000010001
MV_STATUS_FAILURE_INVALID_HANDLE: Final = 0xDEAD000000020001
MV_STATUS_FAILURE_UNSUPPORTED: Final = 0xDEAD000000040001
MV_STATUS_INVALID_PERM_DENIED: Final = 0xDEAD000000010002
MV_STATUS_INVALID_INPUT_REG0: Final = 0xDEAD000000010003
MV_STATUS_INVALID_INPUT_REG1: Final = 0xDEAD000000020003
MV_STATUS_INVALID_INPUT_REG2: Final = 0xDEAD000000040003
MV_STATUS_INVALID_INPUT_REG3: Final = 0xDEAD000000080003
MV_STATUS_INVALID_OUTPUT_REG0: Final = 0xDEAD000000100003
MV_STATUS_INVALID_OUTPUT_REG1: Final = 0xDEAD000000200003
MV_STATUS_INVALID_OUTPUT_REG2: Final = 0xDEAD000000400003
MV_STATUS_INVALID_OUTPUT_REG3: Final = 0xDEAD000000800003
MV_STATUS_RETRY_CONTINUATION: Final = 0xDEAD000000100004
MV_STATUS_RETRY_CONTINUATION_SCC: Final = 0xDEAD000000200004
MV_STATUS_EXIT_FAILURE: Final = 0xDEAD000000100005
MV_STATUS_EXIT_UNKNOWN: Final = 0xDEAD000000200005

# IDs and limits
MV_INVALID_ID: Final = 0xFFFF
MV_SELF_ID: Final = 0xFFFE
MV_ALL_ID: Final = 0xFFFD
MV_BS_PPID: Final = 0x0
MV_ROOT_VMID: Final = 0x0
MV_MAX_HANDLES: Final = 0x400
MV_MAX_PPS: Final = 0x400
MV_MAX_VMS: Final = 0x400
MV_MAX_VPS: Final = 0x2000
MV_MAX_VSS: Final = 0x2000
MV_MAX_CODE_CACHE_MIB: Final = 0x400
MV_PAGE_SIZE: Final = 0x1000
MV_PAGE_SHIFT: Final = 0xC
MV_MAX_GPA: Final = 0x200000000000

# mv_reg_t
mv_reg_t_unsupported: Final = 0x0
mv_reg_t_rax: Final = 0x1
mv_reg_t_rbx: Final = 0x2
mv_reg_t_rcx: Final = 0x3
mv_reg_t_rdx: Final = 0x4
mv_reg_t_rbp: Final = 0x5
mv_reg_t_rsi: Final = 0x6
mv_reg_t_rdi: Final = 0x7
mv_reg_t_r8: Final = 0x8
mv_reg_t_r9: Final = 0x9
mv_reg_t_r10: Final = 0xA
mv_reg_t_r11: Final = 0xB
mv_reg_t_r12: Final = 0xC
mv_reg_t_r13: Final = 0xD
mv_reg_t_r14: Final = 0xE
mv_reg_t_r15: Final = 0xF
mv_reg_t_rsp: Final = 0x10
mv_reg_t_rip: Final = 0x11
mv_reg_t_rflags: Final = 0x12
mv_reg_t_es_selector: Final = 0x13
mv_reg_t_es_attrib: Final = 0x14
mv_reg_t_es_limit: Final = 0x15
mv_reg_t_es_base: Final = 0x16
mv_reg_t_cs_selector: Final = 0x17
mv_reg_t_cs_attrib: Final = 0x18
mv_reg_t_cs_limit: Final = 0x19
mv_reg_t_cs_base: Final = 0x1A
mv_reg_t_ss_selector: Final = 0x1B
mv_reg_t_ss_attrib: Final = 0x1C
mv_reg_t_ss_limit: Final = 0x1D
mv_reg_t_ss_base: Final = 0x1E
mv_reg_t_ds_selector: Final = 0x1F
mv_reg_t_ds_attrib: Final = 0x20
mv_reg_t_ds_limit: Final = 0x21
mv_reg_t_ds_base: Final = 0x22
mv_reg_t_fs_selector: Final = 0x23
mv_reg_t_fs_attrib: Final = 0x24
mv_reg_t_fs_limit: Final = 0x25
mv_reg_t_fs_base: Final = 0x26
mv_reg_t_gs_selector: Final = 0x27
mv_reg_t_gs_attrib: Final = 0x28
mv_reg_t_gs_limit: Final = 0x29
mv_reg_t_gs_base: Final = 0x2A
mv_reg_t_ldtr_selector: Final = 0x2B
mv_reg_t_ldtr_attrib: Final = 0x2C
mv_reg_t_ldtr_limit: Final = 0x2D
mv_reg_t_ldtr_base: Final = 0x2E
mv_reg_t_tr_selector: Final = 0x2F
mv_reg_t_tr_attrib: Final = 0x30
mv_reg_t_tr_limit: Final = 0x31
mv_reg_t_tr_base: Final = 0x32
mv_reg_t_gdtr_selector: Final = 0x33
mv_reg_t_gdtr_attrib: Final = 0x34
mv_reg_t_gdtr_limit: Final = 0x35
mv_reg_t_gdtr_base: Final = 0x36
mv_reg_t_idtr_selector: Final = 0x37
mv_reg_t_idtr_attrib: Final = 0x38
mv_reg_t_idtr_limit: Final = 0x39
mv_reg_t_idtr_base: Final = 0x3A
mv_reg_t_dr0: Final = 0x3B
mv_reg_t_dr1: Final = 0x3C
mv_reg_t_dr2: Final = 0x3D
mv_reg_t_dr3: Final = 0x3E
mv_reg_t_dr6: Final = 0x3F
mv_reg_t_dr7: Final = 0x40
mv_reg_t_cr0: Final = 0x41
mv_reg_t_cr2: Final = 0x42
mv_reg_t_cr3: Final = 0x43
mv_reg_t_cr4: Final = 0x44
mv_reg_t_cr8: Final = 0x45
mv_reg_t_xcr0: Final = 0x46
mv_reg_t_virtual_interrupt_a: Final = 0x47
mv_reg_t_invalid: Final = 0x48
mv_reg_t_pdpte0: Final = 0x100
mv_reg_t_pdpte1: Final = 0x101
mv_reg_t_pdpte2: Final = 0x102
mv_reg_t_pdpte3: Final = 0x103

# Memory descriptor lists
MV_MAP_FLAG_READ_ACCESS: Final = 0x1
MV_MAP_FLAG_WRITE_ACCESS: Final = 0x2
MV_MAP_FLAG_EXECUTE_ACCESS: Final = 0x4
MV_MAP_FLAG_USER: Final = 0x8
MV_MAP_FLAG_4K_PAGE: Final = 0x200
MV_MAP_FLAG_2M_PAGE: Final = 0x400
MV_MAP_FLAG_1G_PAGE: Final = 0x800
MV_MAP_FLAG_UNCACHEABLE: Final = 0x200000000000000
MV_MAP_FLAG_UNCACHEABLE_MINUS: Final = 0x400000000000000
MV_MAP_FLAG_WRITE_COMBINING: Final = 0x800000000000000
MV_MAP_FLAG_WRITE_COMBINING_PLUS: Final = 0x1000000000000000
MV_MAP_FLAG_WRITE_THROUGH: Final = 0x2000000000000000
MV_MAP_FLAG_WRITE_BACK: Final = 0x4000000000000000
MV_MAP_FLAG_WRITE_PROTECTED: Final = 0x8000000000000000
MV_MAP_FLAG_LOG_WRITES: Final = 0x10000000000000
MV_MDL_MAX_ENTRIES: Final = 0x7D
MV_GPA_SMM: Final = 0x4000000000000000
MV_DIRTY_LOG_ON: Final = 0x1
MV_DIRTY_LOG_ALL_WRITTEN: Final = 0x2
MV_DIRTY_LOG_MAX_PAGES: Final = 0x8000

# Register and CPUID descriptor lists
MV_RDL_MAX_ENTRIES: Final = 0xFA
MV_RDL_FLAG_ALL: Final = 0x1
MV_RDL_ENTRY_REFUSED: Final = 0x8000000000000000
MV_RDL_ENTRY_MSR: Final = 0x4000000000000000
MV_CDL_MAX_ENTRIES: Final = 0x7D
MV_CDL_FLAG_ALL: Final = 0x1
MV_CDL_FLAG_APPEND: Final = 0x2
MV_CPUID_FLAG_SIGNIFICANT_INDEX: Final = 0x1
MV_PERM_READ: Final = 0x1
MV_PERM_WRITE: Final = 0x2

# mv_mp_state_t
mv_mp_state_t_initial: Final = 0x0
mv_mp_state_t_running: Final = 0x1
mv_mp_state_t_wait: Final = 0x2
mv_mp_state_t_init: Final = 0x3
mv_mp_state_t_sipi: Final = 0x4
mv_mp_state_t_invalid: Final = 0x5

# run
mv_exit_reason_t_failure: Final = 0x0
mv_exit_reason_t_unknown: Final = 0x1
mv_exit_reason_t_hlt: Final = 0x2
mv_exit_reason_t_io: Final = 0x3
mv_exit_reason_t_mmio: Final = 0x4
mv_exit_reason_t_msr: Final = 0x5
mv_exit_reason_t_interrupt: Final = 0x6
mv_exit_reason_t_interrupt_window: Final = 0x7
mv_exit_reason_t_nmi: Final = 0x8
mv_exit_reason_t_shutdown: Final = 0x9
mv_exit_reason_t_debug: Final = 0x40
mv_exit_reason_t_memory_fault: Final = 0x80
mv_exit_reason_t_interrupt_end: Final = 0x41
mv_exit_reason_t_noted: Final = 0x81
mv_exit_reason_t_hypercall: Final = 0x44
mv_exit_reason_t_tpr_access: Final = 0xC0
mv_exit_reason_t_hyperv: Final = 0x100
MV_EXIT_HYPERV_CRASH: Final = 0x1
MV_EXIT_HYPERV_RESET: Final = 0x2
MV_EXIT_HYPERV_DEBUG: Final = 0x3
MV_EXIT_HYPERV_CALL: Final = 0x4
MV_EXIT_HYPERV_SYNIC: Final = 0x5
MV_EXIT_HYPERV_SIGNAL: Final = 0x6
MV_HYPERV_MSR_DEBUG_CONTROL: Final = 0x400000F1
MV_HYPERV_MSR_DEBUG_STATUS: Final = 0x400000F2
MV_RUN_MAX_REG_ENTRIES: Final = 0xA
MV_RUN_MAX_MSR_ENTRIES: Final = 0xA
MV_RUN_MAX_IOMEM_SIZE: Final = 0xEA0
MV_RUN_FLAG_COMPLETE_ONLY: Final = 0x1
MV_RUN_FLAG_INTERRUPT_WINDOW: Final = 0x2
MV_RUN_RETURN_EXIT_OFFSET: Final = 0x20
MV_RUN_RETURN_STATE_INTERRUPTIBLE: Final = 0x1
MV_RUN_RETURN_STATE_SMM: Final = 0x10000
MV_RUN_RETURN_STATE_LINES_ENDED: Final = 0x2
MV_RUN_RETURN_STATE_NOTED: Final = 0x20000
MV_EXIT_MSR_READ: Final = 0x1
MV_EXIT_MSR_WRITE: Final = 0x2
MV_EXIT_MSR_ANSWER_SIZE: Final = 0x10
MV_EXIT_HYPERCALL_LONG: Final = 0x1
MV_HYPERCALL_LEAVE_MAP_GPA_RANGE: Final = 0x1000
MV_EXIT_HYPERCALL_ANSWER_SIZE: Final = 0x8
MV_EXIT_IO_IN: Final = 0x0
MV_EXIT_IO_OUT: Final = 0x1
MV_EXIT_IO_MAX_DATA: Final = 0x400
MV_EXIT_TPR_ACCESS_READ: Final = 0x1
MV_EXIT_TPR_ACCESS_WRITE: Final = 0x2
MV_EXIT_MMIO_READ: Final = 0x1
MV_EXIT_MMIO_WRITE: Final = 0x2
MV_EXIT_MMIO_EXECUTE: Final = 0x4
MV_EXIT_FAILURE_INVALID_STATE: Final = 0xFFFFFFFF
MV_EXIT_FAILURE_POISONED: Final = 0xFFFFFFFE
MV_EXIT_FAILURE_LOST: Final = 0xFFFFFFFD
MV_EXIT_UNKNOWN_EMULATION: Final = 0x1
mv_bit_size_t_8: Final = 0x0
mv_bit_size_t_16: Final = 0x1
mv_bit_size_t_32: Final = 0x2
mv_bit_size_t_64: Final = 0x3

# msr_leave_set, msr_filter_set
MV_MSR_LEAVE_INVALID: Final = 0x1
MV_MSR_LEAVE_UNKNOWN: Final = 0x2
MV_MSR_LEAVE_DENIED: Final = 0x4
MV_MSR_LEAVE_ALL: Final = 0x7
MV_MSR_FILTER_FIRST: Final = 0x1
MV_MSR_FILTER_LAST: Final = 0x2
MV_MSR_FILTER_DENY: Final = 0x4
MV_MSR_FILTER_READ: Final = 0x8
MV_MSR_FILTER_WRITE: Final = 0x10
MV_MSR_FILTER_ALL: Final = 0x1F
MV_MSR_FILTER_MAX_RANGES: Final = 0x10
MV_MSR_FILTER_MAX_MSRS: Final = 0x3000

# quirks_set
MV_QUIRK_HYPERCALL_REPAIR: Final = 0x1
MV_QUIRK_MWAIT_NEVER_UNDEFINED: Final = 0x2
MV_QUIRK_MWAIT_BY_TABLE: Final = 0x4
MV_QUIRK_OUT_7E_STEPS: Final = 0x8
MV_QUIRK_LINT0_OPEN: Final = 0x10
MV_QUIRK_APIC_HOLE: Final = 0x20
MV_QUIRK_ALL: Final = 0x3F

# debug_set
MV_DEBUG_STEP: Final = 0x1
MV_DEBUG_POINTS: Final = 0x2
MV_DEBUG_INT3: Final = 0x4
MV_DEBUG_BLOCK_INTERRUPTS: Final = 0x8
MV_DEBUG_ALL: Final = 0xF

# event_get_all, event_set_all
MV_EVENT_EXCEPTION: Final = 0x1
MV_EVENT_EXCEPTION_INJECTED: Final = 0x2
MV_EVENT_EXCEPTION_HAS_ERROR_CODE: Final = 0x4
MV_EVENT_EXCEPTION_HAS_PAYLOAD: Final = 0x8
MV_EVENT_INTERRUPT: Final = 0x10
MV_EVENT_NMI: Final = 0x20
MV_EVENT_NMI_INJECTED: Final = 0x40
MV_EVENT_NMI_BLOCKED: Final = 0x80
MV_EVENT_SHADOW_STI: Final = 0x100
MV_EVENT_SHADOW_MOV_SS: Final = 0x200
MV_EVENT_TRIPLE_FAULT: Final = 0x400
MV_EVENT_INTERRUPT_INJECTED: Final = 0x800
MV_EVENT_SMI: Final = 0x10000
MV_EVENT_SMM: Final = 0x20000
MV_EVENT_SMM_INSIDE_NMI: Final = 0x40000
MV_EVENT_INIT: Final = 0x80000
MV_EVENT_ALL: Final = 0xF0FFF

# Interrupt controllers
MV_IRQCHIP_FULL: Final = 0x0
MV_IRQCHIP_SPLIT: Final = 0x1
MV_IRQ_LEVEL: Final = 0x1
MV_IRQ_RESAMPLED: Final = 0x2
MV_IRQ_IGNORED: Final = 0xFFFFFFFFFFFFFFFF
MV_X2APIC_WIDE_IDS: Final = 0x1
MV_X2APIC_NO_BYTE_BROADCAST: Final = 0x2
MV_X2APIC_ALL: Final = 0x3
MV_GSI_MAX: Final = 0x1000
MV_GSI_LIST_MAX_ENTRIES: Final = 0xA6
MV_GSI_LIST_FIRST: Final = 0x1
MV_GSI_LIST_LAST: Final = 0x2
mv_gsi_t_pic: Final = 0x0
mv_gsi_t_ioapic: Final = 0x1
mv_gsi_t_msi: Final = 0x2
mv_gsi_t_sint: Final = 0x3
MV_CHIP_PIC_MASTER: Final = 0x0
MV_CHIP_PIC_SLAVE: Final = 0x1
MV_CHIP_IOAPIC: Final = 0x2
MV_PIC_READ_ISR: Final = 0x1
MV_PIC_POLL: Final = 0x2
MV_PIC_SPECIAL_MASK: Final = 0x4
MV_PIC_AUTO_EOI: Final = 0x8
MV_PIC_ROTATE_ON_AUTO_EOI: Final = 0x10
MV_PIC_SPECIAL_FULLY_NESTED: Final = 0x20
MV_PIC_INIT4: Final = 0x40
mv_lvt_t_cmci: Final = 0x0
MV_PIT_SPEAKER: Final = 0x1
MV_PIT_HPET_LEGACY: Final = 0x1
MV_PIT_SPEAKER_DATA_ON: Final = 0x2

# activity_get
MV_ACTIVITY_ROOT: Final = 0x0
MV_ACTIVITY_RUNNING: Final = 0x1
MV_ACTIVITY_HALTED: Final = 0x2
MV_ACTIVITY_WAIT_FOR_INIT: Final = 0x3
MV_ACTIVITY_WAIT_FOR_SIPI: Final = 0x4
MV_ACTIVITY_SUSPENDED: Final = 0x5
MV_PENDING_NONE: Final = 0x0
MV_PENDING_IO_IN: Final = 0x1
MV_PENDING_IO_OUT: Final = 0x2
MV_PENDING_MMIO_READ: Final = 0x3
MV_PENDING_MMIO_WRITE: Final = 0x4
MV_PENDING_MSR: Final = 0x5
MV_PENDING_HYPERCALL: Final = 0x6
MV_ACTIVITY_NO_EXIT: Final = 0xFFFFFFFFFFFFFFFF
MV_ACTIVITY_NOT_SUSPENDED: Final = 0xFFFFFFFFFFFFFFFF

# probe
MV_PROBE_WRITE: Final = 0x1
MV_PROBE_USER: Final = 0x2
MV_PROBE_EXECUTE: Final = 0x4
MV_PROBE_SET_ACCESSED: Final = 0x8
MV_PROBE_SET_DIRTY: Final = 0x10
MV_PROBE_FORCE_ACCESSED: Final = 0x20
MV_PROBE_FOUND: Final = 0x0
MV_PROBE_NOT_PRESENT: Final = 0x1
MV_PROBE_DENIED: Final = 0x2
MV_PROBE_RESERVED_BIT: Final = 0x3
MV_PROBE_NO_ADDRESS: Final = 0x4
MV_PROBE_NO_MEMORY: Final = 0x5

# trace_set, trace_read
MV_TRACE_EXITS: Final = 0x1
MV_TRACE_EVENTS: Final = 0x2
MV_TRACE_INSTRUCTIONS: Final = 0x4
MV_TRACE_ALL: Final = 0x7
MV_TRACE_NOW: Final = 0xFFFFFFFFFFFFFFFF
MV_TRACE_MAX_RECORDS: Final = 0x3F
MV_TRACE_KIND_EXIT: Final = 0x0
MV_TRACE_KIND_ANSWER: Final = 0x1
MV_TRACE_KIND_EVENT: Final = 0x2
MV_TRACE_KIND_INSTRUCTION: Final = 0x3
MV_TRACE_EVENT_INTERRUPT: Final = 0x0
MV_TRACE_EVENT_NMI: Final = 0x1
MV_TRACE_EVENT_SMI: Final = 0x2
MV_TRACE_EVENT_EXCEPTION: Final = 0x3
MV_TRACE_EVENT_SOFTWARE_INTERRUPT: Final = 0x4
MV_TRACE_EVENT_INIT: Final = 0x5
MV_TRACE_EVENT_START_UP: Final = 0x6


class mv_written_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("num_pages", ctypes.c_uint64),
        ("pages", ctypes.c_uint64 * 511),
    )
    num_pages: int
    pages: "ctypes.Array[ctypes.c_uint64]"


assert ctypes.sizeof(mv_written_t) == 0x1000


class mv_mdl_entry_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("dst", ctypes.c_uint64),
        ("src", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )
    dst: int
    src: int
    bytes: int
    flags: int


assert ctypes.sizeof(mv_mdl_entry_t) == 0x20


class mv_mdl_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("reg", ctypes.c_uint64 * 8),
        ("reserved", ctypes.c_uint64 * 3),
        ("num_entries", ctypes.c_uint64),
        ("entries", mv_mdl_entry_t * 125),
    )
    reg: "ctypes.Array[ctypes.c_uint64]"
    reserved: "ctypes.Array[ctypes.c_uint64]"
    num_entries: int
    entries: "ctypes.Array[mv_mdl_entry_t]"


assert ctypes.sizeof(mv_mdl_t) == 0x1000


class mv_rdl_entry_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("reg", ctypes.c_uint64),
        ("val", ctypes.c_uint64),
    )
    reg: int
    val: int


assert ctypes.sizeof(mv_rdl_entry_t) == 0x10


class mv_rdl_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("reg", ctypes.c_uint64 * 8),
        ("reserved", ctypes.c_uint64 * 3),
        ("num_entries", ctypes.c_uint64),
        ("entries", mv_rdl_entry_t * 250),
    )
    reg: "ctypes.Array[ctypes.c_uint64]"
    reserved: "ctypes.Array[ctypes.c_uint64]"
    num_entries: int
    entries: "ctypes.Array[mv_rdl_entry_t]"


assert ctypes.sizeof(mv_rdl_t) == 0x1000


class mv_cdl_entry_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("fun", ctypes.c_uint32),
        ("idx", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("eax", ctypes.c_uint32),
        ("ebx", ctypes.c_uint32),
        ("ecx", ctypes.c_uint32),
        ("edx", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )
    fun: int
    idx: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    reserved: int


assert ctypes.sizeof(mv_cdl_entry_t) == 0x20


class mv_cdl_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("reg", ctypes.c_uint64 * 8),
        ("reserved", ctypes.c_uint64 * 3),
        ("num_entries", ctypes.c_uint64),
        ("entries", mv_cdl_entry_t * 125),
    )
    reg: "ctypes.Array[ctypes.c_uint64]"
    reserved: "ctypes.Array[ctypes.c_uint64]"
    num_entries: int
    entries: "ctypes.Array[mv_cdl_entry_t]"


assert ctypes.sizeof(mv_cdl_t) == 0x1000


class mv_run_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("num_reg_entries", ctypes.c_uint64),
        ("reg_entries", mv_rdl_entry_t * 10),
        ("num_msr_entries", ctypes.c_uint64),
        ("msr_entries", mv_rdl_entry_t * 10),
        ("num_iomem", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("iomem", ctypes.c_uint8 * 3744),
    )
    num_reg_entries: int
    reg_entries: "ctypes.Array[mv_rdl_entry_t]"
    num_msr_entries: int
    msr_entries: "ctypes.Array[mv_rdl_entry_t]"
    num_iomem: int
    flags: int
    iomem: "ctypes.Array[ctypes.c_uint8]"


assert ctypes.sizeof(mv_run_t) == 0x1000


class mv_run_return_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("rflags", ctypes.c_uint64),
        ("cr8", ctypes.c_uint64),
        ("apic_base", ctypes.c_uint64),
        ("state", ctypes.c_uint64),
    )
    rflags: int
    cr8: int
    apic_base: int
    state: int


assert ctypes.sizeof(mv_run_return_t) == 0x20


class mv_exit_io_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("addr", ctypes.c_uint64),
        ("reps", ctypes.c_uint64),
        ("type", ctypes.c_uint64),
        ("size", ctypes.c_int32),
        ("bytes", ctypes.c_uint32),
        ("data", ctypes.c_uint8 * 1024),
    )
    addr: int
    reps: int
    type: int
    size: int
    bytes: int
    data: "ctypes.Array[ctypes.c_uint8]"


assert ctypes.sizeof(mv_exit_io_t) == 0x420


class mv_exit_mmio_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("gpa", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("data", ctypes.c_uint64),
        ("reserved0", ctypes.c_uint64),
        ("reserved1", ctypes.c_uint64),
        ("memory_access_size", ctypes.c_uint64),
    )
    gpa: int
    flags: int
    data: int
    reserved0: int
    reserved1: int
    memory_access_size: int


assert ctypes.sizeof(mv_exit_mmio_t) == 0x30


class mv_exit_interrupt_end_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (("vector", ctypes.c_uint64),)
    vector: int


assert ctypes.sizeof(mv_exit_interrupt_end_t) == 0x8


class mv_exit_tpr_access_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("rip", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )
    rip: int
    flags: int


assert ctypes.sizeof(mv_exit_tpr_access_t) == 0x10


class mv_exit_unknown_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("info0", ctypes.c_uint64),
        ("info1", ctypes.c_uint64),
        ("info2", ctypes.c_uint64),
        ("info3", ctypes.c_uint64),
    )
    info0: int
    info1: int
    info2: int
    info3: int


assert ctypes.sizeof(mv_exit_unknown_t) == 0x20


class mv_exit_msr_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("msr", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("data", ctypes.c_uint64),
        ("reason", ctypes.c_uint64),
    )
    msr: int
    flags: int
    data: int
    reason: int


assert ctypes.sizeof(mv_exit_msr_t) == 0x20


class mv_exit_hypercall_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("args", ctypes.c_uint64 * 5),
        ("flags", ctypes.c_uint64),
        ("cpl", ctypes.c_uint64),
    )
    args: "ctypes.Array[ctypes.c_uint64]"
    flags: int
    cpl: int


assert ctypes.sizeof(mv_exit_hypercall_t) == 0x38


class mv_exit_hyperv_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("kind", ctypes.c_uint64),
        ("data", ctypes.c_uint64 * 6),
    )
    kind: int
    data: "ctypes.Array[ctypes.c_uint64]"


assert ctypes.sizeof(mv_exit_hyperv_t) == 0x38


class mv_exit_debug_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("vector", ctypes.c_uint64),
        ("rip", ctypes.c_uint64),
        ("dr6", ctypes.c_uint64),
        ("dr7", ctypes.c_uint64),
    )
    vector: int
    rip: int
    dr6: int
    dr7: int


assert ctypes.sizeof(mv_exit_debug_t) == 0x20


class mv_exit_memory_fault_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (("gpa", ctypes.c_uint64),)
    gpa: int


assert ctypes.sizeof(mv_exit_memory_fault_t) == 0x8


class mv_exit_failure_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (("reason", ctypes.c_uint64),)
    reason: int


assert ctypes.sizeof(mv_exit_failure_t) == 0x8


class mv_event_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("exception_vector", ctypes.c_uint32),
        ("exception_error_code", ctypes.c_uint32),
        ("exception_payload", ctypes.c_uint64),
        ("interrupt_vector", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )
    flags: int
    exception_vector: int
    exception_error_code: int
    exception_payload: int
    interrupt_vector: int
    reserved: int


assert ctypes.sizeof(mv_event_t) == 0x20


class mv_clock_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("clock", ctypes.c_uint64),
        ("realtime", ctypes.c_uint64),
        ("tsc", ctypes.c_uint64),
    )
    clock: int
    realtime: int
    tsc: int


assert ctypes.sizeof(mv_clock_t) == 0x18


class mv_probe_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("gpa", ctypes.c_uint64),
        ("failure", ctypes.c_uint64),
        ("marked", ctypes.c_uint64),
    )
    gpa: int
    failure: int
    marked: int


assert ctypes.sizeof(mv_probe_t) == 0x18


class mv_vm_stats_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("flush_requests", ctypes.c_uint64),
        ("flushes", ctypes.c_uint64),
        ("pages", ctypes.c_uint64),
    )
    flush_requests: int
    flushes: int
    pages: int


assert ctypes.sizeof(mv_vm_stats_t) == 0x18


class mv_vs_stats_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("exits", ctypes.c_uint64),
        ("io_exits", ctypes.c_uint64),
        ("mmio_exits", ctypes.c_uint64),
        ("hlt_exits", ctypes.c_uint64),
        ("interrupt_exits", ctypes.c_uint64),
        ("interrupt_window_exits", ctypes.c_uint64),
        ("unknown_exits", ctypes.c_uint64),
        ("interrupts", ctypes.c_uint64),
        ("nmis", ctypes.c_uint64),
        ("flushes", ctypes.c_uint64),
        ("msr_exits", ctypes.c_uint64),
        ("hypercall_exits", ctypes.c_uint64),
        ("debug_exits", ctypes.c_uint64),
        ("memory_fault_exits", ctypes.c_uint64),
        ("shutdown_exits", ctypes.c_uint64),
        ("noted_exits", ctypes.c_uint64),
        ("left", ctypes.c_uint64),
        ("instructions", ctypes.c_uint64),
        ("page_faults", ctypes.c_uint64),
        ("wakeups", ctypes.c_uint64),
        ("hlt_wait_ns", ctypes.c_uint64),
        ("asleep", ctypes.c_uint64),
        ("preemptions", ctypes.c_uint64),
    )
    exits: int
    io_exits: int
    mmio_exits: int
    hlt_exits: int
    interrupt_exits: int
    interrupt_window_exits: int
    unknown_exits: int
    interrupts: int
    nmis: int
    flushes: int
    msr_exits: int
    hypercall_exits: int
    debug_exits: int
    memory_fault_exits: int
    shutdown_exits: int
    noted_exits: int
    left: int
    instructions: int
    page_faults: int
    wakeups: int
    hlt_wait_ns: int
    asleep: int
    preemptions: int


assert ctypes.sizeof(mv_vs_stats_t) == 0xB8


class mv_debug_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("dr", ctypes.c_uint64 * 4),
        ("dr7", ctypes.c_uint64),
    )
    flags: int
    dr: "ctypes.Array[ctypes.c_uint64]"
    dr7: int


assert ctypes.sizeof(mv_debug_t) == 0x30


class mv_msr_filter_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("first", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("bitmap", ctypes.c_uint8 * 1536),
    )
    flags: int
    first: int
    count: int
    bitmap: "ctypes.Array[ctypes.c_uint8]"


assert ctypes.sizeof(mv_msr_filter_t) == 0x610


class mv_gsi_entry_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("gsi", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("data", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )
    gsi: int
    kind: int
    address: int
    data: int
    reserved: int


assert ctypes.sizeof(mv_gsi_entry_t) == 0x18


class mv_gsi_list_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("reserved", ctypes.c_uint64 * 1),
        ("num_entries", ctypes.c_uint64),
        ("entries", mv_gsi_entry_t * 166),
        ("padding", ctypes.c_uint64 * 12),
    )
    reserved: "ctypes.Array[ctypes.c_uint64]"
    num_entries: int
    entries: "ctypes.Array[mv_gsi_entry_t]"
    padding: "ctypes.Array[ctypes.c_uint64]"


assert ctypes.sizeof(mv_gsi_list_t) == 0x1000


class mv_line_list_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("num_entries", ctypes.c_uint64),
        ("lines", ctypes.c_uint32 * 1022),
    )
    num_entries: int
    lines: "ctypes.Array[ctypes.c_uint32]"


assert ctypes.sizeof(mv_line_list_t) == 0x1000


class mv_pic_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("last_irr", ctypes.c_uint8),
        ("irr", ctypes.c_uint8),
        ("imr", ctypes.c_uint8),
        ("isr", ctypes.c_uint8),
        ("priority_add", ctypes.c_uint8),
        ("irq_base", ctypes.c_uint8),
        ("init_state", ctypes.c_uint8),
        ("elcr", ctypes.c_uint8),
        ("elcr_mask", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 6),
    )
    last_irr: int
    irr: int
    imr: int
    isr: int
    priority_add: int
    irq_base: int
    init_state: int
    elcr: int
    elcr_mask: int
    flags: int
    reserved: "ctypes.Array[ctypes.c_uint8]"


assert ctypes.sizeof(mv_pic_t) == 0x10


class mv_ioapic_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("base_address", ctypes.c_uint64),
        ("ioregsel", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("irr", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("redirtbl", ctypes.c_uint64 * 24),
    )
    base_address: int
    ioregsel: int
    id: int
    irr: int
    reserved: int
    redirtbl: "ctypes.Array[ctypes.c_uint64]"


assert ctypes.sizeof(mv_ioapic_t) == 0xD8


class mv_pit_channel_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("count", ctypes.c_uint32),
        ("latched_count", ctypes.c_uint32),
        ("count_latched", ctypes.c_uint8),
        ("status_latched", ctypes.c_uint8),
        ("status", ctypes.c_uint8),
        ("read_state", ctypes.c_uint8),
        ("write_state", ctypes.c_uint8),
        ("write_latch", ctypes.c_uint8),
        ("rw_mode", ctypes.c_uint8),
        ("mode", ctypes.c_uint8),
        ("bcd", ctypes.c_uint8),
        ("gate", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 6),
        ("load_time_ns", ctypes.c_uint64),
    )
    count: int
    latched_count: int
    count_latched: int
    status_latched: int
    status: int
    read_state: int
    write_state: int
    write_latch: int
    rw_mode: int
    mode: int
    bcd: int
    gate: int
    reserved: "ctypes.Array[ctypes.c_uint8]"
    load_time_ns: int


assert ctypes.sizeof(mv_pit_channel_t) == 0x20


class mv_pit_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("channels", mv_pit_channel_t * 3),
        ("flags", ctypes.c_uint64),
    )
    channels: "ctypes.Array[mv_pit_channel_t]"
    flags: int


assert ctypes.sizeof(mv_pit_t) == 0x68


class mv_activity_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("activity", ctypes.c_uint64),
        ("pending", ctypes.c_uint64),
        ("last_exit", ctypes.c_uint64),
        ("mp_state", ctypes.c_uint64),
        ("suspended_on", ctypes.c_uint64),
        ("hypercall", ctypes.c_uint64),
    )
    activity: int
    pending: int
    last_exit: int
    mp_state: int
    suspended_on: int
    hypercall: int


assert ctypes.sizeof(mv_activity_t) == 0x30


class mv_trace_record_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("number", ctypes.c_uint64),
        ("tsc", ctypes.c_uint64),
        ("rip", ctypes.c_uint64),
        ("kind", ctypes.c_uint32),
        ("detail", ctypes.c_uint32),
        ("data", ctypes.c_uint64 * 4),
    )
    number: int
    tsc: int
    rip: int
    kind: int
    detail: int
    data: "ctypes.Array[ctypes.c_uint64]"


assert ctypes.sizeof(mv_trace_record_t) == 0x40


class mv_trace_t(ctypes.LittleEndianStructure):
    _pack_ = 1
    _fields_ = (
        ("next", ctypes.c_uint64),
        ("lost", ctypes.c_uint64),
        ("num_records", ctypes.c_uint64),
        ("tsc", ctypes.c_uint64),
        ("tsc_khz", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 3),
        ("records", mv_trace_record_t * 63),
    )
    next: int
    lost: int
    num_records: int
    tsc: int
    tsc_khz: int
    reserved: "ctypes.Array[ctypes.c_uint64]"
    records: "ctypes.Array[mv_trace_record_t]"


assert ctypes.sizeof(mv_trace_t) == 0x1000
