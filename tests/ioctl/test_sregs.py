"""KVM_GET_SREGS, KVM_SET_SREGS: segments, tables, control registers; impossible states refused."""

import errno
from collections.abc import Callable

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from kvmshim.abi.ioctls_gen import KVM_GET_SREGS, KVM_SET_SREGS
from kvmshim.abi.structs_gen import kvm_cpuid_entry2, kvm_segment, kvm_sregs
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, Machine, Mode, enter

SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"]
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR4_PCIDE = 1 << 17
CR4_SMEP = 1 << 20
CR4_PKE = 1 << 22
CR4_OF_FEATURES_OF_ALL_HOSTS = 0x371FFF
"""VME to LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP."""
PKU = 1 << 3
"""In ECX of CPUID leaf 7, subleaf 0."""

APIC_BASE = 0xFEE0_0000
APIC_ENABLE = 1 << 11
APIC_BSP = 1 << 8
APIC_X2 = 1 << 10


def set_long(sregs: kvm_sregs, **changes: int) -> None:
    """Long mode, then `changes`."""
    enter(sregs, Mode.LONG)
    for name, value in changes.items():
        setattr(sregs, name, value)


def set_cs_l(sregs: kvm_sregs) -> None:
    sregs.cs.l = 1


def change(**changes: int) -> Callable[[kvm_sregs], None]:
    def apply(sregs: kvm_sregs) -> None:
        for name, value in changes.items():
            setattr(sregs, name, value)

    return apply


def long_with(**changes: int) -> Callable[[kvm_sregs], None]:
    return lambda sregs: set_long(sregs, **changes)


IMPOSSIBLE: dict[str, Callable[[kvm_sregs], None]] = {
    "long mode without PAE": long_with(cr4=0),
    "long mode without LMA": long_with(efer=EFER_LME),
    "LMA without LME": change(efer=EFER_LMA),
    "LMA without paging": change(efer=EFER_LME | EFER_LMA),
    "64-bit CS outside long mode": set_cs_l,
    "CR3 beyond physical addresses": long_with(cr3=1 << 52),
    "paging without protection": change(cr0=CR0_PG),
    "NW without CD": change(cr0=CR0_PE | CR0_NW),
    "CR0 bit 32": change(cr0=1 << 32),
    "CR4 bit 15": change(cr4=1 << 15),
    "CR4 bit 63": change(cr4=1 << 63),
    "APIC base bit 0": change(apic_base=APIC_BASE | APIC_ENABLE | 1),
    "APIC base beyond physical addresses": change(apic_base=1 << 52 | APIC_ENABLE),
    "x2APIC without enable": change(apic_base=APIC_BASE | APIC_X2),
}


def test_code_segment_at_power_on_ends_at_4_gib(vcpu: Vcpu) -> None:
    cs = vcpu.sregs().cs
    assert (cs.selector, cs.base, cs.limit) == (0xF000, 0xFFFF_0000, 0xFFFF)
    assert (cs.type_, cs.s, cs.present, cs.dpl, cs.unusable) == (11, 1, 1, 0, 0)


@pytest.mark.parametrize("name", ["ds", "es", "fs", "gs", "ss"])
def test_data_segment_at_power_on_is_64_kib_at_0(vcpu: Vcpu, name: str) -> None:
    segment: kvm_segment = getattr(vcpu.sregs(), name)
    assert (segment.selector, segment.base, segment.limit) == (0, 0, 0xFFFF)
    assert (segment.type_, segment.s, segment.present) == (3, 1, 1)


