"""Which handler answers which ioctl on which kind of file: the whole KVM ABI at a glance.

A new ioctl is a number in `kvmshim/door/src/ioctls.rs`, a handler below `kvmshim/handle`, and a row
here. The door answers KVM_RUN, KVM_GET_REGS and KVM_SET_REGS in Rust (`kvmshim/door/src/vcpu.rs`)
before they come here; KVM_RUN has no row.
"""

from ctypes import c_uint64
from typing import Final, NoReturn

from kvmshim.abi import ioctls_gen as kvm
from kvmshim.abi.structs_gen import (
    kvm_clear_dirty_log,
    kvm_clock_data,
    kvm_coalesced_mmio_zone,
    kvm_cpuid_entry,
    kvm_create_device,
    kvm_create_guest_memfd,
    kvm_debugregs,
    kvm_device_attr,
    kvm_dirty_log,
    kvm_enable_cap,
    kvm_fpu,
    kvm_guest_debug,
    kvm_hyperv_eventfd,
    kvm_hyperv_tlb_flush_inhibit,
    kvm_interrupt,
    kvm_ioeventfd,
    kvm_irq_level,
    kvm_irqchip,
    kvm_irqfd,
    kvm_lapic_state,
    kvm_memory_attributes,
    kvm_mp_state,
    kvm_msi,
    kvm_msr_filter,
    kvm_pit_config,
    kvm_pit_state,
    kvm_pit_state2,
    kvm_pre_fault_memory,
    kvm_regs,
    kvm_reinject_control,
    kvm_sregs,
    kvm_sregs2,
    kvm_tpr_access_ctl,
    kvm_translation,
    kvm_translation2,
    kvm_userspace_memory_region,
    kvm_userspace_memory_region2,
    kvm_vcpu_events,
    kvm_x86_mce,
    kvm_xcrs,
    kvm_xsave,
)
from kvmshim.dispatch import lists, shapes
from kvmshim.dispatch.shapes import Shape
from kvmshim.handle import statistics
from kvmshim.handle.system import attributes as system_attributes
from kvmshim.handle.system import cpuid as supported_cpuid
from kvmshim.handle.system import emulated_cpuid, extension, msr_features, msr_index, version
from kvmshim.handle.system import hyperv_cpuid as system_hyperv_cpuid
from kvmshim.handle.vcpu import (
    attributes,
    cpuid,
    debug_regs,
    events,
    fpu,
    guest_debug,
    hyperv_cpuid,
    hyperv_flush,
    interrupt,
    lapic,
    mce,
    mp_state,
    msrs,
    paravirt,
    pre_fault,
    signal_mask,
    sregs,
    translate,
    translate2,
    tsc,
    vapic,
    xsave,
)
from kvmshim.handle.vcpu import enable_cap as vcpu_enable_cap
from kvmshim.handle.vm import (
    clock,
    coalesced,
    create_device,
    dirty_log,
    dirty_ring,
    enable_cap,
    guest_memory,
    hyperv_eventfd,
    ioeventfd,
    irq_line,
    irqchip,
    irqfd,
    lifetime,
    memory,
    memory_attributes,
    mmu_pages,
    msr_filter,
    pit,
    placement,
    routing,
)
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm


def _in_the_door(*_: object) -> NoReturn:
    """What the door answers; its row says what it looks like."""
    raise AssertionError("the door answers it")


SYSTEM: Final[dict[int, Shape]] = {
    kvm.KVM_GET_API_VERSION: shapes.nothing(version.handle_system_get_api_version),
    kvm.KVM_CREATE_VM: shapes.new_file(lifetime.handle_system_create_vm),
    kvm.KVM_GET_MSR_INDEX_LIST: lists.gives_msr_indexes(msr_index.handle_system_get_msr_index_list),
    kvm.KVM_GET_SUPPORTED_HV_CPUID: lists.gives_cpuid(
        system_hyperv_cpuid.handle_system_get_supported_hv_cpuid
    ),
    kvm.KVM_GET_EMULATED_CPUID: lists.gives_emulated_cpuid(
        emulated_cpuid.handle_system_get_emulated_cpuid
    ),
    kvm.KVM_X86_GET_MCE_CAP_SUPPORTED: shapes.gives(mce.handle_system_x86_get_mce_cap_supported),
    kvm.KVM_GET_MSR_FEATURE_INDEX_LIST: lists.gives_msr_indexes(
        msr_features.handle_system_get_msr_feature_index_list
    ),
    kvm.KVM_GET_MSRS: lists.reads_msrs(msr_features.handle_system_get_msrs),
    kvm.KVM_HAS_DEVICE_ATTR: shapes.takes_memory(
        kvm_device_attr, system_attributes.handle_system_has_device_attr
    ),
    kvm.KVM_GET_DEVICE_ATTR: shapes.takes_memory(
        kvm_device_attr, system_attributes.handle_system_get_device_attr
    ),
    kvm.KVM_CHECK_EXTENSION: shapes.number(extension.handle_check_extension),
    kvm.KVM_GET_VCPU_MMAP_SIZE: shapes.nothing(version.handle_system_get_vcpu_mmap_size),
    kvm.KVM_GET_SUPPORTED_CPUID: lists.gives_supported_cpuid(
        supported_cpuid.handle_system_get_supported_cpuid
    ),
}

