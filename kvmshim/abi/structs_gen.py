"""Layouts of the structures of `linux/kvm.h`, and of patch series.

Generated from `kvm-bindings` by `tools/gen/src/structs.rs` by `make gen`; do not edit.
"""

from ctypes import (
    Array,
    Structure,
    c_int8,
    c_int16,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    sizeof,
)
from typing import Final

KVM_RUN_EXIT_OFFSET: Final = 0x20
KVM_RUN_SYNC_OFFSET: Final = 0x130


class kvm_segment(Structure):
    """`struct kvm_segment`, 24 bytes."""

    base: int
    limit: int
    selector: int
    type_: int
    present: int
    dpl: int
    db: int
    s: int
    l: int
    g: int
    avl: int
    unusable: int
    padding: int

    _pack_ = 1
    _fields_ = (
        ("base", c_uint64),
        ("limit", c_uint32),
        ("selector", c_uint16),
        ("type_", c_uint8),
        ("present", c_uint8),
        ("dpl", c_uint8),
        ("db", c_uint8),
        ("s", c_uint8),
        ("l", c_uint8),
        ("g", c_uint8),
        ("avl", c_uint8),
        ("unusable", c_uint8),
        ("padding", c_uint8),
    )


assert sizeof(kvm_segment) == 24


class kvm_dtable(Structure):
    """`struct kvm_dtable`, 16 bytes."""

    base: int
    limit: int
    padding: Array[c_uint16]

    _pack_ = 1
    _fields_ = (
        ("base", c_uint64),
        ("limit", c_uint16),
        ("padding", c_uint16 * 3),
    )


assert sizeof(kvm_dtable) == 16


class kvm_regs(Structure):
    """`struct kvm_regs`, 144 bytes."""

    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    rsp: int
    rbp: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int

    _pack_ = 1
    _fields_ = (
        ("rax", c_uint64),
        ("rbx", c_uint64),
        ("rcx", c_uint64),
        ("rdx", c_uint64),
        ("rsi", c_uint64),
        ("rdi", c_uint64),
        ("rsp", c_uint64),
        ("rbp", c_uint64),
        ("r8", c_uint64),
        ("r9", c_uint64),
        ("r10", c_uint64),
        ("r11", c_uint64),
        ("r12", c_uint64),
        ("r13", c_uint64),
        ("r14", c_uint64),
        ("r15", c_uint64),
        ("rip", c_uint64),
        ("rflags", c_uint64),
    )


assert sizeof(kvm_regs) == 144


class kvm_sregs(Structure):
    """`struct kvm_sregs`, 312 bytes."""

    cs: kvm_segment
    ds: kvm_segment
    es: kvm_segment
    fs: kvm_segment
    gs: kvm_segment
    ss: kvm_segment
    tr: kvm_segment
    ldt: kvm_segment
    gdt: kvm_dtable
    idt: kvm_dtable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    interrupt_bitmap: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("cs", kvm_segment),
        ("ds", kvm_segment),
        ("es", kvm_segment),
        ("fs", kvm_segment),
        ("gs", kvm_segment),
        ("ss", kvm_segment),
        ("tr", kvm_segment),
        ("ldt", kvm_segment),
        ("gdt", kvm_dtable),
        ("idt", kvm_dtable),
        ("cr0", c_uint64),
        ("cr2", c_uint64),
        ("cr3", c_uint64),
        ("cr4", c_uint64),
        ("cr8", c_uint64),
        ("efer", c_uint64),
        ("apic_base", c_uint64),
        ("interrupt_bitmap", c_uint64 * 4),
    )


assert sizeof(kvm_sregs) == 312


class kvm_fpu(Structure):
    """`struct kvm_fpu`, 416 bytes."""

    fpr: Array[c_uint8]
    fcw: int
    fsw: int
    ftwx: int
    pad1: int
    last_opcode: int
    last_ip: int
    last_dp: int
    xmm: Array[c_uint8]
    mxcsr: int
    pad2: int

    _pack_ = 1
    _fields_ = (
        ("fpr", c_uint8 * 16 * 8),
        ("fcw", c_uint16),
        ("fsw", c_uint16),
        ("ftwx", c_uint8),
        ("pad1", c_uint8),
        ("last_opcode", c_uint16),
        ("last_ip", c_uint64),
        ("last_dp", c_uint64),
        ("xmm", c_uint8 * 16 * 16),
        ("mxcsr", c_uint32),
        ("pad2", c_uint32),
    )


assert sizeof(kvm_fpu) == 416