def test_system_segments_at_power_on(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    assert (sregs.tr.type_, sregs.tr.limit, sregs.tr.present) == (11, 0xFFFF, 1)
    assert (sregs.ldt.type_, sregs.ldt.limit, sregs.ldt.present) == (2, 0xFFFF, 1)
    assert (sregs.gdt.limit, sregs.idt.limit) == (0xFFFF, 0xFFFF)


def test_control_registers_at_power_on(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    assert (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4) == (0x6000_0010, 0, 0, 0)
    assert (sregs.cr8, sregs.efer) == (0, 0)


def test_only_vcpu_0_is_the_boot_processor(vm: Vm) -> None:
    bases = [vm.create_vcpu(vcpu_id).sregs().apic_base for vcpu_id in (0, 1)]
    assert bases == [APIC_BASE | APIC_ENABLE | APIC_BSP, APIC_BASE | APIC_ENABLE]


@pytest.mark.parametrize("mode", Mode)
def test_set_then_get_is_the_identity(vcpu: Vcpu, mode: Mode) -> None:
    sregs = vcpu.sregs()
    enter(sregs, mode)
    sregs.cr2, sregs.cr8 = 0x1234_5678_9ABC, 9
    sregs.gdt.base, sregs.gdt.limit = 0x1122_3344, 0x27
    sregs.idt.base, sregs.idt.limit = 0x5566_7788, 0xFFF
    vcpu.set_sregs(sregs)
    assert bytes(vcpu.sregs()) == bytes(sregs)


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments_are_not_mixed_up(vcpu: Vcpu, name: str) -> None:
    sregs = vcpu.sregs()
    segment: kvm_segment = getattr(sregs, name)
    segment.base, segment.selector = 0x12340, 0x1234
    vcpu.set_sregs(sregs)
    assert bytes(vcpu.sregs()) == bytes(sregs)


def test_unusable_segment_reads_as_not_present(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    sregs.fs.unusable, sregs.fs.present = 1, 0
    vcpu.set_sregs(sregs)
    assert (vcpu.sregs().fs.unusable, vcpu.sregs().fs.present) == (1, 0)


def test_pending_interrupt_can_be_read_back(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    sregs.interrupt_bitmap[0x31 // 64] = 1 << (0x31 % 64)
    vcpu.set_sregs(sregs)
    assert list(vcpu.sregs().interrupt_bitmap) == [1 << 0x31, 0, 0, 0]


def test_pending_interrupt_is_delivered_by_the_next_run(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    machine.handle(0x31, "mov al, 0x77; hlt", Mode.REAL)
    sregs = machine.vcpu.sregs()
    sregs.interrupt_bitmap[0] = 1 << 0x31
    machine.vcpu.set_sregs(sregs)
    machine.vcpu.change_regs(rflags=0x202)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax & 0xFF == 0x77
    assert list(machine.vcpu.sregs().interrupt_bitmap) == [0, 0, 0, 0]


@pytest.mark.parametrize("make", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_state_is_refused_and_changes_nothing(
    vcpu: Vcpu, make: Callable[[kvm_sregs], None]
) -> None:
    before = vcpu.sregs()
    sregs = vcpu.sregs()
    make(sregs)
    with refused(errno.EINVAL):
        vcpu.set_sregs(sregs)
    assert bytes(vcpu.sregs()) == bytes(before)


def test_cr4_bit_of_a_feature_not_announced_is_refused(vcpu: Vcpu) -> None:
    vcpu.set_cpuid([kvm_cpuid_entry2(function=0, eax=7), kvm_cpuid_entry2(function=7)])
    sregs = vcpu.sregs()
    sregs.cr4 = CR4_SMEP
    with refused(errno.EINVAL):
        vcpu.set_sregs(sregs)


def test_every_cr4_bit_that_a_vcpu_can_have_is_there_before_its_cpuid(
    system: System, vcpu: Vcpu
) -> None:
    cr4 = CR4_OF_FEATURES_OF_ALL_HOSTS | (CR4_PKE if announces_keys(system) else 0)
    sregs = vcpu.sregs()
    sregs.cr4 = cr4
    vcpu.set_sregs(sregs)
    assert vcpu.sregs().cr4 == cr4


def test_cr4_pke_is_refused_before_cpuid_where_no_cpuid_can_announce_keys(
    system: System, vcpu: Vcpu
) -> None:
    if announces_keys(system):
        pytest.skip("the host has protection keys")
    sregs = vcpu.sregs()
    sregs.cr4 = CR4_PKE
    with refused(errno.EINVAL):
        vcpu.set_sregs(sregs)


def announces_keys(system: System) -> bool:
    return any(
        entry.function == 7 and entry.index == 0 and entry.ecx & PKU
        for entry in system.supported_cpuid()
    )


@pytest.mark.parametrize("bit", [13, 14], ids=["VMXE", "SMXE"])
def test_cr4_bit_that_no_vcpu_can_have_is_refused_before_its_cpuid(vcpu: Vcpu, bit: int) -> None:
    sregs = vcpu.sregs()
    sregs.cr4 = 1 << bit
    with refused(errno.EINVAL):
        vcpu.set_sregs(sregs)


def test_pcide_outside_long_mode_lets_the_guest_run(machine: Machine) -> None:
    machine.load("mov ebx, 7; hlt", Mode.PROTECTED)
    sregs = machine.vcpu.sregs()
    sregs.cr4 |= CR4_PCIDE
    machine.vcpu.set_sregs(sregs)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rbx, machine.vcpu.sregs().cr4 & CR4_PCIDE) == (7, CR4_PCIDE)


def test_pae_needs_no_cpuid(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    sregs.cr4 = CR4_PAE
    vcpu.set_sregs(sregs)
    assert vcpu.sregs().cr4 == CR4_PAE


def test_caching_bits_may_be_off_together(vcpu: Vcpu) -> None:
    sregs = vcpu.sregs()
    sregs.cr0 = CR0_PE | CR0_NW | CR0_CD
    vcpu.set_sregs(sregs)
    assert vcpu.sregs().cr0 & (CR0_NW | CR0_CD) == CR0_NW | CR0_CD


@pytest.mark.parametrize("number", [KVM_GET_SREGS, KVM_SET_SREGS], ids=hex)
def test_vm_has_no_special_registers(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_sregs())


@pytest.mark.parametrize("number", [KVM_GET_SREGS, KVM_SET_SREGS], ids=hex)
def test_system_has_no_special_registers(system: System, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_sregs())