VM: Final[dict[int, Shape]] = {
    kvm.KVM_CHECK_EXTENSION: shapes.number(extension.handle_check_extension),
    kvm.KVM_CREATE_VCPU: shapes.new_file(lifetime.handle_vm_create_vcpu),
    kvm.KVM_SET_USER_MEMORY_REGION: shapes.takes_memory(
        kvm_userspace_memory_region, memory.handle_vm_set_user_memory_region
    ),
    kvm.KVM_SET_USER_MEMORY_REGION2: shapes.takes_memory(
        kvm_userspace_memory_region2, memory.handle_vm_set_user_memory_region2
    ),
    kvm.KVM_SET_MEMORY_ATTRIBUTES: shapes.takes(
        kvm_memory_attributes, memory_attributes.handle_vm_set_memory_attributes
    ),
    kvm.KVM_CREATE_GUEST_MEMFD: shapes.new_file_of(
        kvm_create_guest_memfd, guest_memory.handle_vm_create_guest_memfd
    ),
    kvm.KVM_GET_DIRTY_LOG: shapes.takes_memory(kvm_dirty_log, dirty_log.handle_vm_get_dirty_log),
    kvm.KVM_CLEAR_DIRTY_LOG: shapes.takes_memory(
        kvm_clear_dirty_log, dirty_log.handle_vm_clear_dirty_log
    ),
    kvm.KVM_RESET_DIRTY_RINGS: shapes.number(dirty_ring.handle_vm_reset_dirty_rings),
    kvm.KVM_REGISTER_COALESCED_MMIO: shapes.takes(
        kvm_coalesced_mmio_zone, coalesced.handle_vm_register_coalesced_mmio
    ),
    kvm.KVM_UNREGISTER_COALESCED_MMIO: shapes.takes(
        kvm_coalesced_mmio_zone, coalesced.handle_vm_unregister_coalesced_mmio
    ),
    kvm.KVM_SET_NR_MMU_PAGES: shapes.number(mmu_pages.handle_vm_set_nr_mmu_pages),
    kvm.KVM_GET_NR_MMU_PAGES: shapes.number(mmu_pages.handle_vm_get_nr_mmu_pages),
    kvm.KVM_SET_TSS_ADDR: shapes.number(placement.handle_vm_set_tss_addr),
    kvm.KVM_SET_IDENTITY_MAP_ADDR: shapes.takes(
        c_uint64, placement.handle_vm_set_identity_map_addr, before=placement.check_no_vcpus
    ),
    kvm.KVM_SET_BOOT_CPU_ID: shapes.number(placement.handle_vm_set_boot_cpu_id),
    kvm.KVM_GET_CLOCK: shapes.gives(clock.handle_vm_get_clock),
    kvm.KVM_SET_CLOCK: shapes.takes(kvm_clock_data, clock.handle_vm_set_clock),
    kvm.KVM_X86_SET_MSR_FILTER: shapes.takes_memory(
        kvm_msr_filter, msr_filter.handle_vm_x86_set_msr_filter
    ),
    kvm.KVM_ENABLE_CAP: shapes.takes(kvm_enable_cap, enable_cap.handle_vm_enable_cap),
    kvm.KVM_GET_STATS_FD: shapes.new_file(statistics.handle_get_stats_fd),
    kvm.KVM_SET_TSC_KHZ: shapes.number(tsc.handle_vm_set_tsc_khz),
    kvm.KVM_GET_TSC_KHZ: shapes.number(tsc.handle_vm_get_tsc_khz),
    kvm.KVM_CREATE_IRQCHIP: shapes.ignores_argument(irqchip.handle_vm_create_irqchip),
    kvm.KVM_GET_IRQCHIP: shapes.exchanges(kvm_irqchip, irqchip.handle_vm_get_irqchip),
    kvm.KVM_SET_IRQCHIP: shapes.takes(kvm_irqchip, irqchip.handle_vm_set_irqchip),
    kvm.KVM_IRQ_LINE: shapes.takes(kvm_irq_level, irq_line.handle_vm_irq_line),
    kvm.KVM_IRQ_LINE_STATUS: shapes.exchanges(kvm_irq_level, irq_line.handle_vm_irq_line_status),
    kvm.KVM_SIGNAL_MSI: shapes.takes_and_counts(kvm_msi, irq_line.handle_vm_signal_msi),
    kvm.KVM_SET_GSI_ROUTING: lists.takes_routing(
        routing.handle_vm_set_gsi_routing, before=routing.check_head
    ),
    kvm.KVM_IRQFD: shapes.takes_memory(kvm_irqfd, irqfd.handle_vm_irqfd),
    kvm.KVM_CREATE_PIT: shapes.number(pit.handle_vm_create_pit),
    kvm.KVM_GET_PIT: shapes.exchanges(kvm_pit_state, pit.handle_vm_get_pit),
    kvm.KVM_SET_PIT: shapes.takes(kvm_pit_state, pit.handle_vm_set_pit),
    kvm.KVM_CREATE_DEVICE: shapes.takes(kvm_create_device, create_device.handle_vm_create_device),
    kvm.KVM_CREATE_PIT2: shapes.takes(kvm_pit_config, pit.handle_vm_create_pit2),
    kvm.KVM_GET_PIT2: shapes.gives(pit.handle_vm_get_pit2),
    kvm.KVM_SET_PIT2: shapes.takes(kvm_pit_state2, pit.handle_vm_set_pit2),
    kvm.KVM_REINJECT_CONTROL: shapes.takes(kvm_reinject_control, pit.handle_vm_reinject_control),
    kvm.KVM_HYPERV_EVENTFD: shapes.takes_memory(
        kvm_hyperv_eventfd, hyperv_eventfd.handle_vm_hyperv_eventfd
    ),
    kvm.KVM_IOEVENTFD: shapes.takes_memory(kvm_ioeventfd, ioeventfd.handle_vm_ioeventfd),
}

