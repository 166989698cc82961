"""KVM_SET_GUEST_DEBUG: the client steps the guest and breaks into it."""

import errno
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_GET_DEBUGREGS,
    KVM_INTERRUPT,
    KVM_SET_DEBUGREGS,
    KVM_SET_GUEST_DEBUG,
)
from kvmshim.abi.structs_gen import kvm_debugregs, kvm_guest_debug, kvm_interrupt
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import CODE, DATA, MMIO, Machine, Mode

ENABLE: Final = kvm.KVM_GUESTDBG_ENABLE
STEP: Final = ENABLE | kvm.KVM_GUESTDBG_SINGLESTEP
HARDWARE: Final = ENABLE | kvm.KVM_GUESTDBG_USE_HW_BP
SOFTWARE: Final = ENABLE | kvm.KVM_GUESTDBG_USE_SW_BP
DR6: Final = 0xFFFF_0FF0
BS: Final = 1 << 14
BD: Final = 1 << 13
DR7: Final = 0x400
GD: Final = 1 << 13
DB, BP = 1, 3


def debug(vcpu: Vcpu, control: int, *, points: tuple[int, ...] = (), dr7: int = 0) -> None:
    wanted = kvm_guest_debug(control=control)
    for number, point in enumerate(points):
        wanted.arch.debugreg[number] = point
    wanted.arch.debugreg[7] = dr7
    vcpu.ioctl(KVM_SET_GUEST_DEBUG, wanted)


def step(vcpu: Vcpu) -> int:
    """Steps once; where the guest is then."""
    assert vcpu.run() == kvm.KVM_EXIT_DEBUG
    found = vcpu.debug
    assert (found.exception, found.dr6, found.dr7) == (DB, DR6 | BS, DR7)
    assert found.pc == vcpu.regs().rip
    return int(found.pc) - CODE


def test_capabilities_are_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_SET_GUEST_DEBUG) == 1
    assert system.check_extension(kvm.KVM_CAP_X86_ROBUST_SINGLESTEP) == 1
    controls = STEP | HARDWARE | SOFTWARE | kvm.KVM_GUESTDBG_BLOCKIRQ
    controls |= kvm.KVM_GUESTDBG_INJECT_DB | kvm.KVM_GUESTDBG_INJECT_BP
    assert system.check_extension(kvm.KVM_CAP_SET_GUEST_DEBUG2) == controls


@pytest.mark.parametrize("mode", Mode)
def test_each_instruction_is_a_step(machine: Machine, mode: Mode) -> None:
    machine.load("nop; add al, 5; nop; hlt", mode)
    debug(machine.vcpu, STEP)
    assert [step(machine.vcpu) for _ in range(3)] == [1, 3, 4]
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT


def test_trap_flag_is_not_the_guests(machine: Machine) -> None:
    machine.load("pushfd; pop ebx; hlt", Mode.PROTECTED)
    debug(machine.vcpu, STEP)
    for _ in range(2):
        step(machine.vcpu)
        assert not machine.vcpu.regs().rflags & 0x100
    assert not machine.vcpu.regs().rbx & 0x100


def test_guests_dr6_stays(machine: Machine) -> None:
    machine.load("nop; hlt", Mode.PROTECTED)
    debug(machine.vcpu, STEP)
    step(machine.vcpu)
    registers = kvm_debugregs()
    machine.vcpu.ioctl(KVM_GET_DEBUGREGS, registers)
    assert registers.dr6 == DR6


def test_port_and_memory_exits_come_before_their_step(machine: Machine) -> None:
    machine.load(f"out 0x10, al; in al, 0x11; mov [{MMIO:#x}], al; hlt", Mode.PROTECTED)
    vcpu = machine.vcpu
    debug(vcpu, STEP)
    assert vcpu.run() == kvm.KVM_EXIT_IO
    assert step(vcpu) == 2
    assert vcpu.run() == kvm.KVM_EXIT_IO
    vcpu.io_data = b"\x42"
    assert step(vcpu) == 4
    assert vcpu.run() == kvm.KVM_EXIT_MMIO
    assert vcpu.mmio_data == b"\x42"
    assert step(vcpu) == 9
    assert vcpu.run() == kvm.KVM_EXIT_HLT


def test_repeated_string_instruction_steps_by_iteration(machine: Machine) -> None:
    machine.load(f"mov edi, {DATA}; mov ecx, 3; rep stosb; hlt", Mode.PROTECTED)
    debug(machine.vcpu, STEP)
    assert [step(machine.vcpu) for _ in range(5)] == [5, 10, 10, 10, 12]


def test_step_into_a_handler(machine: Machine) -> None:
    machine.load("ud2", Mode.PROTECTED)
    machine.handle(6, "inc ebx; hlt", Mode.PROTECTED)
    debug(machine.vcpu, STEP)
    step(machine.vcpu)
    assert machine.vcpu.regs().rbx == 1


def test_stepping_ends(machine: Machine) -> None:
    machine.load("nop; nop; hlt", Mode.PROTECTED)
    debug(machine.vcpu, STEP)
    step(machine.vcpu)
    debug(machine.vcpu, kvm.KVM_GUESTDBG_SINGLESTEP)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT


