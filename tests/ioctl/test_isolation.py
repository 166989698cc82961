"""Who may open the device, and what a descriptor gives to those who did not make it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from kvmshim.abi.structs_gen import kvm_msi, kvm_regs
from tests.kvm import System, ioctl
from tests.machine import DATA, Machine, Mode
from tests.server import serving

NOBODY = 65534
READ_DATA = f"mov eax, [{DATA}]; hlt"


def errno_in_child(action: Callable[[], object]) -> int:
    """What `action` fails with in a forked child; 0 if it does not."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            action()
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def open_as(uid: int, path: Path) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.open(path, os.O_RDWR)


@pytest.mark.usefixtures("guarded")
def test_another_user_cannot_open_the_device(device_path: Path) -> None:
    assert errno_in_child(lambda: open_as(NOBODY, device_path)) == errno.EACCES


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_another_user_opens_a_device_that_is_for_all() -> None:
    with serving("--mode", "0666") as server:
        System(server.path).close()
        assert errno_in_child(lambda: open_as(NOBODY, server.path)) == 0


def test_vm_refuses_another_process(machine: Machine) -> None:
    assert errno_in_child(lambda: machine.vm.ioctl(nr.KVM_CHECK_EXTENSION, 3)) == errno.EIO


def test_vm_makes_no_vcpus_for_another_process(machine: Machine) -> None:
    assert errno_in_child(lambda: machine.vm.ioctl(nr.KVM_CREATE_VCPU, 1)) == errno.EIO


@pytest.mark.parametrize(
    "number", [nr.KVM_IRQ_LINE, nr.KVM_IRQ_LINE_STATUS, nr.KVM_SIGNAL_MSI], ids=hex
)
def test_vm_raises_no_interrupt_for_another_process(system: System, number: int) -> None:
    machine = Machine.of(system, controllers=True)
    message = kvm_msi(address_lo=0xFEE0_0000, data=0x41)
    assert errno_in_child(lambda: machine.vm.ioctl(number, message)) == errno.EIO


@pytest.mark.parametrize("number", [nr.KVM_RUN, nr.KVM_GET_REGS, 0xAEFF], ids=hex)
def test_vcpu_refuses_another_process(machine: Machine, number: int) -> None:
    regs = kvm_regs()
    assert errno_in_child(lambda: machine.vcpu.ioctl(number, regs)) == errno.EIO


def test_vm_works_on_after_another_process_was_refused(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    assert errno_in_child(machine.vcpu.run) == errno.EIO
    assert machine.vcpu.run() == KVM_EXIT_HLT


def test_system_descriptor_serves_a_child(system: System) -> None:
    assert errno_in_child(lambda: ioctl(system.fd, nr.KVM_CREATE_VM)) == 0


def test_guests_do_not_see_each_others_memory(system: System) -> None:
    machines = [Machine.of(system) for _ in range(3)]
    for number, machine in enumerate(machines):
        machine.load(READ_DATA, Mode.PROTECTED)
        machine.ram.write(DATA, bytes([number + 1]))
    assert [machine.vcpu.run() for machine in machines] == [KVM_EXIT_HLT] * 3
    assert [machine.vcpu.regs().rax for machine in machines] == [1, 2, 3]


def test_slots_of_one_vm_are_not_those_of_another(system: System) -> None:
    first, second = Machine.of(system), system.create_vm()
    second.set_region(slot=0, size=0x1000, address=first.ram.address)
    second.set_region(slot=0, size=0, address=0)
    first.load("hlt", Mode.REAL)
    assert first.vcpu.run() == KVM_EXIT_HLT


def test_vm_lives_on_when_another_is_closed(system: System) -> None:
    first, second = Machine.of(system), Machine.of(system)
    second.load("hlt", Mode.REAL)
    first.vm.close()
    assert second.vcpu.run() == KVM_EXIT_HLT


def test_vm_lives_on_when_the_device_is_closed(device_path: Path, guarded: None) -> None:  # noqa: ARG001
    system = System(device_path)
    vm = system.ioctl(nr.KVM_CREATE_VM)
    system.close()
    vcpu = ioctl(vm, nr.KVM_CREATE_VCPU, 0)
    regs = kvm_regs()
    ioctl(vcpu, nr.KVM_GET_REGS, regs)
    os.close(vcpu)
    os.close(vm)
    assert regs.rip == 0xFFF0
