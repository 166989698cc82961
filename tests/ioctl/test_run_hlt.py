"""KVM_RUN, HLT: without an interrupt chip it is the client's business."""

import errno

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from kvmshim.abi.ioctls_gen import KVM_RUN
from tests.kvm import System, Vm, refused
from tests.machine import CODE, Machine, Mode


@pytest.mark.parametrize("mode", Mode)
def test_hlt_exits_in_every_mode(machine: Machine, mode: Mode) -> None:
    machine.load("mov eax, 42; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 42


def test_rip_is_behind_the_hlt(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    machine.vcpu.run()
    assert machine.vcpu.regs().rip == CODE + 1


def test_next_run_goes_on_behind_the_hlt(machine: Machine) -> None:
    machine.load("hlt; inc bx; hlt; inc bx; hlt", Mode.REAL)
    assert [machine.vcpu.run() for _ in range(3)] == [KVM_EXIT_HLT] * 3
    assert machine.vcpu.regs().rbx == 2


@pytest.mark.parametrize("flag", ["cli", "sti"])
def test_interrupt_flag_makes_no_difference(machine: Machine, flag: str) -> None:
    machine.load(f"{flag}; nop; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT


def test_run_page_shows_the_interrupt_flag(machine: Machine) -> None:
    machine.load("sti; nop; hlt; cli; hlt", Mode.REAL)
    shown = []
    for _ in range(2):
        machine.vcpu.run()
        shown.append(machine.vcpu.state.if_flag)
    assert shown == [1, 0]


@pytest.mark.parametrize("argument", [1, (1 << 64) - 1])
def test_run_takes_no_argument(machine: Machine, argument: int) -> None:
    machine.load("inc bx; hlt", Mode.REAL)
    with refused(errno.EINVAL):
        machine.vcpu.ioctl(KVM_RUN, argument)
    assert machine.vcpu.regs().rbx == 0


def test_vm_does_not_run(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_RUN)


def test_system_does_not_run(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_RUN)
