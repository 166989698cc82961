"""KVM_GET_MSRS, KVM_SET_MSRS: in order, up to the first that fails; the result is their number."""

import errno

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_MSRS, KVM_SET_MSRS
from kvmshim.abi.limits import MAX_IO_MSRS
from tests.kvm import System, Vcpu, Vm, msr_table, refused
from tests.machine import Machine, Mode

SYSENTER_CS = 0x174
SYSENTER_ESP = 0x175
SYSENTER_EIP = 0x176
TSC = 0x10
EFER = 0xC000_0080
STAR = 0xC000_0081
LSTAR = 0xC000_0082
CSTAR = 0xC000_0083
FS_BASE = 0xC000_0100
GS_BASE = 0xC000_0101
KERNEL_GS_BASE = 0xC000_0102
UNKNOWN = 0x0BAD_0BAD

KEEPS = [SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, STAR, LSTAR, CSTAR, FS_BASE, GS_BASE]
CANONICAL = [LSTAR, CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE]
NON_CANONICAL = 1 << 60


@pytest.mark.parametrize("index", [*KEEPS, KERNEL_GS_BASE], ids=hex)
def test_msr_keeps_what_was_set(vcpu: Vcpu, index: int) -> None:
    assert vcpu.set_msrs([(index, 0x7000)]) == 1
    assert vcpu.msrs([index]) == [0x7000]


@pytest.mark.parametrize("index", CANONICAL, ids=hex)
def test_address_in_the_upper_half_is_kept(vcpu: Vcpu, index: int) -> None:
    assert vcpu.set_msrs([(index, 0xFFFF_8000_0000_0000)]) == 1
    assert vcpu.msrs([index]) == [0xFFFF_8000_0000_0000]


def test_several_are_done_in_order(vcpu: Vcpu) -> None:
    values = [(SYSENTER_CS, 1), (SYSENTER_ESP, 2), (SYSENTER_EIP, 3), (SYSENTER_CS, 4)]
    assert vcpu.set_msrs(values) == 4
    assert vcpu.msrs([SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP]) == [4, 2, 3]


def test_none_is_allowed(vcpu: Vcpu) -> None:
    assert (vcpu.msrs([]), vcpu.set_msrs([])) == ([], 0)


def test_segment_base_is_the_one_of_sregs(vcpu: Vcpu) -> None:
    vcpu.set_msrs([(FS_BASE, 0x1234_5000), (GS_BASE, 0x6789_A000)])
    sregs = vcpu.sregs()
    assert (sregs.fs.base, sregs.gs.base) == (0x1234_5000, 0x6789_A000)


def test_efer_is_the_one_of_sregs(vcpu: Vcpu) -> None:
    vcpu.set_msrs([(EFER, 1)])
    assert (vcpu.msrs([EFER]), vcpu.sregs().efer) == ([1], 1)


def test_guest_reads_what_was_set(machine: Machine) -> None:
    machine.vcpu.set_msrs([(STAR, 0x0011_0022_3344_5566)])
    machine.load("mov ecx, 0xc0000081; rdmsr; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert (regs.rdx, regs.rax) == (0x0011_0022, 0x3344_5566)


def test_what_the_guest_wrote_is_read(machine: Machine) -> None:
    machine.load("mov ecx, 0x175; mov edx, 0; mov eax, 0x5000; wrmsr; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    assert machine.vcpu.msrs([SYSENTER_ESP]) == [0x5000]


def test_time_stamp_counter_runs_while_nothing_does(vcpu: Vcpu) -> None:
    first, second = vcpu.msrs([TSC, TSC])
    assert first <= second < vcpu.msrs([TSC])[0]


def test_largest_list_is_accepted(vcpu: Vcpu) -> None:
    assert vcpu.set_msrs([(SYSENTER_CS, i) for i in range(MAX_IO_MSRS - 1)]) == MAX_IO_MSRS - 1


@pytest.mark.parametrize("nmsrs", [MAX_IO_MSRS, MAX_IO_MSRS + 1, 0xFFFF_FFFF])
@pytest.mark.parametrize("number", [KVM_GET_MSRS, KVM_SET_MSRS], ids=hex)
def test_longer_list_is_refused(vcpu: Vcpu, number: int, nmsrs: int) -> None:
    entries = [(SYSENTER_CS, 0)] * (MAX_IO_MSRS + 1)
    with refused(errno.E2BIG):
        vcpu.ioctl(number, msr_table(entries, nmsrs=nmsrs))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_reading_stops_at_an_unknown_msr(vcpu: Vcpu, place: int) -> None:
    indices = [SYSENTER_CS] * 3
    indices[place] = UNKNOWN
    assert vcpu.msrs(indices) == [0] * place


@pytest.mark.parametrize("place", [0, 1, 2])
def test_writing_stops_at_an_unknown_msr(vcpu: Vcpu, place: int) -> None:
    values = [(SYSENTER_CS, 1), (SYSENTER_ESP, 2), (SYSENTER_EIP, 3)]
    values[place] = (UNKNOWN, 0)
    assert vcpu.set_msrs(values) == place
    done = [1, 2, 3][:place] + [0] * (3 - place)
    assert vcpu.msrs([SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP]) == done


@pytest.mark.parametrize("index", CANONICAL, ids=hex)
def test_non_canonical_address_is_not_taken(vcpu: Vcpu, index: int) -> None:
    before = vcpu.msrs([index])
    assert vcpu.set_msrs([(index, NON_CANONICAL)]) == 0
    assert vcpu.msrs([index]) == before


def test_reserved_bit_of_efer_is_not_taken(vcpu: Vcpu) -> None:
    assert vcpu.set_msrs([(EFER, 1 << 63)]) == 0
    assert vcpu.msrs([EFER]) == [0]


@pytest.mark.parametrize("number", [KVM_GET_MSRS, KVM_SET_MSRS], ids=hex)
def test_vm_has_no_msrs(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, msr_table([(TSC, 0)]))


def test_system_sets_no_msrs(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_MSRS, msr_table([(TSC, 0)]))
