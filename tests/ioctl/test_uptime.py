"""Clocks and timers of a guest that has run for years, by counters that are shifted there.

The time-stamp counter near 2^63 and near its end, KVM's clock beyond 580 years: a timer fires
neither early nor never, and every reader of a clock reads the same.
"""

import ctypes
import itertools
from functools import partial

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_SET_DEVICE_ATTR
from kvmshim.abi.structs_gen import kvm_clock_data, kvm_device_attr
from tests.ioctl.apic import APIC, EOI, load, write
from tests.kvm import System, Vcpu
from tests.machine import Machine
from tests.paravirt import Clock

IA32_TSC = 0x10
IA32_TSC_DEADLINE = 0x6E0
LVT_TIMER = 0x320
TIMER_INITIAL = 0x380
TIMER_CURRENT = 0x390
TIMER_DIVIDE = 0x3E0
DEADLINE_MODE = 2 << 17
VECTOR = 0x51

END = 1 << 64
SOON = 1 << 20
"""Ticks: less than a millisecond."""

WHEN = {
    "a century": 100 * 365 * 86_400 * 2_500_000_000,
    "before 2^63": (1 << 63) - SOON,
    "behind 2^63": 1 << 63,
    "before the end": END - 2048 * SOON,
}
CLOCKS = {"0": 0, "580 years": 580 * 365 * 86_400 * 10**9, "2^63": 1 << 63, "the end": END - 1}

TELL = f"out 0x81, al; {write(EOI, 0)} iretd"
WAIT_FOR_DEADLINE = f"""
    {write(LVT_TIMER, DEADLINE_MODE | VECTOR)}
    mov eax, esi
    mov edx, edi
    mov ecx, {IA32_TSC_DEADLINE:#x}
    wrmsr
"""


@pytest.fixture
def machine(system: System) -> Machine:
    return Machine.of(system, controllers=True)


def set_tsc_offset(vcpu: Vcpu, offset: int) -> None:
    """KVM_VCPU_TSC_OFFSET."""
    value = ctypes.c_uint64(offset)
    attribute = kvm_device_attr(
        group=kvm.KVM_VCPU_TSC_CTRL,
        attr=kvm.KVM_VCPU_TSC_OFFSET,
        addr=ctypes.addressof(value),
    )
    vcpu.ioctl(KVM_SET_DEVICE_ATTR, attribute)


def wait_for_deadline(machine: Machine, tsc: int, deadline: int) -> int:
    """Runs from `tsc` until the timer's interrupt is served; the guest's counter then."""
    load(machine, WAIT_FOR_DEADLINE, {VECTOR: TELL})
    machine.vcpu.change_regs(rsi=deadline & 0xFFFF_FFFF, rdi=deadline >> 32)
    machine.vcpu.set_msrs([(IA32_TSC, tsc)])
    ports = []
    for _ in range(2):
        assert machine.vcpu.run() == kvm.KVM_EXIT_IO
        ports.append(machine.vcpu.io.port)
    assert ports == [0x80, 0x81]
    return machine.vcpu.msrs([IA32_TSC])[0]


@pytest.mark.parametrize("when", WHEN.values(), ids=WHEN.keys())
def test_deadline_is_met_years_after_the_start(machine: Machine, when: int) -> None:
    deadline = when + 4 * SOON
    assert wait_for_deadline(machine, when, deadline) >= deadline


def test_deadline_at_the_very_end_is_met_when_the_counter_begins_anew(machine: Machine) -> None:
    # The guest has most of a second to arm the timer.
    assert wait_for_deadline(machine, END - 2048 * SOON, END - 1) < END // 2


def test_deadline_that_has_passed_is_met_at_once(machine: Machine) -> None:
    wait_for_deadline(machine, 1 << 63, (1 << 63) - 1)


@pytest.mark.parametrize(
    ("offset", "ns"),
    list(itertools.product([0, 1 << 62, (1 << 63) - 1, 1 << 63, END - 1], CLOCKS.values())),
)
def test_shifted_clocks_are_one(system: System, offset: int, ns: int) -> None:
    machine = Machine.of(system)
    clock = Clock(machine)
    set_tsc_offset(machine.vcpu, offset)
    machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=ns))
    machine_clock = partial(vm_clock, machine)
    seen = [(read() - ns) % END for _ in range(3) for read in (machine_clock, clock.read)]
    assert seen == sorted(seen)
    assert seen[-1] < 3600 * 10**9


def vm_clock(machine: Machine) -> int:
    found = kvm_clock_data()
    machine.vm.ioctl(KVM_GET_CLOCK, found)
    return found.clock


@pytest.mark.parametrize("configuration", [0, 1, 2, 3, 8, 9, 10, 11])
def test_the_longest_count_is_not_early_and_a_short_one_ends(
    machine: Machine, configuration: int
) -> None:
    source = f"""
        {write(TIMER_DIVIDE, configuration)}
        {write(LVT_TIMER, VECTOR)}
        {write(TIMER_INITIAL, 0xFFFF_FFFF)}
        mov eax, [{APIC | TIMER_CURRENT:#x}]
        out 0x82, eax
        {write(TIMER_INITIAL, 1000)}
    """
    load(machine, source, {VECTOR: TELL})
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    left = int.from_bytes(machine.vcpu.io_data, "little")
    assert left > 0x8000_0000, "it lasts four seconds at least"
    ports = []
    for _ in range(2):
        assert machine.vcpu.run() == kvm.KVM_EXIT_IO
        ports.append(machine.vcpu.io.port)
    assert ports == [0x80, 0x81]