class kvm_xsave(Structure):
    """`struct kvm_xsave`, 4096 bytes."""

    region: Array[c_uint32]

    _pack_ = 1
    _fields_ = (("region", c_uint32 * 1024),)


assert sizeof(kvm_xsave) == 4096


class kvm_xcr(Structure):
    """`struct kvm_xcr`, 16 bytes."""

    xcr: int
    reserved: int
    value: int

    _pack_ = 1
    _fields_ = (
        ("xcr", c_uint32),
        ("reserved", c_uint32),
        ("value", c_uint64),
    )


assert sizeof(kvm_xcr) == 16


class kvm_xcrs(Structure):
    """`struct kvm_xcrs`, 392 bytes."""

    nr_xcrs: int
    flags: int
    xcrs: Array[kvm_xcr]
    padding: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("nr_xcrs", c_uint32),
        ("flags", c_uint32),
        ("xcrs", kvm_xcr * 16),
        ("padding", c_uint64 * 16),
    )


assert sizeof(kvm_xcrs) == 392


class kvm_debugregs(Structure):
    """`struct kvm_debugregs`, 128 bytes."""

    db: Array[c_uint64]
    dr6: int
    dr7: int
    flags: int
    reserved: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("db", c_uint64 * 4),
        ("dr6", c_uint64),
        ("dr7", c_uint64),
        ("flags", c_uint64),
        ("reserved", c_uint64 * 9),
    )


assert sizeof(kvm_debugregs) == 128


class kvm_translation(Structure):
    """`struct kvm_translation`, 24 bytes."""

    linear_address: int
    physical_address: int
    valid: int
    writeable: int
    usermode: int
    pad: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("linear_address", c_uint64),
        ("physical_address", c_uint64),
        ("valid", c_uint8),
        ("writeable", c_uint8),
        ("usermode", c_uint8),
        ("pad", c_uint8 * 5),
    )


assert sizeof(kvm_translation) == 24


class kvm_translation2(Structure):
    """`struct kvm_translation2`, 40 bytes."""

    linear_address: int
    flags: int
    access: int
    padding: Array[c_uint8]
    physical_address: int
    valid: int
    error_code: int
    set_bits_succeeded: int
    padding2: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("linear_address", c_uint64),
        ("flags", c_uint16),
        ("access", c_uint16),
        ("padding", c_uint8 * 4),
        ("physical_address", c_uint64),
        ("valid", c_uint8),
        ("_at_19", c_uint8 * 1),
        ("error_code", c_uint16),
        ("set_bits_succeeded", c_uint8),
        ("padding2", c_uint8 * 4),
        ("_at_21", c_uint8 * 7),
    )


assert sizeof(kvm_translation2) == 40


class kvm_signal_mask(Structure):
    """`struct kvm_signal_mask`, 4 bytes."""

    len: int

    _pack_ = 1
    _fields_ = (("len", c_uint32),)


assert sizeof(kvm_signal_mask) == 4


class kvm_interrupt(Structure):
    """`struct kvm_interrupt`, 4 bytes."""

    irq: int

    _pack_ = 1
    _fields_ = (("irq", c_uint32),)


assert sizeof(kvm_interrupt) == 4


class kvm_sregs2(Structure):
    """`struct kvm_sregs2`, 320 bytes."""

    cs: kvm_segment
    ds: kvm_segment
    es: kvm_segment
    fs: kvm_segment
    gs: kvm_segment
    ss: kvm_segment
    tr: kvm_segment
    ldt: kvm_segment
    gdt: kvm_dtable
    idt: kvm_dtable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    flags: int
    pdptrs: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("cs", kvm_segment),
        ("ds", kvm_segment),
        ("es", kvm_segment),
        ("fs", kvm_segment),
        ("gs", kvm_segment),
        ("ss", kvm_segment),
        ("tr", kvm_segment),
        ("ldt", kvm_segment),
        ("gdt", kvm_dtable),
        ("idt", kvm_dtable),
        ("cr0", c_uint64),
        ("cr2", c_uint64),
        ("cr3", c_uint64),
        ("cr4", c_uint64),
        ("cr8", c_uint64),
        ("efer", c_uint64),
        ("apic_base", c_uint64),
        ("flags", c_uint64),
        ("pdptrs", c_uint64 * 4),
    )


assert sizeof(kvm_sregs2) == 320


class kvm_events_exception(Structure):
    """`struct kvm_events_exception`, 8 bytes."""

    injected: int
    nr: int
    has_error_code: int
    pending: int
    error_code: int

    _pack_ = 1
    _fields_ = (
        ("injected", c_uint8),
        ("nr", c_uint8),
        ("has_error_code", c_uint8),
        ("pending", c_uint8),
        ("error_code", c_uint32),
    )


