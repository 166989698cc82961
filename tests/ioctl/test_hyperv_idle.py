"""HV_X64_MSR_GUEST_IDLE: a read waits for an interrupt, even for one that is not taken.

TLFS, "Virtual Processor Idle Sleep State". No kernel has it.
"""

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.hyperv import GP, Guest, faults
from tests.ioctl.apic import message, send
from tests.ioctl.test_hypercalls import has_pending, switch_on
from tests.kvm import System

VECTOR = 0x61
DIRECT_SHOT = 1 | 1 << 12 | VECTOR << 4
MS = 10_000


@pytest.fixture
def guest(system: System) -> Guest:
    """With a local APIC that is on; interrupts are disabled."""
    made = Guest.of(system, controllers=True)
    switch_on(made.vcpu)
    hv.enable(made.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
    return made


def test_hv_47_idle_waits_for_an_interrupt_that_is_not_taken(guest: Guest) -> None:
    at = guest.vcpu.msrs([hv.TIME_REF_COUNT])[0] + 20 * MS
    guest.vcpu.set_msrs([(hv.STIMER0_CONFIG + 1, at), (hv.STIMER0_CONFIG, DIRECT_SHOT)])
    assert guest.rdmsr(hv.GUEST_IDLE) == 0
    assert guest.vcpu.msrs([hv.TIME_REF_COUNT])[0] >= at
    assert has_pending(guest.vcpu, VECTOR)


def test_hv_47_idle_does_not_wait_with_an_interrupt_pending(guest: Guest) -> None:
    assert send(guest.machine.vm, message(VECTOR)) == 1
    for _ in range(2):
        assert guest.rdmsr(hv.GUEST_IDLE) == 0
    assert has_pending(guest.vcpu, VECTOR)


def test_hv_47_idle_is_read_only_and_not_the_clients(guest: Guest) -> None:
    assert faults(guest.wrmsr, hv.GUEST_IDLE, 0) == GP
    assert guest.vcpu.msrs([hv.GUEST_IDLE]) == []
    assert guest.vcpu.set_msrs([(hv.GUEST_IDLE, 0)]) == 0


def test_hv_47_idle_needs_a_local_apic(system: System) -> None:
    guest = Guest.of(system)
    assert faults(guest.rdmsr, hv.GUEST_IDLE) == GP
    assert not hv.leaf(hv.supported(guest.vcpu), hv.FEATURES).eax >> 10 & 1


@pytest.mark.parametrize("there", [False, True])
def test_hv_47_idle_enforced_needs_its_bit(system: System, there: bool) -> None:
    announced = {hv.FEATURES: {"eax": there << 10}}
    guest = Guest.of(system, announced, controllers=True, enforce=True)
    switch_on(guest.vcpu)
    send(guest.machine.vm, message(VECTOR))
    assert (faults(guest.rdmsr, hv.GUEST_IDLE) is None) == there
