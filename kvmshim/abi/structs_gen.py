"""Layouts of the structures of `linux/kvm.h`.

Generated from `kvm-bindings` by `tools/gen/src/structs.rs` by `make gen`; do not edit.
"""

from ctypes import Array, Structure, c_uint8, c_uint16, c_uint32, c_uint64, sizeof
from typing import Final

KVM_RUN_EXIT_OFFSET: Final = 0x20


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
        ("_at_20", c_uint8 * 2320),
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