assert sizeof(kvm_events_exception) == 8


class kvm_events_interrupt(Structure):
    """`struct kvm_events_interrupt`, 4 bytes."""

    injected: int
    nr: int
    soft: int
    shadow: int

    _pack_ = 1
    _fields_ = (
        ("injected", c_uint8),
        ("nr", c_uint8),
        ("soft", c_uint8),
        ("shadow", c_uint8),
    )


assert sizeof(kvm_events_interrupt) == 4


class kvm_events_nmi(Structure):
    """`struct kvm_events_nmi`, 4 bytes."""

    injected: int
    pending: int
    masked: int
    pad: int

    _pack_ = 1
    _fields_ = (
        ("injected", c_uint8),
        ("pending", c_uint8),
        ("masked", c_uint8),
        ("pad", c_uint8),
    )


assert sizeof(kvm_events_nmi) == 4


class kvm_events_smi(Structure):
    """`struct kvm_events_smi`, 4 bytes."""

    smm: int
    pending: int
    smm_inside_nmi: int
    latched_init: int

    _pack_ = 1
    _fields_ = (
        ("smm", c_uint8),
        ("pending", c_uint8),
        ("smm_inside_nmi", c_uint8),
        ("latched_init", c_uint8),
    )


assert sizeof(kvm_events_smi) == 4


class kvm_events_triple_fault(Structure):
    """`struct kvm_events_triple_fault`, 1 bytes."""

    pending: int

    _pack_ = 1
    _fields_ = (("pending", c_uint8),)


assert sizeof(kvm_events_triple_fault) == 1


class kvm_vcpu_events(Structure):
    """`struct kvm_vcpu_events`, 64 bytes."""

    exception: kvm_events_exception
    interrupt: kvm_events_interrupt
    nmi: kvm_events_nmi
    sipi_vector: int
    flags: int
    smi: kvm_events_smi
    triple_fault: kvm_events_triple_fault
    reserved: Array[c_uint8]
    exception_has_payload: int
    exception_payload: int

    _pack_ = 1
    _fields_ = (
        ("exception", kvm_events_exception),
        ("interrupt", kvm_events_interrupt),
        ("nmi", kvm_events_nmi),
        ("sipi_vector", c_uint32),
        ("flags", c_uint32),
        ("smi", kvm_events_smi),
        ("triple_fault", kvm_events_triple_fault),
        ("reserved", c_uint8 * 26),
        ("exception_has_payload", c_uint8),
        ("exception_payload", c_uint64),
    )


assert sizeof(kvm_vcpu_events) == 64


class kvm_sync_regs(Structure):
    """`struct kvm_sync_regs`, 520 bytes."""

    regs: kvm_regs
    sregs: kvm_sregs
    events: kvm_vcpu_events

    _pack_ = 1
    _fields_ = (
        ("regs", kvm_regs),
        ("sregs", kvm_sregs),
        ("events", kvm_vcpu_events),
    )


assert sizeof(kvm_sync_regs) == 520


class kvm_clock_data(Structure):
    """`struct kvm_clock_data`, 48 bytes."""

    clock: int
    flags: int
    pad0: int
    realtime: int
    host_tsc: int
    pad: Array[c_uint32]

    _pack_ = 1
    _fields_ = (
        ("clock", c_uint64),
        ("flags", c_uint32),
        ("pad0", c_uint32),
        ("realtime", c_uint64),
        ("host_tsc", c_uint64),
        ("pad", c_uint32 * 4),
    )


assert sizeof(kvm_clock_data) == 48


class kvm_tpr_access_ctl(Structure):
    """`struct kvm_tpr_access_ctl`, 40 bytes."""

    enabled: int
    flags: int
    reserved: Array[c_uint32]

    _pack_ = 1
    _fields_ = (
        ("enabled", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 8),
    )


assert sizeof(kvm_tpr_access_ctl) == 40


class kvm_hyperv_tlb_flush_inhibit(Structure):
    """`struct kvm_hyperv_tlb_flush_inhibit`, 8 bytes."""

    flags: int
    inhibit: int
    reserved: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint16),
        ("inhibit", c_uint8),
        ("reserved", c_uint8 * 5),
    )


assert sizeof(kvm_hyperv_tlb_flush_inhibit) == 8


class kvm_enable_cap(Structure):
    """`struct kvm_enable_cap`, 104 bytes."""

    cap: int
    flags: int
    args: Array[c_uint64]
    pad: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("cap", c_uint32),
        ("flags", c_uint32),
        ("args", c_uint64 * 4),
        ("pad", c_uint8 * 64),
    )