VCPU: Final[dict[int, Shape]] = {
    kvm.KVM_GET_REGS: shapes.gives(_in_the_door),
    kvm.KVM_SET_REGS: shapes.takes(kvm_regs, _in_the_door),
    kvm.KVM_GET_SREGS: shapes.gives(sregs.handle_vcpu_get_sregs),
    kvm.KVM_GET_SREGS2: shapes.gives(sregs.handle_vcpu_get_sregs2),
    kvm.KVM_SET_SREGS2: shapes.takes(kvm_sregs2, sregs.handle_vcpu_set_sregs2),
    kvm.KVM_SET_SREGS: shapes.takes(kvm_sregs, sregs.handle_vcpu_set_sregs),
    kvm.KVM_GET_MSRS: lists.reads_msrs(msrs.handle_vcpu_get_msrs),
    kvm.KVM_SET_MSRS: lists.writes_msrs(msrs.handle_vcpu_set_msrs),
    kvm.KVM_SET_SIGNAL_MASK: shapes.takes_signal_set(signal_mask.handle_vcpu_set_signal_mask),
    kvm.KVM_GET_FPU: shapes.gives(fpu.handle_vcpu_get_fpu),
    kvm.KVM_SET_FPU: shapes.takes(kvm_fpu, fpu.handle_vcpu_set_fpu),
    kvm.KVM_GET_LAPIC: shapes.gives(lapic.handle_vcpu_get_lapic),
    kvm.KVM_SET_LAPIC: shapes.takes(kvm_lapic_state, lapic.handle_vcpu_set_lapic),
    kvm.KVM_TPR_ACCESS_REPORTING: shapes.exchanges(
        kvm_tpr_access_ctl, vapic.handle_vcpu_tpr_access_reporting
    ),
    kvm.KVM_SET_VAPIC_ADDR: shapes.takes(c_uint64, vapic.handle_vcpu_set_vapic_addr),
    kvm.KVM_SET_CPUID: lists.takes_cpuid(cpuid.handle_vcpu_set_cpuid, kvm_cpuid_entry),
    kvm.KVM_SET_CPUID2: lists.takes_cpuid(cpuid.handle_vcpu_set_cpuid2),
    kvm.KVM_GET_CPUID2: lists.gives_cpuid(cpuid.handle_vcpu_get_cpuid2),
    kvm.KVM_GET_SUPPORTED_HV_CPUID: lists.gives_cpuid(
        hyperv_cpuid.handle_vcpu_get_supported_hv_cpuid
    ),
    kvm.KVM_HYPERV_SET_TLB_FLUSH_INHIBIT: shapes.takes(
        kvm_hyperv_tlb_flush_inhibit, hyperv_flush.handle_vcpu_hyperv_set_tlb_flush_inhibit
    ),
    kvm.KVM_GET_XSAVE: shapes.gives(xsave.handle_vcpu_get_xsave),
    kvm.KVM_GET_XSAVE2: shapes.gives(xsave.handle_vcpu_get_xsave),
    kvm.KVM_SET_XSAVE: shapes.takes(kvm_xsave, xsave.handle_vcpu_set_xsave),
    kvm.KVM_GET_XCRS: shapes.gives(xsave.handle_vcpu_get_xcrs),
    kvm.KVM_SET_XCRS: shapes.takes(kvm_xcrs, xsave.handle_vcpu_set_xcrs),
    kvm.KVM_GET_DEBUGREGS: shapes.gives(debug_regs.handle_vcpu_get_debugregs),
    kvm.KVM_SET_DEBUGREGS: shapes.takes(kvm_debugregs, debug_regs.handle_vcpu_set_debugregs),
    kvm.KVM_X86_SETUP_MCE: shapes.takes(c_uint64, mce.handle_vcpu_x86_setup_mce),
    kvm.KVM_X86_SET_MCE: shapes.takes(kvm_x86_mce, mce.handle_vcpu_x86_set_mce),
    kvm.KVM_SET_GUEST_DEBUG: shapes.takes(kvm_guest_debug, guest_debug.handle_vcpu_set_guest_debug),
    kvm.KVM_GET_VCPU_EVENTS: shapes.gives(events.handle_vcpu_get_vcpu_events),
    kvm.KVM_SET_VCPU_EVENTS: shapes.takes(kvm_vcpu_events, events.handle_vcpu_set_vcpu_events),
    kvm.KVM_TRANSLATE: shapes.exchanges(kvm_translation, translate.handle_vcpu_translate),
    kvm.KVM_TRANSLATE2: shapes.exchanges(kvm_translation2, translate2.handle_vcpu_translate2),
    kvm.KVM_INTERRUPT: shapes.takes(kvm_interrupt, interrupt.handle_vcpu_interrupt),
    kvm.KVM_NMI: shapes.number(interrupt.handle_vcpu_nmi),
    kvm.KVM_GET_STATS_FD: shapes.new_file(statistics.handle_get_stats_fd),
    kvm.KVM_KVMCLOCK_CTRL: shapes.number(paravirt.handle_vcpu_kvmclock_ctrl),
    kvm.KVM_ENABLE_CAP: shapes.takes(kvm_enable_cap, vcpu_enable_cap.handle_vcpu_enable_cap),
    kvm.KVM_SMI: shapes.number(interrupt.handle_vcpu_smi),
    kvm.KVM_SET_TSC_KHZ: shapes.number(tsc.handle_vcpu_set_tsc_khz),
    kvm.KVM_GET_TSC_KHZ: shapes.number(tsc.handle_vcpu_get_tsc_khz),
    kvm.KVM_PRE_FAULT_MEMORY: shapes.exchanges(
        kvm_pre_fault_memory, pre_fault.handle_vcpu_pre_fault_memory, after_failure=True
    ),
    kvm.KVM_HAS_DEVICE_ATTR: shapes.takes_memory(
        kvm_device_attr, attributes.handle_vcpu_has_device_attr
    ),
    kvm.KVM_GET_DEVICE_ATTR: shapes.takes_memory(
        kvm_device_attr, attributes.handle_vcpu_get_device_attr
    ),
    kvm.KVM_SET_DEVICE_ATTR: shapes.takes_memory(
        kvm_device_attr, attributes.handle_vcpu_set_device_attr
    ),
    kvm.KVM_GET_MP_STATE: shapes.gives(mp_state.handle_vcpu_get_mp_state),
    kvm.KVM_SET_MP_STATE: shapes.takes(kvm_mp_state, mp_state.handle_vcpu_set_mp_state),
}

TABLES: Final[dict[type, dict[int, Shape]]] = {System: SYSTEM, Vm: VM, Vcpu: VCPU}
