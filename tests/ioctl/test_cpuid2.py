"""KVM_SET_CPUID2, KVM_GET_CPUID2: what the CPUID instruction shows to the guest."""

import errno

import pytest

from kvmshim.abi.constants_gen import (
    KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
    KVM_EXIT_HLT,
    KVM_MP_STATE_RUNNABLE,
)
from kvmshim.abi.ioctls_gen import (
    KVM_CREATE_IRQCHIP,
    KVM_GET_CPUID2,
    KVM_SET_CPUID,
    KVM_SET_CPUID2,
)
from kvmshim.abi.limits import KVM_MAX_CPUID_ENTRIES
from kvmshim.abi.structs_gen import kvm_cpuid2, kvm_cpuid_entry, kvm_cpuid_entry2
from tests.kvm import System, Vcpu, Vm, cpuid_entries, cpuid_table, refused, table
from tests.machine import Machine, Mode

HYPERVISOR = 0x4000_0000


def leaf(function: int, *values: int, index: int | None = None) -> kvm_cpuid_entry2:
    """A leaf with EAX, EBX, ECX, EDX; with `index` it is one of several."""
    entry = kvm_cpuid_entry2(function=function)
    if index is not None:
        entry.index, entry.flags = index, KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    entry.eax, entry.ebx, entry.ecx, entry.edx = values
    return entry


LEAF_0 = leaf(0, 4, 0x756E_6547, 0x6C65_746E, 0x4965_6E69)


def seen_by_guest(machine: Machine, function: int, index: int = 0) -> tuple[int, int, int, int]:
    """CPUID executed in the guest."""
    machine.load(f"mov eax, {function:#x}; mov ecx, {index}; cpuid; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    regs = machine.vcpu.regs()
    return regs.rax, regs.rbx, regs.rcx, regs.rdx


def test_guest_sees_the_leaf(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0, leaf(HYPERVISOR, HYPERVISOR + 1, 1, 2, 3)])
    assert seen_by_guest(machine, HYPERVISOR) == (HYPERVISOR + 1, 1, 2, 3)


def test_guest_sees_the_subleaf_it_asks_for(machine: Machine) -> None:
    subleaves = [leaf(4, 10 + i, 20 + i, 30 + i, 40 + i, index=i) for i in range(3)]
    machine.vcpu.set_cpuid([LEAF_0, *subleaves])
    assert seen_by_guest(machine, 4, 1) == (11, 21, 31, 41)


def test_index_does_not_matter_where_it_is_not_significant(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0, leaf(2, 1, 2, 3, 4)])
    assert seen_by_guest(machine, 2, 99) == (1, 2, 3, 4)


def test_leaf_that_was_not_set_is_zero(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0, leaf(4, 1, 2, 3, 4)])
    assert seen_by_guest(machine, 3) == (0, 0, 0, 0)


def test_without_a_list_every_leaf_is_zero(machine: Machine) -> None:
    assert seen_by_guest(machine, 0) == (0, 0, 0, 0)


def test_second_list_replaces_the_first(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0, leaf(2, 1, 1, 1, 1), leaf(3, 1, 1, 1, 1)])
    machine.vcpu.set_cpuid([LEAF_0, leaf(2, 2, 2, 2, 2)])
    assert seen_by_guest(machine, 2) == (2, 2, 2, 2)


def test_second_list_forgets_the_first(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0, leaf(3, 1, 1, 1, 1)])
    machine.vcpu.set_cpuid([LEAF_0])
    assert seen_by_guest(machine, 3) == (0, 0, 0, 0)


def test_vcpus_have_lists_of_their_own(machine: Machine) -> None:
    machine.vm.create_vcpu(1).set_cpuid([LEAF_0, leaf(2, 9, 9, 9, 9)])
    machine.vcpu.set_cpuid([LEAF_0, leaf(2, 1, 2, 3, 4)])
    assert seen_by_guest(machine, 2) == (1, 2, 3, 4)


def test_list_reads_back_as_it_was_set(vcpu: Vcpu) -> None:
    entries = [LEAF_0, leaf(4, 1, 2, 3, 4, index=1)]
    vcpu.set_cpuid(entries)
    raw = cpuid_table([kvm_cpuid_entry2()] * 8)
    vcpu.ioctl(KVM_GET_CPUID2, raw)
    assert [bytes(e) for e in cpuid_entries(raw)] == [bytes(e) for e in entries]


def test_too_little_room_to_read_back_is_refused(vcpu: Vcpu) -> None:
    vcpu.set_cpuid([LEAF_0, leaf(4, 1, 2, 3, 4, index=1)])
    room = cpuid_table([kvm_cpuid_entry2()])
    before = bytes(room)
    with refused(errno.E2BIG):
        vcpu.ioctl(KVM_GET_CPUID2, room)
    assert bytes(room) == before