assert sizeof(kvm_enable_cap) == 104


class kvm_dirty_log(Structure):
    """`struct kvm_dirty_log`, 16 bytes."""

    slot: int
    padding1: int
    dirty_bitmap: int

    _pack_ = 1
    _fields_ = (
        ("slot", c_uint32),
        ("padding1", c_uint32),
        ("dirty_bitmap", c_uint64),
    )


assert sizeof(kvm_dirty_log) == 16


class kvm_clear_dirty_log(Structure):
    """`struct kvm_clear_dirty_log`, 24 bytes."""

    slot: int
    num_pages: int
    first_page: int
    dirty_bitmap: int

    _pack_ = 1
    _fields_ = (
        ("slot", c_uint32),
        ("num_pages", c_uint32),
        ("first_page", c_uint64),
        ("dirty_bitmap", c_uint64),
    )


assert sizeof(kvm_clear_dirty_log) == 24


class kvm_guest_debug_arch(Structure):
    """`struct kvm_guest_debug_arch`, 64 bytes."""

    debugreg: Array[c_uint64]

    _pack_ = 1
    _fields_ = (("debugreg", c_uint64 * 8),)


assert sizeof(kvm_guest_debug_arch) == 64


class kvm_guest_debug(Structure):
    """`struct kvm_guest_debug`, 72 bytes."""

    control: int
    pad: int
    arch: kvm_guest_debug_arch

    _pack_ = 1
    _fields_ = (
        ("control", c_uint32),
        ("pad", c_uint32),
        ("arch", kvm_guest_debug_arch),
    )


assert sizeof(kvm_guest_debug) == 72


class kvm_x86_mce(Structure):
    """`struct kvm_x86_mce`, 64 bytes."""

    status: int
    addr: int
    misc: int
    mcg_status: int
    bank: int
    pad1: Array[c_uint8]
    pad2: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("status", c_uint64),
        ("addr", c_uint64),
        ("misc", c_uint64),
        ("mcg_status", c_uint64),
        ("bank", c_uint8),
        ("pad1", c_uint8 * 7),
        ("pad2", c_uint64 * 3),
    )


assert sizeof(kvm_x86_mce) == 64


class kvm_msr_filter_range(Structure):
    """`struct kvm_msr_filter_range`, 24 bytes."""

    flags: int
    nmsrs: int
    base: int
    bitmap: int

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("nmsrs", c_uint32),
        ("base", c_uint32),
        ("_at_c", c_uint8 * 4),
        ("bitmap", c_uint64),
    )


assert sizeof(kvm_msr_filter_range) == 24


class kvm_msr_filter(Structure):
    """`struct kvm_msr_filter`, 392 bytes."""

    flags: int
    ranges: Array[kvm_msr_filter_range]

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("_at_4", c_uint8 * 4),
        ("ranges", kvm_msr_filter_range * 16),
    )


assert sizeof(kvm_msr_filter) == 392


class kvm_device_attr(Structure):
    """`struct kvm_device_attr`, 24 bytes."""

    flags: int
    group: int
    attr: int
    addr: int

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("group", c_uint32),
        ("attr", c_uint64),
        ("addr", c_uint64),
    )


assert sizeof(kvm_device_attr) == 24


class kvm_stats_header(Structure):
    """`struct kvm_stats_header`, 24 bytes."""

    flags: int
    name_size: int
    num_desc: int
    id_offset: int
    desc_offset: int
    data_offset: int

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("name_size", c_uint32),
        ("num_desc", c_uint32),
        ("id_offset", c_uint32),
        ("desc_offset", c_uint32),
        ("data_offset", c_uint32),
    )


assert sizeof(kvm_stats_header) == 24


class kvm_stats_desc(Structure):
    """`struct kvm_stats_desc`, 16 bytes."""

    flags: int
    exponent: int
    size: int
    offset: int
    bucket_size: int

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("exponent", c_int16),
        ("size", c_uint16),
        ("offset", c_uint32),
        ("bucket_size", c_uint32),
    )


assert sizeof(kvm_stats_desc) == 16


class kvm_msr_entry(Structure):
    """`struct kvm_msr_entry`, 16 bytes."""

    index: int
    reserved: int
    data: int

    _pack_ = 1
    _fields_ = (
        ("index", c_uint32),
        ("reserved", c_uint32),
        ("data", c_uint64),
    )


assert sizeof(kvm_msr_entry) == 16


class kvm_msrs(Structure):
    """`struct kvm_msrs`, 8 bytes."""

    nmsrs: int
    pad: int

    _pack_ = 1
    _fields_ = (
        ("nmsrs", c_uint32),
        ("pad", c_uint32),
    )


