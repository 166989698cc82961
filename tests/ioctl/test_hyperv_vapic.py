"""Hyper-V's assist page, and the registers of the local APIC that are MSRs."""

import pytest

from tests import hyperv as hv
from tests.hyperv import GP, Guest, faults
from tests.ioctl.apic import load, message, send
from tests.ioctl.test_hypercalls import has_pending, switch_on
from tests.ioctl.test_pv_eoi import LOW, end, port, told, vectors
from tests.kvm import System
from tests.machine import DATA, RAM_SIZE, Machine
from tests.paravirt import PV_EOI_EN

ISR = 0x100
ASSERT = 1 << 14
SELF = 1 << 18


@pytest.fixture
def guest(system: System) -> Guest:
    made = Guest.of(system, controllers=True)
    switch_on(made.vcpu)
    return made


def test_hv_02_enabling_clears_the_first_word_only(guest: Guest) -> None:
    guest.machine.ram.write(DATA, b"\xff" * 4096)
    guest.wrmsr(hv.VP_ASSIST_PAGE, DATA | hv.ENABLED)
    assert guest.machine.ram.read(DATA, 4096) == bytes(4) + b"\xff" * 4092
    assert guest.rdmsr(hv.VP_ASSIST_PAGE) == DATA | hv.ENABLED


def test_hv_02_a_page_that_is_not_enabled_is_not_touched(guest: Guest) -> None:
    guest.machine.ram.write(DATA, b"\xff" * 8)
    guest.wrmsr(hv.VP_ASSIST_PAGE, DATA)
    assert guest.machine.ram.read(DATA, 8) == b"\xff" * 8
    assert faults(guest.wrmsr, hv.VP_ASSIST_PAGE, RAM_SIZE | 1) == GP
    assert guest.rdmsr(hv.VP_ASSIST_PAGE) == DATA


def test_hv_02_the_page_spares_ends_of_interrupts(system: System) -> None:
    machine = Machine.of(system, controllers=True)
    machine.vcpu.set_cpuid(hv.cpuid_of_guest(system, machine.vcpu))
    load(machine, "", {LOW: end("out 0x81, al")})
    assert machine.vcpu.set_msrs([(hv.VP_ASSIST_PAGE, DATA | hv.ENABLED)]) == 1
    assert port(machine.vcpu) == 0x80
    for _ in range(3):
        assert send(machine.vm, message(LOW)) == 1
        assert told(machine.vcpu) == (0x81, True)
        assert vectors(machine.vcpu, ISR) == []
    assert machine.vcpu.set_msrs([(hv.VP_ASSIST_PAGE, 0)]) == 1
    assert send(machine.vm, message(LOW)) == 1
    assert told(machine.vcpu) == (0x81, False)


def test_hv_02_it_is_the_page_of_kvms_guests(guest: Guest) -> None:
    """Of the two MSRs the last one counts."""
    guest.wrmsr(hv.VP_ASSIST_PAGE, DATA | hv.ENABLED)
    assert guest.vcpu.msrs([PV_EOI_EN]) == [DATA | hv.ENABLED]
    guest.wrmsr(hv.VP_ASSIST_PAGE, DATA)
    assert guest.vcpu.msrs([PV_EOI_EN]) == [0]


def test_hv_02_task_priority_is_that_of_cr8(guest: Guest) -> None:
    guest.wrmsr(hv.TPR, 0x50)
    assert guest.rdmsr(hv.TPR) == 0x50
    assert guest.vcpu.sregs().cr8 == 5
    assert guest.vcpu.msrs([hv.TPR]) == [0x50]
    assert faults(guest.wrmsr, hv.TPR, 1 << 32) == GP


def test_hv_02_a_command_sends_an_interrupt(guest: Guest) -> None:
    other = guest.machine.vm.create_vcpu(3)
    switch_on(other)
    guest.wrmsr(hv.ICR, 3 << 56 | ASSERT | 0x61)
    assert has_pending(other, 0x61)
    assert not has_pending(guest.vcpu, 0x61)
    assert guest.rdmsr(hv.ICR) == 3 << 56 | ASSERT | 0x61
    guest.wrmsr(hv.ICR, SELF | ASSERT | 0x62)
    assert has_pending(guest.vcpu, 0x62)


def test_hv_02_an_end_of_interrupt_cannot_be_read(guest: Guest) -> None:
    guest.wrmsr(hv.EOI, 0)
    guest.wrmsr(hv.EOI, 1)
    assert faults(guest.rdmsr, hv.EOI) == GP
    assert faults(guest.wrmsr, hv.EOI, 1 << 32) == GP


def test_hv_02_an_end_of_interrupt_ends_it(system: System) -> None:
    machine = Machine.of(system, controllers=True)
    machine.vcpu.set_cpuid(hv.cpuid_of_guest(system, machine.vcpu))
    by_msr = f"mov ecx, {hv.EOI:#x}; xor eax, eax; xor edx, edx; wrmsr; out 0x81, al; iretd"
    load(machine, "", {LOW: by_msr})
    assert port(machine.vcpu) == 0x80
    for _ in range(2):
        assert send(machine.vm, message(LOW)) == 1
        assert port(machine.vcpu) == 0x81
        assert vectors(machine.vcpu, ISR) == []


@pytest.mark.parametrize("index", [hv.EOI, hv.ICR, hv.TPR], ids=hex)
def test_hv_02_without_a_local_apic_there_is_none(system: System, index: int) -> None:
    guest = Guest.of(system)
    assert faults(guest.rdmsr, index) == GP
    assert faults(guest.wrmsr, index, 0) == GP
    assert guest.vcpu.msrs([index]) == []


@pytest.mark.parametrize("index", [hv.ICR, hv.TPR], ids=hex)
def test_hv_24_enforced_they_need_their_bit(system: System, index: int) -> None:
    none = {hv.FEATURES: {"eax": 1 << 5}}
    guest = Guest.of(system, none, controllers=True, enforce=True)
    assert faults(guest.rdmsr, index) == GP
    only = {hv.FEATURES: {"eax": 1 << 4}}
    assert faults(Guest.of(system, only, controllers=True, enforce=True).rdmsr, index) is None
