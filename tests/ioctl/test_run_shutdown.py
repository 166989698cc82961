"""KVM_RUN, SHUTDOWN: an exception that cannot be delivered, three times over."""

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT, KVM_EXIT_SHUTDOWN
from tests.machine import CODE, Machine, Mode


@pytest.fixture
def without_handlers(machine: Machine) -> Machine:
    """The IDT has no entries at all."""
    machine.load("hlt", Mode.REAL)
    sregs = machine.vcpu.sregs()
    sregs.idt.limit = 0
    machine.vcpu.set_sregs(sregs)
    return machine


@pytest.mark.parametrize("cause", ["ud2", "int3", "int 0x80", "xor cx, cx; div cx"])
def test_exception_without_handlers_shuts_down(without_handlers: Machine, cause: str) -> None:
    without_handlers.load(f"{cause}; hlt", Mode.REAL)
    assert without_handlers.vcpu.run() == KVM_EXIT_SHUTDOWN


@pytest.mark.parametrize("mode", [Mode.PROTECTED, Mode.LONG])
def test_empty_gates_shut_down(machine: Machine, mode: Mode) -> None:
    machine.load("ud2; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_SHUTDOWN


def test_state_is_the_one_at_the_exception(without_handlers: Machine) -> None:
    without_handlers.load("mov eax, 42; ud2; hlt", Mode.REAL)
    without_handlers.vcpu.run()
    assert without_handlers.vcpu.regs().rax == 42


def test_handled_exception_does_not_shut_down(machine: Machine) -> None:
    machine.load("ud2; hlt", Mode.PROTECTED)
    machine.handle(6, "mov eax, 6; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 6


def test_double_fault_handler_prevents_the_shutdown(machine: Machine) -> None:
    machine.load("mov ebx, 0; ud2; hlt", Mode.PROTECTED)
    machine.handle(8, "pop ecx; mov eax, 8; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rax, machine.vcpu.regs().rcx) == (8, 0)


def test_client_may_put_the_vcpu_back_on_its_feet(without_handlers: Machine) -> None:
    without_handlers.load("ud2", Mode.REAL)
    assert without_handlers.vcpu.run() == KVM_EXIT_SHUTDOWN
    without_handlers.load("mov bx, 1; hlt", Mode.REAL)
    assert without_handlers.vcpu.run() == KVM_EXIT_HLT
    assert (without_handlers.vcpu.regs().rbx, without_handlers.vcpu.regs().rip) == (1, CODE + 4)


def test_other_vcpus_live_on(without_handlers: Machine) -> None:
    without_handlers.load("ud2", Mode.REAL)
    assert without_handlers.vcpu.run() == KVM_EXIT_SHUTDOWN
    other = Machine(without_handlers.vm, without_handlers.vm.create_vcpu(1), without_handlers.ram)
    other.load("hlt", Mode.REAL)
    assert other.vcpu.run() == KVM_EXIT_HLT
