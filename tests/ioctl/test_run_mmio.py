"""KVM_RUN, MMIO exits: accesses to guest-physical memory that no slot backs."""

import errno

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT, KVM_EXIT_MMIO
from tests.kvm import refused
from tests.machine import CODE, DATA, MMIO, RAM_SIZE, Machine, Mode

FLAT = [Mode.PROTECTED, Mode.LONG]
ACCUMULATOR = {1: "al", 2: "ax", 4: "eax"}


def reported(machine: Machine) -> tuple[int, int, int]:
    mmio = machine.vcpu.mmio
    return mmio.phys_addr, mmio.len, mmio.is_write


@pytest.mark.parametrize("mode", FLAT)
@pytest.mark.parametrize("size", ACCUMULATOR)
def test_write_reports_address_and_data(machine: Machine, size: int, mode: Mode) -> None:
    machine.load(f"mov eax, 0x11223344; mov [{MMIO + 3}], {ACCUMULATOR[size]}; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO + 3, size, 1)
    assert machine.vcpu.mmio_data == b"\x44\x33\x22\x11"[:size]
    assert machine.vcpu.run() == KVM_EXIT_HLT


@pytest.mark.parametrize(
    ("size", "result"), [(1, 0x1122_33AA), (2, 0x1122_BBAA), (4, 0xDDCC_BBAA)], ids=["1", "2", "4"]
)
@pytest.mark.parametrize("mode", FLAT)
def test_read_gets_the_clients_data(machine: Machine, size: int, result: int, mode: Mode) -> None:
    machine.load(f"mov eax, 0x11223344; mov {ACCUMULATOR[size]}, [{MMIO}]; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO, size, 0)
    machine.vcpu.mmio_data = b"\xaa\xbb\xcc\xdd"[:size]
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == result


def test_real_mode_reaches_the_hole_below_1_mib(machine: Machine) -> None:
    machine.load("mov ax, 0xa000; mov es, ax; mov byte ptr es:[5], 0x77; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO + 5, 1, 1)


def test_eight_bytes_are_one_access_in_long_mode(machine: Machine) -> None:
    machine.load(f"mov rax, [{MMIO}]; mov [{MMIO + 8}], rax; hlt", Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO, 8, 0)
    machine.vcpu.mmio_data = bytes(range(8))
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO + 8, 8, 1)
    assert machine.vcpu.mmio_data == bytes(range(8))


def test_read_modify_write_is_a_read_and_a_write(machine: Machine) -> None:
    machine.load(f"add dword ptr [{MMIO}], 5; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO, 4, 0)
    machine.vcpu.mmio_data = (37).to_bytes(4, "little")
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (MMIO, 4, 1)
    assert machine.vcpu.mmio_data == (42).to_bytes(4, "little")
    assert machine.vcpu.run() == KVM_EXIT_HLT


def test_exit_of_a_read_comes_before_the_instruction_ends(machine: Machine) -> None:
    machine.load(f"mov eax, [{MMIO}]; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    assert machine.vcpu.regs().rip == CODE


def test_exit_of_a_write_comes_after_the_instruction_ended(machine: Machine) -> None:
    machine.load(f"mov [{MMIO}], eax; after: mov ebx, offset after; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    at_exit = machine.vcpu.regs().rip
    machine.vcpu.run()
    assert at_exit == machine.vcpu.regs().rbx


def test_write_over_the_end_of_memory_is_split(machine: Machine) -> None:
    machine.load(f"mov dword ptr [{RAM_SIZE - 2}], 0x11223344; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (RAM_SIZE, 2, 1)
    assert machine.vcpu.mmio_data == b"\x22\x11"
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.ram.read(RAM_SIZE - 2, 2) == b"\x44\x33"


def test_read_over_the_end_of_memory_is_put_together(machine: Machine) -> None:
    machine.ram.write(RAM_SIZE - 2, b"\x11\x22")
    machine.load(f"mov eax, [{RAM_SIZE - 2}]; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert reported(machine) == (RAM_SIZE, 2, 0)
    machine.vcpu.mmio_data = b"\x33\x44"
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 0x4433_2211


def test_access_over_a_page_end_is_two_exits(machine: Machine) -> None:
    machine.load(f"mov eax, [{MMIO + 0xFFE}]; hlt", Mode.PROTECTED)
    exits = []
    for data in (b"\x11\x22", b"\x33\x44"):
        assert machine.vcpu.run() == KVM_EXIT_MMIO
        exits.append(reported(machine))
        machine.vcpu.mmio_data = data
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert exits == [(MMIO + 0xFFE, 2, 0), (MMIO + 0x1000, 2, 0)]
    assert machine.vcpu.regs().rax == 0x4433_2211


def test_string_move_reads_one_element_at_a_time(machine: Machine) -> None:
    machine.load(
        f"mov esi, {MMIO}; mov edi, {DATA}; mov ecx, 3; cld; rep movsd; hlt", Mode.PROTECTED
    )
    addresses = []
    while machine.vcpu.run() == KVM_EXIT_MMIO:
        addresses.append(machine.vcpu.mmio.phys_addr)
        machine.vcpu.mmio_data = bytes([len(addresses)] * 4)
    assert addresses == [MMIO, MMIO + 4, MMIO + 8]
    assert machine.ram.read(DATA, 12) == b"\1\1\1\1\2\2\2\2\3\3\3\3"


def test_push_of_a_device_word_reads_it_once(machine: Machine) -> None:
    machine.load(f"push dword ptr [{MMIO}]; pop eax; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    machine.vcpu.mmio_data = b"\x0d\xf0\x0d\x60"
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 0x600D_F00D


def test_immediate_exit_ends_a_pending_read(machine: Machine) -> None:
    machine.load(f"mov eax, [{MMIO}]; mov ebx, 1; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    machine.vcpu.mmio_data = b"\x0d\xf0\x0d\x60"
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert machine.vcpu.state.exit_reason == KVM_EXIT_MMIO
    assert (regs.rax, regs.rbx) == (0x600D_F00D, 0)
