"""Hyper-V's synthetic interrupt controller: its MSRs, interrupts of its sources, what leaves."""

import ctypes
import errno
import os
import struct

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import (
    kvm_irq_level,
    kvm_irq_routing,
    kvm_irq_routing_entry,
    kvm_irq_routing_hv_sint,
    kvm_irqfd,
)
from tests import hyperv as hv
from tests.hyperv import GP, Guest, faults
from tests.ioctl.apic import EOI, load, write
from tests.ioctl.test_hypercalls import has_pending, switch_on
from tests.ioctl.test_pv_eoi import ISR, port, vectors
from tests.kvm import System, Vm, refused, table
from tests.leftovers import wait_until
from tests.machine import DATA, RAM_SIZE, Machine

MASKED = 1 << 16
AUTO_EOI = 1 << 17
LINE = 40
VECTOR = 0x61
CAPABILITIES = [kvm.KVM_CAP_HYPERV_SYNIC, kvm.KVM_CAP_HYPERV_SYNIC2]


def active(system: System, capability: int = kvm.KVM_CAP_HYPERV_SYNIC2) -> Guest:
    guest = Guest.of(system, controllers=True)
    switch_on(guest.vcpu)
    hv.enable(guest.vcpu, capability)
    return guest


@pytest.fixture
def guest(system: System) -> Guest:
    return active(system)


def route(vm: Vm, vp_index: int, sint: int, line: int = LINE) -> None:
    """The line leads to a source, and nothing else leads anywhere."""
    entry = kvm_irq_routing_entry(gsi=line, type_=kvm.KVM_IRQ_ROUTING_HV_SINT)
    source = kvm_irq_routing_hv_sint(vcpu=vp_index, sint=sint)
    ctypes.memmove(entry.u, bytes(source), ctypes.sizeof(source))
    vm.ioctl(nr.KVM_SET_GSI_ROUTING, table(kvm_irq_routing(nr=1), [entry]))


