"""Hyper-V's reference time: an MSR, and a page from which the guest computes the same."""

import struct
from dataclasses import dataclass

import pytest

from kvmshim.abi.ioctls_gen import KVM_SET_CLOCK
from kvmshim.abi.structs_gen import kvm_clock_data
from tests import hyperv as hv
from tests.hyperv import Guest
from tests.kvm import System, Vm
from tests.machine import DATA, RAM_SIZE

IA32_TSC = 0x10
PAGE = DATA
UNITS_PER_S = 10_000_000


@dataclass(frozen=True)
class Page:
    sequence: int
    scale: int
    offset: int

    def time(self, tsc: int) -> int:
        """What the guest computes."""
        return (tsc * self.scale >> 64) + self.offset


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.introduced(system)


@pytest.fixture
def told(guest: Guest) -> Guest:
    """A guest that has the page."""
    guest.wrmsr(hv.REFERENCE_TSC, PAGE | hv.ENABLED)
    return guest


def page(guest: Guest) -> Page:
    return Page(*struct.unpack("<I4xQq", guest.machine.ram.read(PAGE, 24)))


def set_clock(vm: Vm, ns: int) -> None:
    vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=ns))


def check_agreement(guest: Guest) -> None:
    """Read between two readings of the counter, the MSR is between the page's times."""
    shown = page(guest)
    before = guest.rdmsr(IA32_TSC)
    time = guest.rdmsr(hv.TIME_REF_COUNT)
    after = guest.rdmsr(IA32_TSC)
    assert shown.time(before) <= time <= shown.time(after)


def test_hv_06_time_is_that_of_the_vms_clock(guest: Guest) -> None:
    set_clock(guest.machine.vm, 5 * 10**9)
    first = guest.rdmsr(hv.TIME_REF_COUNT)
    assert 5 * UNITS_PER_S <= first < 3600 * UNITS_PER_S
    assert guest.rdmsr(hv.TIME_REF_COUNT) >= first


def test_hv_06_page_and_msr_agree(told: Guest) -> None:
    check_agreement(told)
    set_clock(told.machine.vm, 10**15)
    told.rdmsr(hv.TIME_REF_COUNT)
    check_agreement(told)
    assert told.rdmsr(hv.TIME_REF_COUNT) >= 10**13


def test_hv_06_a_second_of_the_counter_is_a_second(told: Guest) -> None:
    hz = told.rdmsr(hv.TSC_FREQUENCY)
    shown = page(told)
    gained = shown.time(1 << 40) - shown.time((1 << 40) - hz)
    assert abs(gained - UNITS_PER_S) <= UNITS_PER_S // 1000


def test_hv_06_a_counter_that_the_guest_writes_is_told(told: Guest) -> None:
    before = page(told)
    told.wrmsr(IA32_TSC, 1 << 50)
    assert page(told).offset != before.offset
    check_agreement(told)


def test_hv_06_counters_that_differ_have_no_page(told: Guest) -> None:
    other = told.machine.vm.create_vcpu(1)
    assert other.set_msrs([(IA32_TSC, 1 << 50)]) == 1
    told.rdmsr(hv.GUEST_OS_ID)
    assert page(told).sequence == 0
    assert told.rdmsr(hv.TIME_REF_COUNT) < 3600 * UNITS_PER_S
    assert told.vcpu.set_msrs([(IA32_TSC, 1 << 50)]) == 1
    told.rdmsr(hv.GUEST_OS_ID)
    assert page(told).sequence != 0
    check_agreement(told)


def test_hv_06_nothing_is_written_where_the_page_is_not_enabled(guest: Guest) -> None:
    guest.wrmsr(hv.REFERENCE_TSC, PAGE)
    guest.rdmsr(hv.TIME_REF_COUNT)
    assert page(guest) == Page(0, 0, 0)
    assert guest.rdmsr(hv.REFERENCE_TSC) == PAGE


def test_hv_06_a_changed_clock_is_told_with_a_new_sequence(told: Guest) -> None:
    before = page(told)
    set_clock(told.machine.vm, 0)
    told.rdmsr(hv.GUEST_OS_ID)
    after = page(told)
    assert before.sequence != 0
    assert after.sequence not in (0, before.sequence)
    assert after.scale == before.scale
    assert after.offset != before.offset


def test_hv_06_a_page_that_was_taken_back_is_not_written(told: Guest) -> None:
    told.wrmsr(hv.REFERENCE_TSC, 0)
    told.machine.ram.write(PAGE, bytes(24))
    set_clock(told.machine.vm, 0)
    told.rdmsr(hv.TIME_REF_COUNT)
    assert page(told) == Page(0, 0, 0)


def test_hv_06_the_sequence_is_never_one_that_means_none(told: Guest) -> None:
    for sequence in (0xFFFF_FFFE, 0xFFFF_FFFF):
        told.machine.ram.write(PAGE, struct.pack("<I", sequence))
        set_clock(told.machine.vm, 0)
        told.rdmsr(hv.GUEST_OS_ID)
        assert page(told).sequence == 1


def test_hv_13_while_the_counter_is_emulated_the_page_stays(told: Guest) -> None:
    told.wrmsr(hv.TSC_EMULATION_CONTROL, 1)
    before = page(told)
    set_clock(told.machine.vm, 0)
    told.rdmsr(hv.GUEST_OS_ID)
    assert page(told) == before
    check_agreement(told)
    told.wrmsr(hv.TSC_EMULATION_CONTROL, 0)
    set_clock(told.machine.vm, 0)
    told.rdmsr(hv.GUEST_OS_ID)
    assert page(told).sequence == before.sequence + 1


def test_hv_13_a_restored_page_is_kept_while_the_counter_is_emulated(guest: Guest) -> None:
    kept = struct.pack("<I4xQq", 5, 1 << 58, 1234)
    guest.machine.ram.write(PAGE, kept)
    restored = [(hv.TSC_EMULATION_CONTROL, 1), (hv.REFERENCE_TSC, PAGE | hv.ENABLED)]
    assert guest.vcpu.set_msrs(restored) == 2
    guest.rdmsr(hv.GUEST_OS_ID)
    assert guest.machine.ram.read(PAGE, 24) == kept
    check_agreement(guest)


def test_hv_06_a_page_outside_memory_is_none(guest: Guest) -> None:
    guest.wrmsr(hv.REFERENCE_TSC, RAM_SIZE | hv.ENABLED)
    first = guest.rdmsr(hv.TIME_REF_COUNT)
    assert guest.rdmsr(hv.TIME_REF_COUNT) >= first
    assert guest.rdmsr(hv.REFERENCE_TSC) == RAM_SIZE | hv.ENABLED


def test_hv_06_the_client_reads_the_same_time(told: Guest) -> None:
    shown = page(told)
    before = told.vcpu.msrs([IA32_TSC])[0]
    time = told.vcpu.msrs([hv.TIME_REF_COUNT])[0]
    after = told.vcpu.msrs([IA32_TSC])[0]
    assert shown.time(before) <= time <= shown.time(after)
