"""KVM_RUN, port exits: what is reported, when the instruction ends, strings in batches."""

import errno

import pytest

from kvmshim.abi.constants_gen import (
    KVM_EXIT_HLT,
    KVM_EXIT_IO,
    KVM_EXIT_IO_IN,
    KVM_EXIT_IO_OUT,
)
from tests.kvm import PAGE_SIZE, Vcpu, refused
from tests.machine import CODE, DATA, Machine, Mode

ACCUMULATOR = {1: "al", 2: "ax", 4: "eax"}
SUFFIX = {1: "b", 2: "w", 4: "d"}
IMMEDIATE_PORT_LENGTH = 2  # of `in al, 0x10` and of `out 0x10, al`


def drain_out(vcpu: Vcpu) -> bytes:
    """All that a guest writes to ports until it halts."""
    written = b""
    while vcpu.run() == KVM_EXIT_IO:
        written += vcpu.io_data
    return written


def feed_in(vcpu: Vcpu, data: bytes) -> list[int]:
    """Answers all INs of a guest from `data` until it halts; the counts of the exits."""
    counts = []
    while vcpu.run() == KVM_EXIT_IO:
        size = vcpu.io.size * vcpu.io.count
        vcpu.io_data, data = data[:size], data[size:]
        counts.append(vcpu.io.count)
    return counts


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("size", ACCUMULATOR)
def test_out_reports_port_size_and_data(machine: Machine, size: int, mode: Mode) -> None:
    machine.load(f"mov eax, 0x11223344; mov dx, 0xfedc; out dx, {ACCUMULATOR[size]}; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_IO
    io = machine.vcpu.io
    assert (io.direction, io.port, io.size, io.count) == (KVM_EXIT_IO_OUT, 0xFEDC, size, 1)
    assert machine.vcpu.io_data == b"\x44\x33\x22\x11"[:size]


def test_port_data_lies_in_the_second_page(machine: Machine) -> None:
    machine.load("out 0x10, al; hlt", Mode.REAL)
    machine.vcpu.run()
    assert machine.vcpu.io.data_offset == PAGE_SIZE


def test_port_data_beyond_the_size_is_zero(machine: Machine) -> None:
    machine.load("mov eax, 0x11223344; out 0x10, ax; hlt", Mode.REAL)
    machine.vcpu.run()
    machine.vcpu.io.size = 4
    assert machine.vcpu.io_data == b"\x44\x33\x00\x00"


@pytest.mark.parametrize("direction", ["out 0x10, al", "in al, 0x10"])
def test_instruction_is_not_over_at_the_exit(machine: Machine, direction: str) -> None:
    machine.load(f"{direction}; hlt", Mode.REAL)
    machine.vcpu.run()
    assert machine.vcpu.regs().rip == CODE


def test_out_ends_at_the_next_run(machine: Machine) -> None:
    machine.load("out 0x10, al; hlt", Mode.REAL)
    machine.vcpu.run()
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rip == CODE + IMMEDIATE_PORT_LENGTH + 1


def test_rip_set_by_the_client_at_an_exit_is_where_the_guest_goes_on(machine: Machine) -> None:
    machine.load("out 0x10, al; ud2; hlt; mov bl, 7; hlt", Mode.REAL)
    machine.vcpu.run()
    machine.vcpu.change_regs(rip=CODE + IMMEDIATE_PORT_LENGTH + 3)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 7


@pytest.mark.parametrize(
    ("size", "result"), [(1, 0x1122_33AA), (2, 0x1122_BBAA), (4, 0xDDCC_BBAA)], ids=["1", "2", "4"]
)
@pytest.mark.parametrize("mode", Mode)
def test_in_fills_the_accumulator(machine: Machine, size: int, result: int, mode: Mode) -> None:
    machine.load(f"mov eax, 0x11223344; in {ACCUMULATOR[size]}, 0x10; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_IO
    io = machine.vcpu.io
    assert (io.direction, io.port, io.size, io.count) == (KVM_EXIT_IO_IN, 0x10, size, 1)
    machine.vcpu.io_data = b"\xaa\xbb\xcc\xdd"[:size]
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == result


def test_wide_in_clears_the_upper_half_in_long_mode(machine: Machine) -> None:
    machine.load("mov rax, -1; in eax, 0x10; hlt", Mode.LONG)
    feed_in(machine.vcpu, b"\1\0\0\0")
    assert machine.vcpu.regs().rax == 1


def test_registers_are_old_until_an_in_is_answered(machine: Machine) -> None:
    machine.load("mov al, 0x55; in al, 0x10; hlt", Mode.REAL)
    machine.vcpu.run()
    assert machine.vcpu.regs().rax & 0xFF == 0x55


def test_immediate_exit_ends_a_pending_in(machine: Machine) -> None:
    machine.load("in al, 0x10; mov bl, 1; hlt", Mode.REAL)
    machine.vcpu.run()
    machine.vcpu.io_data = b"\x5a"
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert machine.vcpu.state.exit_reason == KVM_EXIT_IO
    assert (regs.rax & 0xFF, regs.rbx, regs.rip) == (0x5A, 0, CODE + IMMEDIATE_PORT_LENGTH)


def test_immediate_exit_ends_a_pending_out(machine: Machine) -> None:
    machine.load("out 0x10, al; hlt", Mode.REAL)
    machine.vcpu.run()
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    assert machine.vcpu.state.exit_reason == KVM_EXIT_IO
    assert machine.vcpu.regs().rip == CODE + IMMEDIATE_PORT_LENGTH


def test_guest_goes_on_after_an_immediate_exit(machine: Machine) -> None:
    machine.load("in al, 0x10; mov bl, 1; hlt", Mode.REAL)
    machine.vcpu.run()
    machine.vcpu.io_data = b"\x5a"
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    machine.vcpu.state.immediate_exit = 0
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rax & 0xFF, machine.vcpu.regs().rbx) == (0x5A, 1)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("size", SUFFIX)
def test_rep_outs_writes_the_string(machine: Machine, size: int, mode: Mode) -> None:
    text = bytes(range(96))
    machine.ram.write(DATA, text)
    machine.load(
        f"mov esi, {DATA}; mov ecx, {96 // size}; mov dx, 0x10; cld; rep outs{SUFFIX[size]}; hlt",
        mode,
    )
    assert drain_out(machine.vcpu) == text
    assert (machine.vcpu.regs().rcx, machine.vcpu.regs().rsi) == (0, DATA + 96)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("size", SUFFIX)
def test_rep_ins_reads_the_string(machine: Machine, size: int, mode: Mode) -> None:
    text = bytes(range(96))
    machine.load(
        f"mov edi, {DATA}; mov ecx, {96 // size}; mov dx, 0x10; cld; rep ins{SUFFIX[size]}; hlt",
        mode,
    )
    feed_in(machine.vcpu, text)
    assert machine.ram.read(DATA, 96) == text
    assert (machine.vcpu.regs().rcx, machine.vcpu.regs().rdi) == (0, DATA + 96)


def test_ins_comes_in_batches_of_1024_bytes(machine: Machine) -> None:
    machine.load(f"mov edi, {DATA}; mov ecx, 750; mov dx, 0x10; cld; rep insd; hlt", Mode.PROTECTED)
    text = bytes(range(250)) * 12
    assert feed_in(machine.vcpu, text) == [256, 256, 238]
    assert machine.ram.read(DATA, 3000) == text


def test_batch_of_ins_ends_with_the_page(machine: Machine) -> None:
    start = DATA + PAGE_SIZE - 16
    machine.load(f"mov edi, {start}; mov ecx, 64; mov dx, 0x10; cld; rep insb; hlt", Mode.PROTECTED)
    assert feed_in(machine.vcpu, bytes(range(64))) == [16, 48]
    assert machine.ram.read(start, 64) == bytes(range(64))


def test_ins_runs_downwards_with_the_direction_flag(machine: Machine) -> None:
    machine.load(f"mov edi, {DATA + 7}; mov ecx, 8; mov dx, 0x10; std; rep insb; hlt", Mode.REAL)
    feed_in(machine.vcpu, bytes(range(8)))
    assert machine.ram.read(DATA, 8) == bytes(reversed(range(8)))


def test_outs_runs_downwards_with_the_direction_flag(machine: Machine) -> None:
    machine.ram.write(DATA, bytes(range(8)))
    machine.load(f"mov esi, {DATA + 7}; mov ecx, 8; mov dx, 0x10; std; rep outsb; hlt", Mode.REAL)
    assert drain_out(machine.vcpu) == bytes(reversed(range(8)))


@pytest.mark.parametrize("instruction", ["insb", "outsb"])
def test_string_of_no_elements_does_not_exit(machine: Machine, instruction: str) -> None:
    machine.load(f"xor ecx, ecx; mov dx, 0x10; rep {instruction}; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT


def test_immediate_exit_ends_the_batch_of_a_pending_ins(machine: Machine) -> None:
    machine.load(f"mov edi, {DATA}; mov ecx, 8; mov dx, 0x10; cld; rep insb; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    machine.vcpu.io_data = bytes(range(8))
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    assert (machine.ram.read(DATA, 8), machine.vcpu.regs().rcx) == (bytes(range(8)), 0)