def pulse(vm: Vm, line: int = LINE) -> int:
    """What KVM_IRQ_LINE_STATUS says of the rising line."""
    event = kvm_irq_level(irq=line, level=1)
    vm.ioctl(nr.KVM_IRQ_LINE_STATUS, event)
    vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=line))
    return ctypes.c_int32(event.irq).value


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_hv_07_it_is_announced_and_needs_a_local_apic(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1
    with refused(errno.EINVAL):
        hv.enable(Machine.of(system).vcpu, capability)


def test_hv_07_the_second_kind_has_no_argument(system: System) -> None:
    vcpu = Machine.of(system, controllers=True).vcpu
    with refused(errno.EINVAL):
        hv.enable(vcpu, kvm.KVM_CAP_HYPERV_SYNIC2, 1)
    hv.enable(vcpu, kvm.KVM_CAP_HYPERV_SYNIC, 1)


def test_hv_07_until_it_is_active_the_guest_has_none(system: System) -> None:
    guest = Guest.of(system, controllers=True)
    for index in (hv.SCONTROL, hv.SVERSION, hv.SIEFP, hv.SIMP, hv.EOM, hv.SINT0):
        assert faults(guest.rdmsr, index) == GP
        assert faults(guest.wrmsr, index, 0) == GP
    assert guest.vcpu.set_msrs([(hv.SCONTROL, 0)]) == 1
    assert guest.vcpu.set_msrs([(hv.SCONTROL, 1)]) == 0


def test_hv_07_active_it_has_its_first_values(guest: Guest) -> None:
    values = [guest.rdmsr(index) for index in (hv.SCONTROL, hv.SVERSION, hv.SIEFP, hv.SIMP, hv.EOM)]
    assert values == [1, 1, 0, 0, 0]
    assert {guest.rdmsr(hv.SINT0 + sint) for sint in range(16)} == {MASKED}


def test_hv_07_the_version_is_the_clients(guest: Guest) -> None:
    assert faults(guest.wrmsr, hv.SVERSION, 1) == GP
    assert guest.vcpu.set_msrs([(hv.SVERSION, 2)]) == 1
    assert guest.rdmsr(hv.SVERSION) == 2


@pytest.mark.parametrize("vector", [0, 15])
def test_hv_07_a_source_needs_a_vector_unless_masked(guest: Guest, vector: int) -> None:
    assert faults(guest.wrmsr, hv.SINT0, vector) == GP
    guest.wrmsr(hv.SINT0, vector | MASKED)
    guest.wrmsr(hv.SINT0, 16)
    assert guest.rdmsr(hv.SINT0) == 16
    assert guest.vcpu.set_msrs([(hv.SINT0, vector)]) == 1


@pytest.mark.parametrize("index", [hv.SIEFP, hv.SIMP], ids=["events", "messages"])
@pytest.mark.parametrize(
    ("capability", "clears"), list(zip(CAPABILITIES, [True, False], strict=True))
)
def test_hv_07_a_page_that_is_named_is_cleared_or_kept(
    system: System, index: int, capability: int, clears: bool
) -> None:
    guest = active(system, capability)
    guest.machine.ram.write(DATA, b"\xff" * 4096)
    assert guest.begin_wrmsr(index, DATA | hv.ENABLED) == kvm.KVM_EXIT_HYPERV
    assert guest.machine.ram.read(DATA, 4096) == (bytes(4096) if clears else b"\xff" * 4096)
    guest.vcpu.run()
    nowhere = RAM_SIZE | hv.ENABLED
    if clears:
        assert faults(guest.wrmsr, index, nowhere) == GP
    else:
        assert guest.begin_wrmsr(index, nowhere) == kvm.KVM_EXIT_HYPERV


def test_hv_07_changes_leave_with_all_of_it(guest: Guest) -> None:
    writes = [(hv.SIMP, DATA | 1), (hv.SIEFP, DATA + 0x1000 | 1), (hv.SCONTROL, 0)]
    for place, (index, value) in enumerate(writes):
        assert guest.begin_wrmsr(index, value) == kvm.KVM_EXIT_HYPERV
        kind, msr, control, events, messages, *_ = guest.vcpu.exit_words
        assert (kind, msr) == (kvm.KVM_EXIT_HYPERV_SYNIC, index)
        assert (control, messages) == (place != 2, DATA | 1)
        assert events == (0 if place == 0 else DATA + 0x1000 | 1)
        assert guest.vcpu.run() == kvm.KVM_EXIT_IO
        guest.check()
    assert guest.vcpu.set_msrs([(hv.SIMP, 0)]) == 1
    assert guest.rdmsr(hv.SIMP) == 0


def test_hv_07_a_line_leads_to_a_source(guest: Guest) -> None:
    other = guest.machine.vm.create_vcpu(9)
    switch_on(other)
    hv.enable(other, kvm.KVM_CAP_HYPERV_SYNIC2)
    assert other.set_msrs([(hv.SINT0 + 5, VECTOR)]) == 1
    route(guest.machine.vm, vp_index=1, sint=5)
    assert pulse(guest.machine.vm) == 1
    assert has_pending(other, VECTOR)
    assert not has_pending(guest.vcpu, VECTOR)


def test_hv_07_an_eventfd_leads_to_a_source(guest: Guest) -> None:
    guest.wrmsr(hv.SINT0 + 5, VECTOR)
    route(guest.machine.vm, vp_index=0, sint=5)
    raises = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    guest.machine.vm.ioctl(nr.KVM_IRQFD, kvm_irqfd(fd=raises, gsi=LINE))
    assert not has_pending(guest.vcpu, VECTOR)
    os.eventfd_write(raises, 1)
    wait_until(lambda: has_pending(guest.vcpu, VECTOR))
    os.close(raises)


@pytest.mark.parametrize(("vp_index", "sint"), [(0, 5), (0, 16), (0, 0xFFFF_FFFF), (7, 5)])
def test_hv_07_a_line_to_nowhere_gets_lost(guest: Guest, vp_index: int, sint: int) -> None:
    guest.vcpu.set_msrs([(hv.SINT0 + 5, VECTOR | MASKED)])
    route(guest.machine.vm, vp_index, sint)
    assert pulse(guest.machine.vm) < 1
    assert not has_pending(guest.vcpu, VECTOR)


@pytest.mark.parametrize("auto", [False, True])
def test_hv_20_an_interrupt_that_ends_by_itself_is_not_in_service(
    system: System, auto: bool
) -> None:
    machine = Machine.of(system, controllers=True)
    machine.vcpu.set_cpuid(hv.cpuid_of_guest(system, machine.vcpu))
    hv.enable(machine.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
    load(machine, "", {VECTOR: f"out 0x81, al; {write(EOI, 0)} iretd"})
    assert port(machine.vcpu) == 0x80
    machine.vcpu.set_msrs([(hv.SINT0, VECTOR | (AUTO_EOI if auto else 0))])
    route(machine.vm, vp_index=0, sint=0)
    assert pulse(machine.vm) == 1
    assert port(machine.vcpu) == 0x81
    assert vectors(machine.vcpu, ISR) == ([] if auto else [VECTOR])


def test_hv_08_messages_and_events_leave_to_the_client(guest: Guest) -> None:
    guest.introduce()
    for code in (hv.POST_MESSAGE, hv.SIGNAL_EVENT):
        guest.machine.ram.write(DATA, struct.pack("<Q", 77))
        assert guest.begin("call", **guest.words(code, DATA)) == kvm.KVM_EXIT_HYPERV
        kind, control, _, *params = guest.vcpu.exit_words[:5]
        assert (kind, control) == (kvm.KVM_EXIT_HYPERV_HCALL, code)
        assert params[0] == DATA
        guest.vcpu.exit_words[2] = 0x12
        assert guest.vcpu.run() == kvm.KVM_EXIT_IO
        guest.check()
        assert guest.result() == 0x12


def test_hv_08_a_connection_has_24_bits(guest: Guest) -> None:
    guest.introduce()
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, 1 << 24) == hv.INVALID_INPUT
    assert guest.call(hv.SIGNAL_EVENT | hv.FAST, 1 << 48) == hv.INVALID_INPUT
    words = guest.words(hv.SIGNAL_EVENT | hv.FAST, 1 << 32)
    assert guest.begin("call", **words) == kvm.KVM_EXIT_HYPERV


def test_hv_08_a_connection_in_memory_is_aligned_and_there(guest: Guest) -> None:
    guest.introduce()
    for address in (DATA + 4, RAM_SIZE):
        assert guest.call(hv.SIGNAL_EVENT, address) == hv.INVALID_ALIGNMENT


@pytest.mark.parametrize(("index", "bit"), [(hv.SCONTROL, 2), (hv.EOM, 2), (hv.STIMER0_CONFIG, 3)])
def test_hv_24_enforced_they_need_their_bit(system: System, index: int, bit: int) -> None:
    for eax, vector in ((0xFFFF_FFFF & ~(1 << bit), GP), (1 << bit, None)):
        guest = Guest.of(system, {hv.FEATURES: {"eax": eax}}, controllers=True, enforce=True)
        hv.enable(guest.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
        assert faults(guest.rdmsr, index) == vector


def test_hv_07_saved_and_restored_it_is_the_same(system: System, guest: Guest) -> None:
    indexes = [hv.SCONTROL, hv.SVERSION, hv.SIEFP, hv.SIMP, *range(hv.SINT0, hv.SINT0 + 16)]
    values = [3, 1, DATA | 1, DATA + 0x1000 | 1, *(0x40 + sint for sint in range(16))]
    assert guest.vcpu.set_msrs(list(zip(indexes, values, strict=True))) == len(indexes)
    saved = guest.vcpu.msrs(indexes)
    other = active(system)
    assert other.vcpu.set_msrs(list(zip(indexes, saved, strict=True))) == len(indexes)
    assert other.vcpu.msrs(indexes) == saved == values