assert sizeof(kvm_msrs) == 8


class kvm_msr_list(Structure):
    """`struct kvm_msr_list`, 4 bytes."""

    nmsrs: int

    _pack_ = 1
    _fields_ = (("nmsrs", c_uint32),)


assert sizeof(kvm_msr_list) == 4


class kvm_cpuid_entry2(Structure):
    """`struct kvm_cpuid_entry2`, 40 bytes."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    padding: Array[c_uint32]

    _pack_ = 1
    _fields_ = (
        ("function", c_uint32),
        ("index", c_uint32),
        ("flags", c_uint32),
        ("eax", c_uint32),
        ("ebx", c_uint32),
        ("ecx", c_uint32),
        ("edx", c_uint32),
        ("padding", c_uint32 * 3),
    )


assert sizeof(kvm_cpuid_entry2) == 40


class kvm_cpuid_entry(Structure):
    """`struct kvm_cpuid_entry`, 24 bytes."""

    function: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    padding: int

    _pack_ = 1
    _fields_ = (
        ("function", c_uint32),
        ("eax", c_uint32),
        ("ebx", c_uint32),
        ("ecx", c_uint32),
        ("edx", c_uint32),
        ("padding", c_uint32),
    )


assert sizeof(kvm_cpuid_entry) == 24


class kvm_cpuid2(Structure):
    """`struct kvm_cpuid2`, 8 bytes."""

    nent: int
    padding: int

    _pack_ = 1
    _fields_ = (
        ("nent", c_uint32),
        ("padding", c_uint32),
    )


assert sizeof(kvm_cpuid2) == 8


class kvm_mp_state(Structure):
    """`struct kvm_mp_state`, 4 bytes."""

    mp_state: int

    _pack_ = 1
    _fields_ = (("mp_state", c_uint32),)


assert sizeof(kvm_mp_state) == 4


class kvm_userspace_memory_region(Structure):
    """`struct kvm_userspace_memory_region`, 32 bytes."""

    slot: int
    flags: int
    guest_phys_addr: int
    memory_size: int
    userspace_addr: int

    _pack_ = 1
    _fields_ = (
        ("slot", c_uint32),
        ("flags", c_uint32),
        ("guest_phys_addr", c_uint64),
        ("memory_size", c_uint64),
        ("userspace_addr", c_uint64),
    )


assert sizeof(kvm_userspace_memory_region) == 32


class kvm_userspace_memory_region2(Structure):
    """`struct kvm_userspace_memory_region2`, 160 bytes."""

    slot: int
    flags: int
    guest_phys_addr: int
    memory_size: int
    userspace_addr: int
    guest_memfd_offset: int
    guest_memfd: int
    pad1: int
    pad2: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("slot", c_uint32),
        ("flags", c_uint32),
        ("guest_phys_addr", c_uint64),
        ("memory_size", c_uint64),
        ("userspace_addr", c_uint64),
        ("guest_memfd_offset", c_uint64),
        ("guest_memfd", c_uint32),
        ("pad1", c_uint32),
        ("pad2", c_uint64 * 14),
    )


assert sizeof(kvm_userspace_memory_region2) == 160


class kvm_coalesced_mmio_zone(Structure):
    """`struct kvm_coalesced_mmio_zone`, 16 bytes."""

    addr: int
    size: int
    pio: int

    _pack_ = 1
    _fields_ = (
        ("addr", c_uint64),
        ("size", c_uint32),
        ("pio", c_uint32),
    )


assert sizeof(kvm_coalesced_mmio_zone) == 16


class kvm_coalesced_mmio(Structure):
    """`struct kvm_coalesced_mmio`, 24 bytes."""

    phys_addr: int
    len: int
    pio: int
    data: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("phys_addr", c_uint64),
        ("len", c_uint32),
        ("pio", c_uint32),
        ("data", c_uint8 * 8),
    )


assert sizeof(kvm_coalesced_mmio) == 24


class kvm_dirty_gfn(Structure):
    """`struct kvm_dirty_gfn`, 16 bytes."""

    flags: int
    slot: int
    offset: int

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("slot", c_uint32),
        ("offset", c_uint64),
    )


assert sizeof(kvm_dirty_gfn) == 16


class kvm_memory_attributes(Structure):
    """`struct kvm_memory_attributes`, 32 bytes."""

    address: int
    size: int
    attributes: int
    flags: int

    _pack_ = 1
    _fields_ = (
        ("address", c_uint64),
        ("size", c_uint64),
        ("attributes", c_uint64),
        ("flags", c_uint64),
    )


assert sizeof(kvm_memory_attributes) == 32


class kvm_create_guest_memfd(Structure):
    """`struct kvm_create_guest_memfd`, 64 bytes."""

    size: int
    flags: int
    reserved: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("size", c_uint64),
        ("flags", c_uint64),
        ("reserved", c_uint64 * 6),
    )


assert sizeof(kvm_create_guest_memfd) == 64


class kvm_pre_fault_memory(Structure):
    """`struct kvm_pre_fault_memory`, 64 bytes."""

    gpa: int
    size: int
    flags: int
    padding: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("gpa", c_uint64),
        ("size", c_uint64),
        ("flags", c_uint64),
        ("padding", c_uint64 * 5),
    )


assert sizeof(kvm_pre_fault_memory) == 64


class kvm_irq_level(Structure):
    """`struct kvm_irq_level`, 8 bytes."""

    irq: int
    level: int

    _pack_ = 1
    _fields_ = (
        ("irq", c_uint32),
        ("level", c_uint32),
    )


assert sizeof(kvm_irq_level) == 8


class kvm_irqchip(Structure):
    """`struct kvm_irqchip`, 520 bytes."""

    chip_id: int
    pad: int
    chip: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("chip_id", c_uint32),
        ("pad", c_uint32),
        ("chip", c_uint8 * 512),
    )


assert sizeof(kvm_irqchip) == 520


class kvm_pic_state(Structure):
    """`struct kvm_pic_state`, 16 bytes."""

    last_irr: int
    irr: int
    imr: int
    isr: int
    priority_add: int
    irq_base: int
    read_reg_select: int
    poll: int
    special_mask: int
    init_state: int
    auto_eoi: int
    rotate_on_auto_eoi: int
    special_fully_nested_mode: int
    init4: int
    elcr: int
    elcr_mask: int

    _pack_ = 1
    _fields_ = (
        ("last_irr", c_uint8),
        ("irr", c_uint8),
        ("imr", c_uint8),
        ("isr", c_uint8),
        ("priority_add", c_uint8),
        ("irq_base", c_uint8),
        ("read_reg_select", c_uint8),
        ("poll", c_uint8),
        ("special_mask", c_uint8),
        ("init_state", c_uint8),
        ("auto_eoi", c_uint8),
        ("rotate_on_auto_eoi", c_uint8),
        ("special_fully_nested_mode", c_uint8),
        ("init4", c_uint8),
        ("elcr", c_uint8),
        ("elcr_mask", c_uint8),
    )


assert sizeof(kvm_pic_state) == 16


class kvm_ioapic_state(Structure):
    """`struct kvm_ioapic_state`, 216 bytes."""

    base_address: int
    ioregsel: int
    id: int
    irr: int
    pad: int
    redirtbl: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("base_address", c_uint64),
        ("ioregsel", c_uint32),
        ("id", c_uint32),
        ("irr", c_uint32),
        ("pad", c_uint32),
        ("redirtbl", c_uint64 * 24),
    )


assert sizeof(kvm_ioapic_state) == 216


class kvm_irq_routing(Structure):
    """`struct kvm_irq_routing`, 8 bytes."""

    nr: int
    flags: int

    _pack_ = 1
    _fields_ = (
        ("nr", c_uint32),
        ("flags", c_uint32),
    )


assert sizeof(kvm_irq_routing) == 8


class kvm_irq_routing_entry(Structure):
    """`struct kvm_irq_routing_entry`, 48 bytes."""

    gsi: int
    type_: int
    flags: int
    pad: int
    u: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("gsi", c_uint32),
        ("type_", c_uint32),
        ("flags", c_uint32),
        ("pad", c_uint32),
        ("u", c_uint8 * 32),
    )


assert sizeof(kvm_irq_routing_entry) == 48


class kvm_irq_routing_irqchip(Structure):
    """`struct kvm_irq_routing_irqchip`, 8 bytes."""

    irqchip: int
    pin: int

    _pack_ = 1
    _fields_ = (
        ("irqchip", c_uint32),
        ("pin", c_uint32),
    )


assert sizeof(kvm_irq_routing_irqchip) == 8


class kvm_irq_routing_hv_sint(Structure):
    """`struct kvm_irq_routing_hv_sint`, 8 bytes."""

    vcpu: int
    sint: int

    _pack_ = 1
    _fields_ = (
        ("vcpu", c_uint32),
        ("sint", c_uint32),
    )


assert sizeof(kvm_irq_routing_hv_sint) == 8


class kvm_irq_routing_msi(Structure):
    """`struct kvm_irq_routing_msi`, 16 bytes."""

    address_lo: int
    address_hi: int
    data: int

    _pack_ = 1
    _fields_ = (
        ("address_lo", c_uint32),
        ("address_hi", c_uint32),
        ("data", c_uint32),
        ("_at_c", c_uint8 * 4),
    )


assert sizeof(kvm_irq_routing_msi) == 16


class kvm_msi(Structure):
    """`struct kvm_msi`, 32 bytes."""

    address_lo: int
    address_hi: int
    data: int
    flags: int
    devid: int
    pad: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("address_lo", c_uint32),
        ("address_hi", c_uint32),
        ("data", c_uint32),
        ("flags", c_uint32),
        ("devid", c_uint32),
        ("pad", c_uint8 * 12),
    )


assert sizeof(kvm_msi) == 32


class kvm_irqfd(Structure):
    """`struct kvm_irqfd`, 32 bytes."""

    fd: int
    gsi: int
    flags: int
    resamplefd: int
    pad: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("fd", c_uint32),
        ("gsi", c_uint32),
        ("flags", c_uint32),
        ("resamplefd", c_uint32),
        ("pad", c_uint8 * 16),
    )


assert sizeof(kvm_irqfd) == 32


class kvm_pit_config(Structure):
    """`struct kvm_pit_config`, 64 bytes."""

    flags: int
    pad: Array[c_uint32]

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint32),
        ("pad", c_uint32 * 15),
    )


assert sizeof(kvm_pit_config) == 64


class kvm_pit_channel_state(Structure):
    """`struct kvm_pit_channel_state`, 24 bytes."""

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
    count_load_time: int

    _pack_ = 1
    _fields_ = (
        ("count", c_uint32),
        ("latched_count", c_uint16),
        ("count_latched", c_uint8),
        ("status_latched", c_uint8),
        ("status", c_uint8),
        ("read_state", c_uint8),
        ("write_state", c_uint8),
        ("write_latch", c_uint8),
        ("rw_mode", c_uint8),
        ("mode", c_uint8),
        ("bcd", c_uint8),
        ("gate", c_uint8),
        ("count_load_time", c_int64),
    )


assert sizeof(kvm_pit_channel_state) == 24


class kvm_pit_state(Structure):
    """`struct kvm_pit_state`, 72 bytes."""

    channels: Array[kvm_pit_channel_state]

    _pack_ = 1
    _fields_ = (("channels", kvm_pit_channel_state * 3),)


assert sizeof(kvm_pit_state) == 72


class kvm_create_device(Structure):
    """`struct kvm_create_device`, 12 bytes."""

    type_: int
    fd: int
    flags: int

    _pack_ = 1
    _fields_ = (
        ("type_", c_uint32),
        ("fd", c_uint32),
        ("flags", c_uint32),
    )


assert sizeof(kvm_create_device) == 12


class kvm_pit_state2(Structure):
    """`struct kvm_pit_state2`, 112 bytes."""

    channels: Array[kvm_pit_channel_state]
    flags: int
    reserved: Array[c_uint32]

    _pack_ = 1
    _fields_ = (
        ("channels", kvm_pit_channel_state * 3),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 9),
    )


assert sizeof(kvm_pit_state2) == 112


class kvm_reinject_control(Structure):
    """`struct kvm_reinject_control`, 32 bytes."""

    pit_reinject: int
    reserved: Array[c_uint8]

    _pack_ = 1
    _fields_ = (
        ("pit_reinject", c_uint8),
        ("reserved", c_uint8 * 31),
    )


assert sizeof(kvm_reinject_control) == 32


class kvm_lapic_state(Structure):
    """`struct kvm_lapic_state`, 1024 bytes."""

    regs: Array[c_int8]

    _pack_ = 1
    _fields_ = (("regs", c_int8 * 1024),)


assert sizeof(kvm_lapic_state) == 1024


class kvm_hyperv_eventfd(Structure):
    """`struct kvm_hyperv_eventfd`, 24 bytes."""

    conn_id: int
    fd: int
    flags: int
    padding: Array[c_uint32]

    _pack_ = 1
    _fields_ = (
        ("conn_id", c_uint32),
        ("fd", c_int32),
        ("flags", c_uint32),
        ("padding", c_uint32 * 3),
    )


assert sizeof(kvm_hyperv_eventfd) == 24


class kvm_ioeventfd(Structure):
    """`struct kvm_ioeventfd`, 64 bytes."""

    datamatch: int
    addr: int
    len: int
    fd: int
    flags: int

    _pack_ = 1
    _fields_ = (
        ("datamatch", c_uint64),
        ("addr", c_uint64),
        ("len", c_uint32),
        ("fd", c_int32),
        ("flags", c_uint32),
        ("_at_1c", c_uint8 * 36),
    )


assert sizeof(kvm_ioeventfd) == 64


class kvm_run(Structure):
    """`struct kvm_run`, 2352 bytes."""

    request_interrupt_window: int
    immediate_exit: int
    padding1: Array[c_uint8]
    exit_reason: int
    ready_for_interrupt_injection: int
    if_flag: int
    flags: int
    cr8: int
    apic_base: int
    kvm_valid_regs: int
    kvm_dirty_regs: int

    _pack_ = 1
    _fields_ = (
        ("request_interrupt_window", c_uint8),
        ("immediate_exit", c_uint8),
        ("padding1", c_uint8 * 6),
        ("exit_reason", c_uint32),
        ("ready_for_interrupt_injection", c_uint8),
        ("if_flag", c_uint8),
        ("flags", c_uint16),
        ("cr8", c_uint64),
        ("apic_base", c_uint64),
        ("_at_20", c_uint8 * 256),
        ("kvm_valid_regs", c_uint64),
        ("kvm_dirty_regs", c_uint64),
        ("_at_130", c_uint8 * 2048),
    )


assert sizeof(kvm_run) == 2352


class kvm_run_io(Structure):
    """`struct kvm_run_io`, 16 bytes."""

    direction: int
    size: int
    port: int
    count: int
    data_offset: int

    _pack_ = 1
    _fields_ = (
        ("direction", c_uint8),
        ("size", c_uint8),
        ("port", c_uint16),
        ("count", c_uint32),
        ("data_offset", c_uint64),
    )


assert sizeof(kvm_run_io) == 16


class kvm_run_mmio(Structure):
    """`struct kvm_run_mmio`, 24 bytes."""

    phys_addr: int
    data: Array[c_uint8]
    len: int
    is_write: int

    _pack_ = 1
    _fields_ = (
        ("phys_addr", c_uint64),
        ("data", c_uint8 * 8),
        ("len", c_uint32),
        ("is_write", c_uint8),
        ("_at_15", c_uint8 * 3),
    )


assert sizeof(kvm_run_mmio) == 24


class kvm_run_fail_entry(Structure):
    """`struct kvm_run_fail_entry`, 16 bytes."""

    hardware_entry_failure_reason: int
    cpu: int

    _pack_ = 1
    _fields_ = (
        ("hardware_entry_failure_reason", c_uint64),
        ("cpu", c_uint32),
        ("_at_c", c_uint8 * 4),
    )


assert sizeof(kvm_run_fail_entry) == 16


class kvm_run_debug(Structure):
    """`struct kvm_run_debug`, 32 bytes."""

    exception: int
    pad: int
    pc: int
    dr6: int
    dr7: int

    _pack_ = 1
    _fields_ = (
        ("exception", c_uint32),
        ("pad", c_uint32),
        ("pc", c_uint64),
        ("dr6", c_uint64),
        ("dr7", c_uint64),
    )


assert sizeof(kvm_run_debug) == 32


class kvm_run_msr(Structure):
    """`struct kvm_run_msr`, 24 bytes."""

    error: int
    pad: Array[c_uint8]
    reason: int
    index: int
    data: int

    _pack_ = 1
    _fields_ = (
        ("error", c_uint8),
        ("pad", c_uint8 * 7),
        ("reason", c_uint32),
        ("index", c_uint32),
        ("data", c_uint64),
    )


assert sizeof(kvm_run_msr) == 24


class kvm_run_tpr_access(Structure):
    """`struct kvm_run_tpr_access`, 16 bytes."""

    rip: int
    is_write: int
    pad: int

    _pack_ = 1
    _fields_ = (
        ("rip", c_uint64),
        ("is_write", c_uint32),
        ("pad", c_uint32),
    )


assert sizeof(kvm_run_tpr_access) == 16


class kvm_run_memory_fault(Structure):
    """`struct kvm_run_memory_fault`, 24 bytes."""

    flags: int
    gpa: int
    size: int

    _pack_ = 1
    _fields_ = (
        ("flags", c_uint64),
        ("gpa", c_uint64),
        ("size", c_uint64),
    )


assert sizeof(kvm_run_memory_fault) == 24


class kvm_run_internal(Structure):
    """`struct kvm_run_internal`, 136 bytes."""

    suberror: int
    ndata: int
    data: Array[c_uint64]

    _pack_ = 1
    _fields_ = (
        ("suberror", c_uint32),
        ("ndata", c_uint32),
        ("data", c_uint64 * 16),
    )


assert sizeof(kvm_run_internal) == 136
