"""Hyper-V's synthetic timers: messages and interrupts at reference times."""

import struct
from itertools import pairwise

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.hyperv import GP, Guest, faults
from tests.ioctl.apic import EOI, load, write
from tests.ioctl.test_hyperv_synic import VECTOR, active
from tests.ioctl.test_pv_eoi import port
from tests.kvm import System, Vcpu
from tests.machine import DATA, Machine

ENABLED = 1
PERIODIC = 2
AUTO = 8
DIRECT = 1 << 12
SINT = 2
SLOT = DATA + 256 * SINT
EXPIRED = 0x8000_0010
MS = 10_000
"""Of reference time."""


def config(timer: int) -> int:
    return hv.STIMER0_CONFIG + 2 * timer


def count(timer: int) -> int:
    return hv.STIMER0_CONFIG + 2 * timer + 1


class Sleeper:
    """A guest that halts; each interrupt of VECTOR makes it tell by port 0x81, ended before."""

    def __init__(self, system: System) -> None:
        self.machine = Machine.of(system, controllers=True)
        self.vcpu.set_cpuid(hv.cpuid_of_guest(system, self.vcpu))
        hv.enable(self.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
        load(self.machine, "", {VECTOR: f"{write(EOI, 0)} out 0x81, al; iretd"})
        assert port(self.vcpu) == 0x80
        self.set((hv.SIMP, DATA | 1), (hv.SINT0 + SINT, VECTOR))

    @property
    def vcpu(self) -> Vcpu:
        return self.machine.vcpu

    def set(self, *values: tuple[int, int]) -> None:
        assert self.vcpu.set_msrs(values) == len(values)

    def now(self) -> int:
        return self.vcpu.msrs([hv.TIME_REF_COUNT])[0]

    def message(self) -> tuple[int, int, int, int, int, int]:
        """Type, payload's size, flags, timer, expiration, delivery."""
        raw = self.machine.ram.read(SLOT, 40)
        return struct.unpack("<IBB10xI4xQQ", raw)

    def take_message(self) -> None:
        """As a guest does it."""
        self.machine.ram.write(SLOT, bytes(4))


@pytest.fixture
def sleeper(system: System) -> Sleeper:
    return Sleeper(system)


@pytest.mark.parametrize("timer", range(4))
def test_hv_09_a_shot_sends_a_message_and_an_interrupt(sleeper: Sleeper, timer: int) -> None:
    at = sleeper.now() + 20 * MS
    sleeper.set((count(timer), at), (config(timer), ENABLED | SINT << 16))
    assert port(sleeper.vcpu) == 0x81
    kind, size, flags, number, expiration, delivery = sleeper.message()
    assert (kind, size, flags, number, expiration) == (EXPIRED, 24, 0, timer, at)
    assert at <= delivery <= sleeper.now()
    assert sleeper.vcpu.msrs([config(timer), count(timer)]) == [SINT << 16, at]


def test_hv_09_a_shot_in_the_past_comes_at_once(sleeper: Sleeper) -> None:
    sleeper.set((count(0), 1), (config(0), ENABLED | SINT << 16))
    assert port(sleeper.vcpu) == 0x81
    assert sleeper.message()[4] == 1


def test_hv_09_a_period_comes_again(sleeper: Sleeper) -> None:
    sleeper.set((count(1), 5 * MS), (config(1), ENABLED | PERIODIC | SINT << 16))
    expirations = []
    for _ in range(4):
        assert port(sleeper.vcpu) == 0x81
        expirations.append(sleeper.message()[4])
        sleeper.take_message()
    assert all(b > a and (b - a) % (5 * MS) == 0 for a, b in pairwise(expirations))
    assert sleeper.vcpu.msrs([config(1)]) == [ENABLED | PERIODIC | SINT << 16]


def test_hv_09_a_message_waits_for_its_place(sleeper: Sleeper) -> None:
    sleeper.set((count(0), 1), (config(0), ENABLED | SINT << 16))
    assert port(sleeper.vcpu) == 0x81
    sleeper.set((count(3), 2), (config(3), ENABLED | SINT << 16))
    sleeper.set((count(2), 1), (config(2), ENABLED | DIRECT | VECTOR << 4))
    assert port(sleeper.vcpu) == 0x81
    assert sleeper.message()[:5] == (EXPIRED, 24, 1, 0, 1)
    sleeper.take_message()
    sleeper.set((hv.EOM, 0))
    assert port(sleeper.vcpu) == 0x81
    assert sleeper.message()[:5] == (EXPIRED, 24, 0, 3, 2)


def test_hv_10_a_direct_timer_sends_an_interrupt_and_no_message(sleeper: Sleeper) -> None:
    sleeper.set((count(0), 1), (config(0), ENABLED | DIRECT | VECTOR << 4))
    assert port(sleeper.vcpu) == 0x81
    assert sleeper.message()[0] == 0
    assert sleeper.vcpu.msrs([config(0)]) == [DIRECT | VECTOR << 4]


def test_hv_09_a_timer_that_is_stopped_sends_nothing(sleeper: Sleeper) -> None:
    sleeper.set((count(0), 1), (config(0), ENABLED | SINT << 16), (config(0), SINT << 16))
    sleeper.set((count(1), 1), (config(1), ENABLED | DIRECT | VECTOR << 4))
    assert port(sleeper.vcpu) == 0x81
    assert sleeper.message()[0] == 0


@pytest.fixture
def guest(system: System) -> Guest:
    return active(system)


def test_hv_09_a_count_starts_a_timer_and_0_stops_it(guest: Guest) -> None:
    far = 1 << 62
    guest.wrmsr(config(0), AUTO | SINT << 16)
    guest.wrmsr(count(0), far)
    assert guest.rdmsr(config(0)) == ENABLED | AUTO | SINT << 16
    assert guest.rdmsr(count(0)) == far
    guest.wrmsr(count(0), 0)
    assert guest.rdmsr(config(0)) == AUTO | SINT << 16


def test_hv_09_a_timer_without_a_count_stops(guest: Guest) -> None:
    guest.wrmsr(config(0), ENABLED | SINT << 16)
    guest.rdmsr(hv.GUEST_OS_ID)
    assert guest.rdmsr(count(0)) == 0


def test_hv_09_a_running_timer_loses_its_source_and_stops(guest: Guest) -> None:
    guest.wrmsr(count(0), 1 << 62)
    guest.wrmsr(config(0), ENABLED | SINT << 16)
    guest.wrmsr(config(0), ENABLED)
    assert guest.rdmsr(config(0)) == 0


def test_hv_10_enforced_direct_timers_need_their_bit(system: System) -> None:
    for edx, vector in ((0, GP), (1 << 19, None)):
        guest = Guest.of(system, {hv.FEATURES: {"edx": edx}}, controllers=True, enforce=True)
        hv.enable(guest.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
        assert faults(guest.wrmsr, config(0), DIRECT) == vector


def test_hv_09_without_a_controller_there_is_no_timer(system: System) -> None:
    guest = Guest.of(system, controllers=True)
    assert faults(guest.wrmsr, config(0), 0) == GP
    assert faults(guest.wrmsr, count(0), 0) == GP
    assert faults(guest.rdmsr, config(0)) is None
    assert guest.vcpu.set_msrs([(config(0), 0), (count(0), 0)]) == 2
    assert guest.vcpu.set_msrs([(config(0), 1)]) == 0


def test_hv_09_saved_and_restored_a_timer_goes_on(system: System, sleeper: Sleeper) -> None:
    at = sleeper.now() + (1 << 40)
    sleeper.set((count(0), at), (config(0), ENABLED | SINT << 16))
    indexes = [config(0), count(0), config(1), count(1)]
    saved = sleeper.vcpu.msrs(indexes)
    assert saved == [ENABLED | SINT << 16, at, 0, 0]
    other = Sleeper(system)
    other.set(*zip(indexes, saved, strict=True))
    assert other.vcpu.msrs(indexes) == saved
    other.set((count(0), 1))
    assert port(other.vcpu) == 0x81
    assert other.message()[4] == 1
