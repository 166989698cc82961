"""KVM_X86_SET_MSR_FILTER, KVM_CAP_X86_USER_SPACE_MSR: MSR accesses that the client decides."""

import ctypes
import errno
import threading
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_ENABLE_CAP, KVM_X86_SET_MSR_FILTER
from kvmshim.abi.structs_gen import kvm_enable_cap, kvm_msr_filter
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import CODE, Machine, Mode

READ: Final = kvm.KVM_MSR_FILTER_READ
WRITE: Final = kvm.KVM_MSR_FILTER_WRITE
DENY: Final = kvm.KVM_MSR_FILTER_DEFAULT_DENY
INVALID: Final = kvm.KVM_MSR_EXIT_REASON_INVAL
UNKNOWN: Final = kvm.KVM_MSR_EXIT_REASON_UNKNOWN
FILTER: Final = kvm.KVM_MSR_EXIT_REASON_FILTER
PLATFORM_INFO: Final = 0xCE
STAR: Final = 0xC000_0081
LSTAR: Final = 0xC000_0082
NO_MSR: Final = 0x474F_4F00
GP: Final = 13

RDMSR: Final = "rdmsr; hlt"
WRMSR: Final = "wrmsr; hlt"

Range = tuple[int, int, int, int]
"""Flags, first, count, bits of what is allowed."""


