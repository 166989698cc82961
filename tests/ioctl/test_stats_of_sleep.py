"""KVM_GET_STATS_FD: how a vCPU sleeps, what wakes it, what its guest is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvmshim.abi import constants_gen as kvm
from tests.assembler import assemble
from tests.ioctl.apic import SVR, load, message, send, write
from tests.ioctl.test_mp_state_of_apic import INIT, START_PAGE, START_UP, command
from tests.ioctl.test_stats_fd import Statistics, statistics
from tests.kvm import System, Vcpu
from tests.leftovers import wait_until
from tests.machine import DATA, Machine
from tests.paravirt import ASYNC_PF_EN, ASYNC_PF_INT, ENABLED, STEAL_TIME

VECTOR = 0x41
NMI = 2
NMI_MESSAGE = 4 << 8
BY_INTERRUPT = ENABLED | 1 << 3
"""In ASYNC_PF_EN."""


@pytest.fixture
def halting(system: System) -> Machine:
    """A guest about to halt with interrupts let in; VECTOR is told by port 0x81."""
    machine = Machine.of(system, controllers=True)
    load(machine, "", {VECTOR: "out 0x81, al; iretd"})
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    return machine


@pytest.fixture
def made(halting: Machine) -> Iterator[Statistics]:
    """The statistics of the vCPU of `halting`."""
    with statistics(halting.vcpu) as statistics_of_vcpu:
        yield statistics_of_vcpu


@contextmanager
def asleep(vcpu: Vcpu, made: Statistics) -> Iterator[None]:
    """Meanwhile the vCPU sleeps in KVM_RUN, which the block has to end."""
    runner = threading.Thread(target=vcpu.run)
    runner.start()
    wait_until(lambda: made.values()["blocking"] == 1)
    yield
    runner.join()


def test_a_sleep_and_its_end_are_counted(halting: Machine, made: Statistics) -> None:
    before = made.values()
    with asleep(halting.vcpu, made):
        during = made.values()
        send(halting.vm, message(VECTOR))
    after = made.values()
    assert (before["blocking"], before["halt_wakeup"], before["halt_wait_ns"]) == (0, 0, 0)
    assert (during["halt_wakeup"], during["halt_wait_ns"]) == (0, 0)
    assert (after["blocking"], after["halt_wakeup"]) == (0, 1)
    assert after["halt_wait_ns"] > 0


def test_a_change_of_the_memory_map_wakes_nobody(halting: Machine, made: Statistics) -> None:
    with asleep(halting.vcpu, made):
        region = halting.vm.add_region(slot=1, gpa=0x100000, size=0x1000)
        halting.vm.set_region(slot=1, gpa=0x100000, size=0, address=region.address)
        wait_until(lambda: made.values()["blocking"] == 1)
        assert made.values()["halt_wakeup"] == 0
        send(halting.vm, message(VECTOR))
    assert made.values()["halt_wakeup"] == 1


def test_a_guest_that_cannot_be_told_of_pages_sleeps(system: System) -> None:
    """Asynchronous page faults enabled, and the local APIC disabled, as with Linux' `nolapic`."""
    machine = Machine.of(system, controllers=True)
    load(machine, write(SVR, 0xFF), {NMI: "out 0x82, al; iretd"})
    assert machine.vcpu.set_msrs([(ASYNC_PF_INT, VECTOR), (ASYNC_PF_EN, DATA | BY_INTERRUPT)]) == 2
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    with statistics(machine.vcpu) as made:
        with asleep(machine.vcpu, made):
            send(machine.vm, message(0, data=NMI_MESSAGE))
        values = made.values()
    assert machine.vcpu.io.port == 0x82
    assert (values["halt_exits"], values["halt_wakeup"]) == (1, 1)


def test_a_guest_that_need_not_sleep_does_not(halting: Machine, made: Statistics) -> None:
    send(halting.vm, message(VECTOR))
    assert halting.vcpu.run() == kvm.KVM_EXIT_IO
    values = made.values()
    assert values["irq_injections"] == 1
    assert (values["halt_wakeup"], values["halt_wait_ns"]) == (0, 0)


def test_waiting_for_a_start_blocks_and_is_no_halt(system: System) -> None:
    machine = Machine.of(system, controllers=True)
    machine.ram.write(START_PAGE << 12, assemble("out 0x82, al", bits=16, origin=0))
    application = machine.vm.create_vcpu(1)
    load(machine, command(INIT) + command(START_UP | START_PAGE), {})
    with statistics(application) as made:
        with asleep(application, made):
            assert machine.vcpu.port() == 0x80
        values = made.values()
    assert values["io_exits"] == 1
    assert values["halt_wakeup"] >= 1
    assert (values["blocking"], values["halt_wait_ns"]) == (0, 0)


def test_a_guest_that_is_told_of_its_sleep_is_counted(halting: Machine, made: Statistics) -> None:
    halting.vcpu.set_msrs([(STEAL_TIME, DATA | ENABLED)])
    with asleep(halting.vcpu, made):
        assert made.values()["preemption_reported"] == 1
        send(halting.vm, message(VECTOR))
    assert made.values()["preemption_reported"] == 1


def test_a_guest_that_is_not_told_is_not_counted(halting: Machine, made: Statistics) -> None:
    with asleep(halting.vcpu, made):
        send(halting.vm, message(VECTOR))
    assert made.values()["preemption_reported"] == 0
