"""KVM_GET_MP_STATE, KVM_SET_MP_STATE where the local APIC is in the engine: the state machine."""

import errno
import threading

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import kvm_vcpu_events
from tests.assembler import assemble
from tests.ioctl.apic import ICR_HIGH, ICR_LOW, load, message, send, write
from tests.kvm import System, Vcpu, refused
from tests.machine import Machine

INIT = 0x4500
START_UP = 0x4600
START_PAGE = 3
SETTABLE = [
    kvm.KVM_MP_STATE_RUNNABLE,
    kvm.KVM_MP_STATE_UNINITIALIZED,
    kvm.KVM_MP_STATE_INIT_RECEIVED,
    kvm.KVM_MP_STATE_HALTED,
]


@pytest.fixture
def machine(system: System) -> Machine:
    """A boot processor, which is loaded with nothing yet."""
    return Machine.of(system, controllers=True)


@pytest.fixture
def application(machine: Machine) -> Vcpu:
    """A second vCPU. Started at START_PAGE, it tells by port 0x82."""
    machine.ram.write(START_PAGE << 12, assemble("out 0x82, al; hlt", bits=16, origin=0))
    return machine.vm.create_vcpu(1)


def command(low: int) -> str:
    """Instructions that send a command to the second vCPU."""
    return write(ICR_HIGH, 1 << 24) + write(ICR_LOW, low)


def test_the_boot_processor_runs_and_others_wait(machine: Machine, application: Vcpu) -> None:
    assert machine.vcpu.mp_state() == kvm.KVM_MP_STATE_RUNNABLE
    assert application.mp_state() == kvm.KVM_MP_STATE_UNINITIALIZED


def test_init_and_start_up(machine: Machine, application: Vcpu) -> None:
    load(machine, command(INIT) + "out 0x83, al;" + command(START_UP | START_PAGE), {})
    assert machine.vcpu.port() == 0x83
    assert application.mp_state() == kvm.KVM_MP_STATE_INIT_RECEIVED
    assert machine.vcpu.port() == 0x80
    assert application.mp_state() == kvm.KVM_MP_STATE_RUNNABLE
    assert application.sregs().cs.base == START_PAGE << 12
    assert application.port() == 0x82


def test_start_up_without_init_is_ignored(machine: Machine, application: Vcpu) -> None:
    load(machine, command(START_UP | START_PAGE), {})
    assert machine.vcpu.port() == 0x80
    assert application.mp_state() == kvm.KVM_MP_STATE_UNINITIALIZED


def test_init_resets_a_running_processor(machine: Machine, application: Vcpu) -> None:
    application.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    application.change_regs(rbx=0x1234, rip=0x77)
    load(machine, command(INIT), {})
    assert machine.vcpu.port() == 0x80
    assert application.mp_state() == kvm.KVM_MP_STATE_INIT_RECEIVED
    assert (application.regs().rbx, application.regs().rip) == (0, 0xFFF0)


def test_a_halted_processor_wakes_up(machine: Machine) -> None:
    vector = 0x41
    load(machine, "", {vector: "out 0x81, al; iretd"})
    assert machine.vcpu.port() == 0x80
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    machine.vcpu.state.immediate_exit = 0
    told: list[int] = []
    runner = threading.Thread(target=lambda: told.append(machine.vcpu.port()))
    runner.start()
    send(machine.vm, message(vector))
    runner.join()
    assert told == [0x81]


@pytest.mark.parametrize("state", SETTABLE)
def test_states_read_back(application: Vcpu, state: int) -> None:
    application.set_mp_state(state)
    assert application.mp_state() == state


def test_restored_halted_it_waits_for_an_interrupt(machine: Machine) -> None:
    vector = 0x41
    load(machine, "", {vector: "out 0x81, al; iretd"})
    assert machine.vcpu.port() == 0x80
    machine.vcpu.change_regs(rflags=0x202)
    machine.vcpu.set_mp_state(kvm.KVM_MP_STATE_HALTED)
    send(machine.vm, message(vector))
    assert machine.vcpu.port() == 0x81


def test_start_up_that_a_snapshot_has_caught(application: Vcpu) -> None:
    events = kvm_vcpu_events(sipi_vector=START_PAGE, flags=kvm.KVM_VCPUEVENT_VALID_SIPI_VECTOR)
    application.ioctl(nr.KVM_SET_VCPU_EVENTS, events)
    application.set_mp_state(kvm.KVM_MP_STATE_SIPI_RECEIVED)
    assert application.port() == 0x82


def test_an_smi_comes_before_the_start_up(application: Vcpu) -> None:
    application.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    application.ioctl(nr.KVM_SMI)
    for state in (kvm.KVM_MP_STATE_INIT_RECEIVED, kvm.KVM_MP_STATE_SIPI_RECEIVED):
        with refused(errno.EINVAL):
            application.set_mp_state(state)


@pytest.mark.parametrize("field", ["smm", "pending"])
def test_no_smi_while_waiting_for_the_start_up(application: Vcpu, field: str) -> None:
    wanted = kvm_vcpu_events(flags=kvm.KVM_VCPUEVENT_VALID_SMM)
    setattr(wanted.smi, field, 1)
    application.set_mp_state(kvm.KVM_MP_STATE_INIT_RECEIVED)
    with refused(errno.EINVAL):
        application.ioctl(nr.KVM_SET_VCPU_EVENTS, wanted)
    application.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    application.ioctl(nr.KVM_SET_VCPU_EVENTS, wanted)


@pytest.mark.parametrize("state", [5, 77, 0xFFFF_FFFF])
def test_there_is_no_such_state(application: Vcpu, state: int) -> None:
    with refused(errno.EINVAL):
        application.set_mp_state(state)