def set_filter(vm: Vm, *ranges: Range, flags: int = 0, bitmap: int | None = None) -> None:
    """KVM_X86_SET_MSR_FILTER; `bitmap` is an address in place of that of the bits."""
    wanted, keep = kvm_msr_filter(flags=flags), []
    for slot, (kinds, first, count, bits) in zip(wanted.ranges, ranges, strict=False):
        words = (ctypes.c_uint64 * (count // 64 + 1))(bits)
        keep.append(words)
        slot.flags, slot.base, slot.nmsrs = kinds, first, count
        slot.bitmap = ctypes.addressof(words) if bitmap is None else bitmap
    vm.ioctl(KVM_X86_SET_MSR_FILTER, wanted)


def leave_for(vm: Vm, reasons: int) -> None:
    wanted = kvm_enable_cap(cap=kvm.KVM_CAP_X86_USER_SPACE_MSR)
    wanted.args[0] = reasons
    vm.ioctl(KVM_ENABLE_CAP, wanted)


def access(machine: Machine, source: str, index: int, value: int = 0) -> int:
    """Runs a guest that reads or writes an MSR; the exit reason. #GP leaves with RBX 13."""
    machine.load(source, Mode.PROTECTED)
    machine.handle(GP, "mov ebx, 13; hlt", Mode.PROTECTED)
    machine.vcpu.change_regs(rbx=0, rcx=index, rax=value & 0xFFFF_FFFF, rdx=value >> 32)
    return machine.vcpu.run()


def faulted(machine: Machine) -> bool:
    return machine.vcpu.regs().rbx == GP


@pytest.mark.parametrize("capability", [kvm.KVM_CAP_X86_USER_SPACE_MSR, kvm.KVM_CAP_X86_MSR_FILTER])
def test_capability_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


def test_denied_read_faults(machine: Machine) -> None:
    set_filter(machine.vm, (READ, STAR, 2, 0b10))
    assert access(machine, RDMSR, STAR) == kvm.KVM_EXIT_HLT
    assert faulted(machine)
    access(machine, RDMSR, LSTAR)
    assert not faulted(machine)


def test_range_for_reads_leaves_writes_alone(machine: Machine) -> None:
    set_filter(machine.vm, (READ, STAR, 1, 0))
    access(machine, WRMSR, STAR, 0x1234)
    assert not faulted(machine)
    assert machine.vcpu.msrs([STAR]) == [0x1234]


def test_denied_write_changes_nothing(machine: Machine) -> None:
    set_filter(machine.vm, (WRITE, STAR, 1, 0))
    access(machine, WRMSR, STAR, 0x1234)
    assert faulted(machine)
    assert machine.vcpu.msrs([STAR]) == [0]


def test_default_may_be_to_deny(machine: Machine) -> None:
    set_filter(machine.vm, (READ | WRITE, STAR, 1, 1), flags=DENY)
    access(machine, RDMSR, STAR)
    assert not faulted(machine)
    access(machine, RDMSR, LSTAR)
    assert faulted(machine)


def test_first_range_counts(machine: Machine) -> None:
    set_filter(machine.vm, (READ, STAR, 1, 1), (READ, STAR, 2, 0))
    access(machine, RDMSR, STAR)
    assert not faulted(machine)


def test_clients_own_accesses_are_not_filtered(machine: Machine) -> None:
    set_filter(machine.vm, (READ | WRITE, STAR, 1, 0), flags=DENY)
    assert machine.vcpu.set_msrs([(STAR, 5), (LSTAR, 6)]) == 2
    assert machine.vcpu.msrs([STAR, LSTAR]) == [5, 6]


def test_filter_is_replaced_and_removed(machine: Machine) -> None:
    set_filter(machine.vm, (READ, STAR, 1, 0))
    set_filter(machine.vm, (READ, LSTAR, 1, 0))
    access(machine, RDMSR, STAR)
    assert not faulted(machine)
    set_filter(machine.vm)
    access(machine, RDMSR, LSTAR)
    assert not faulted(machine)


def test_filter_reaches_a_running_vcpu(machine: Machine) -> None:
    machine.load(f"again: mov ecx, {STAR:#x}; rdmsr; jmp again", Mode.PROTECTED)
    machine.handle(GP, "mov ebx, 13; hlt", Mode.PROTECTED)
    guest = threading.Thread(target=machine.vcpu.run)
    guest.start()
    set_filter(machine.vm, (READ, STAR, 1, 0))
    guest.join()
    assert faulted(machine)


@pytest.mark.parametrize("reasons", [UNKNOWN, UNKNOWN | INVALID | FILTER])
def test_read_of_no_msr_is_answered_by_the_client(machine: Machine, reasons: int) -> None:
    leave_for(machine.vm, reasons)
    assert access(machine, RDMSR, NO_MSR) == kvm.KVM_EXIT_X86_RDMSR
    msr = machine.vcpu.msr
    assert (msr.error, msr.reason, msr.index, msr.data) == (0, UNKNOWN, NO_MSR, 0)
    msr.data = 0x1122_3344_5566_7788
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    regs = machine.vcpu.regs()
    assert (regs.rdx, regs.rax, regs.rip) == (0x1122_3344, 0x5566_7788, CODE + 3)


def test_write_to_no_msr_is_the_clients(machine: Machine) -> None:
    leave_for(machine.vm, UNKNOWN)
    assert access(machine, WRMSR, NO_MSR, 0x1_0000_0002) == kvm.KVM_EXIT_X86_WRMSR
    msr = machine.vcpu.msr
    assert (msr.error, msr.reason, msr.index, msr.data) == (0, UNKNOWN, NO_MSR, 0x1_0000_0002)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rip == CODE + 3
    assert not faulted(machine)


@pytest.mark.parametrize("source", [RDMSR, WRMSR])
def test_client_may_refuse(machine: Machine, source: str) -> None:
    leave_for(machine.vm, UNKNOWN)
    access(machine, source, NO_MSR)
    machine.vcpu.msr.error = 1
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert faulted(machine)


def test_value_that_an_msr_cannot_hold_is_the_clients(machine: Machine) -> None:
    leave_for(machine.vm, INVALID)
    assert access(machine, WRMSR, LSTAR, 1 << 60) == kvm.KVM_EXIT_X86_WRMSR
    assert (machine.vcpu.msr.reason, machine.vcpu.msr.data) == (INVALID, 1 << 60)


def test_denied_access_is_the_clients(machine: Machine) -> None:
    leave_for(machine.vm, FILTER)
    set_filter(machine.vm, (READ | WRITE, STAR, 1, 0))
    assert access(machine, WRMSR, STAR, 7) == kvm.KVM_EXIT_X86_WRMSR
    assert machine.vcpu.msr.reason == FILTER
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.msrs([STAR]) == [0]


@pytest.mark.parametrize("reasons", [0, INVALID, FILTER])
def test_other_refusals_fault(machine: Machine, reasons: int) -> None:
    leave_for(machine.vm, reasons)
    assert access(machine, RDMSR, NO_MSR) == kvm.KVM_EXIT_HLT
    assert faulted(machine)


def test_pending_access_is_finished_by_immediate_exit(machine: Machine) -> None:
    leave_for(machine.vm, UNKNOWN)
    access(machine, RDMSR, NO_MSR)
    machine.vcpu.msr.data = 0x77
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert (regs.rax, regs.rip) == (0x77, CODE + 2)


@pytest.mark.parametrize("reasons", [8, 1 << 63], ids=hex)
def test_unknown_reasons_are_refused(vm: Vm, reasons: int) -> None:
    with refused(errno.EINVAL):
        leave_for(vm, reasons)


REFUSED: Final[dict[str, tuple[int, list[Range]]]] = {
    "unknown flag": (2, []),
    "deny everything": (DENY, []),
    "deny everything by empty ranges": (DENY, [(READ, STAR, 0, 0)]),
    "range for nothing": (0, [(0, STAR, 1, 0)]),
    "unknown flag of a range": (0, [(4, STAR, 1, 0)]),
    "too many MSRs": (0, [(READ, STAR, 0x3001, 0)]),
}


@pytest.mark.parametrize(("flags", "ranges"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(machine: Machine, flags: int, ranges: list[Range]) -> None:
    set_filter(machine.vm, (READ, STAR, 1, 0))
    with refused(errno.EINVAL):
        set_filter(machine.vm, *ranges, flags=flags)
    access(machine, RDMSR, STAR)
    assert faulted(machine)


def test_bitmap_that_leads_nowhere(machine: Machine) -> None:
    with refused(errno.EFAULT):
        set_filter(machine.vm, (READ, STAR, 1, 0), bitmap=8)


def test_largest_range_is_taken(vm: Vm) -> None:
    set_filter(vm, *[(READ, 0xC000_0000, 0x3000, 0)] * 16)


def test_platform_info_can_be_taken_from_the_guest(system: System, machine: Machine) -> None:
    assert system.check_extension(kvm.KVM_CAP_MSR_PLATFORM_INFO) == 1
    for readable in (1, 0, 1):
        wanted = kvm_enable_cap(cap=kvm.KVM_CAP_MSR_PLATFORM_INFO)
        wanted.args[0] = readable
        machine.vm.ioctl(KVM_ENABLE_CAP, wanted)
        assert access(machine, RDMSR, PLATFORM_INFO) == kvm.KVM_EXIT_HLT
        assert faulted(machine) == (not readable)
        assert len(machine.vcpu.msrs([PLATFORM_INFO])) == 1


def test_only_a_vm_has_a_filter(system: System, vcpu: Vcpu) -> None:
    for other in (system, vcpu):
        with refused(errno.EINVAL):
            other.ioctl(KVM_X86_SET_MSR_FILTER, kvm_msr_filter())