def test_longest_list_is_accepted(vcpu: Vcpu) -> None:
    count = KVM_MAX_CPUID_ENTRIES
    vcpu.set_cpuid([leaf(4, 0, 0, 0, 0, index=i) for i in range(count)])
    raw = cpuid_table([kvm_cpuid_entry2()] * count)
    vcpu.ioctl(KVM_GET_CPUID2, raw)
    assert len(cpuid_entries(raw)) == count


@pytest.mark.parametrize("nent", [KVM_MAX_CPUID_ENTRIES + 1, 0xFFFF_FFFF])
def test_longer_list_is_refused(vcpu: Vcpu, nent: int) -> None:
    entries = [LEAF_0] * (KVM_MAX_CPUID_ENTRIES + 1)
    with refused(errno.E2BIG):
        vcpu.ioctl(KVM_SET_CPUID2, cpuid_table(entries, nent=nent))


def test_refused_list_changes_nothing(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0, leaf(2, 1, 2, 3, 4)])
    with refused(errno.E2BIG):
        machine.vcpu.ioctl(KVM_SET_CPUID2, cpuid_table([LEAF_0], nent=0xFFFF_FFFF))
    assert seen_by_guest(machine, 2) == (1, 2, 3, 4)


@pytest.mark.parametrize("vcpu_id", [0, 1])
def test_list_may_change_until_the_vcpu_has_run(vm: Vm, vcpu_id: int) -> None:
    """Whatever its state: the first vCPU is runnable at once, others wait for their start-up."""
    vm.ioctl(KVM_CREATE_IRQCHIP)
    vcpu = vm.create_vcpu(vcpu_id)
    vcpu.set_cpuid([kvm_cpuid_entry2(function=1, eax=1)])
    vcpu.set_mp_state(KVM_MP_STATE_RUNNABLE)
    vcpu.set_cpuid([kvm_cpuid_entry2(function=1, eax=2)])


def test_same_list_may_be_set_again_after_the_vcpu_ran(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0])
    machine.load("hlt; hlt", Mode.REAL)
    machine.vcpu.run()
    machine.vcpu.set_cpuid([LEAF_0])
    assert machine.vcpu.run() == KVM_EXIT_HLT


def test_other_list_is_refused_after_the_vcpu_ran(machine: Machine) -> None:
    machine.vcpu.set_cpuid([LEAF_0])
    machine.load("hlt", Mode.REAL)
    machine.vcpu.run()
    with refused(errno.EINVAL):
        machine.vcpu.set_cpuid([LEAF_0, leaf(2, 1, 2, 3, 4)])


def test_older_list_has_no_indexes(machine: Machine) -> None:
    entry = kvm_cpuid_entry(function=2, eax=1, ebx=2, ecx=3, edx=4)
    old = table(kvm_cpuid2(nent=2), [kvm_cpuid_entry(eax=4), entry])
    machine.vcpu.ioctl(KVM_SET_CPUID, old)
    assert seen_by_guest(machine, 2, 99) == (1, 2, 3, 4)


def test_older_list_reads_back_as_a_newer_one(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_CPUID, table(kvm_cpuid2(nent=1), [kvm_cpuid_entry(function=1, edx=9)]))
    raw = cpuid_table([kvm_cpuid_entry2()])
    vcpu.ioctl(KVM_GET_CPUID2, raw)
    assert bytes(cpuid_entries(raw)[0]) == bytes(leaf(1, 0, 0, 0, 9))


def test_older_list_may_be_as_long(vcpu: Vcpu) -> None:
    entries = [kvm_cpuid_entry()] * (KVM_MAX_CPUID_ENTRIES + 1)
    vcpu.ioctl(KVM_SET_CPUID, table(kvm_cpuid2(nent=KVM_MAX_CPUID_ENTRIES), entries))
    with refused(errno.E2BIG):
        vcpu.ioctl(KVM_SET_CPUID, table(kvm_cpuid2(nent=KVM_MAX_CPUID_ENTRIES + 1), entries))


@pytest.mark.parametrize("number", [KVM_SET_CPUID2, KVM_GET_CPUID2], ids=hex)
def test_vm_has_no_cpuid(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, cpuid_table([LEAF_0]))


@pytest.mark.parametrize("number", [KVM_SET_CPUID2, KVM_GET_CPUID2], ids=hex)
def test_system_has_no_cpuid(system: System, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, cpuid_table([LEAF_0]))