def test_int3_is_the_clients(machine: Machine) -> None:
    machine.load("nop; int3; hlt", Mode.PROTECTED)
    debug(machine.vcpu, SOFTWARE)
    assert machine.vcpu.run() == kvm.KVM_EXIT_DEBUG
    assert (machine.vcpu.debug.exception, machine.vcpu.debug.pc) == (BP, CODE + 1)
    assert machine.vcpu.regs().rip == CODE + 1


@pytest.mark.parametrize("control", [0, ENABLE, HARDWARE])
def test_int3_is_the_guests_unless_the_client_wants_it(machine: Machine, control: int) -> None:
    machine.load("int3", Mode.PROTECTED)
    machine.handle(3, "mov ebx, 5; hlt", Mode.PROTECTED)
    debug(machine.vcpu, control)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 5


@pytest.mark.parametrize("number", range(4))
def test_breakpoint_stops_before_the_instruction(machine: Machine, number: int) -> None:
    machine.load("nop; nop; inc ebx; hlt", Mode.PROTECTED)
    points = tuple(CODE + 2 if point == number else 0 for point in range(4))
    debug(machine.vcpu, HARDWARE, points=points, dr7=DR7 | 2 << 2 * number)
    assert machine.vcpu.run() == kvm.KVM_EXIT_DEBUG
    found = machine.vcpu.debug
    assert (found.exception, found.pc, found.dr6) == (DB, CODE + 2, DR6 | 1 << number)
    assert machine.vcpu.regs().rbx == 0


def test_breakpoint_in_long_mode_sees_linear_addresses(machine: Machine) -> None:
    machine.load("nop; nop; hlt", Mode.LONG)
    debug(machine.vcpu, HARDWARE, points=(CODE + 1,), dr7=DR7 | 1)
    assert machine.vcpu.run() == kvm.KVM_EXIT_DEBUG
    assert machine.vcpu.debug.pc == CODE + 1


def test_data_breakpoint_stops_behind_the_instruction(machine: Machine) -> None:
    machine.load(f"mov byte ptr [{DATA:#x}], 1; nop; hlt", Mode.PROTECTED)
    debug(machine.vcpu, HARDWARE, points=(DATA,), dr7=DR7 | 1 | 1 << 16)
    assert machine.vcpu.run() == kvm.KVM_EXIT_DEBUG
    assert (machine.vcpu.debug.pc, machine.vcpu.debug.dr6) == (CODE + 7, DR6 | 1)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT


def test_access_to_debug_registers_stops_with_gd(machine: Machine) -> None:
    machine.load("nop; mov eax, dr0; hlt", Mode.PROTECTED)
    debug(machine.vcpu, HARDWARE, dr7=DR7 | GD)
    assert machine.vcpu.run() == kvm.KVM_EXIT_DEBUG
    assert (machine.vcpu.debug.pc, machine.vcpu.debug.dr6) == (CODE + 1, DR6 | BD)


def test_guests_breakpoints_do_not_count_meanwhile(machine: Machine) -> None:
    machine.load("nop; nop; hlt", Mode.PROTECTED)
    own = kvm_debugregs(dr6=DR6, dr7=DR7 | 1)
    own.db[0] = CODE + 1
    machine.vcpu.ioctl(KVM_SET_DEBUGREGS, own)
    debug(machine.vcpu, HARDWARE, dr7=DR7)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    machine.handle(1, "mov ebx, 5; hlt", Mode.PROTECTED)
    debug(machine.vcpu, 0)
    machine.vcpu.change_regs(rip=CODE)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 5


def test_interrupts_may_be_blocked_meanwhile(machine: Machine) -> None:
    machine.load("nop; nop; hlt", Mode.PROTECTED)
    machine.handle(0x40, "mov ebx, 5; hlt", Mode.PROTECTED)
    machine.vcpu.change_regs(rflags=0x202)
    machine.vcpu.ioctl(KVM_INTERRUPT, kvm_interrupt(irq=0x40))
    debug(machine.vcpu, STEP | kvm.KVM_GUESTDBG_BLOCKIRQ)
    assert [step(machine.vcpu) for _ in range(2)] == [1, 2]
    debug(machine.vcpu, 0)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 5


@pytest.mark.parametrize(
    ("control", "vector"), [(kvm.KVM_GUESTDBG_INJECT_DB, DB), (kvm.KVM_GUESTDBG_INJECT_BP, BP)]
)
def test_exception_goes_to_the_guest(machine: Machine, control: int, vector: int) -> None:
    machine.load("hlt", Mode.PROTECTED)
    machine.handle(vector, "mov ebx, 5; hlt", Mode.PROTECTED)
    debug(machine.vcpu, ENABLE | control)
    with refused(errno.EBUSY):
        debug(machine.vcpu, ENABLE | control)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 5


def test_only_a_vcpu_is_debugged(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_GUEST_DEBUG, kvm_guest_debug())
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_SET_GUEST_DEBUG, kvm_guest_debug())
