"""Hyper-V's hypercalls that have processors forget translations.

One processor changes what a page is mapped to and flushes; another one reads that page meanwhile.
What is read after the flush is what is there after the change.
"""

import struct
import threading
from dataclasses import dataclass

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import Guest
from tests.kvm import System, Vcpu
from tests.machine import CODE, DATA, PDPT, RAM_SIZE, STACK, Mode

ROUNDS = 40
PAGE = 0x4000_0000
"""Guest-linear; `ENTRY` maps it."""
DIRECTORY, TABLE = 0x60000, 0x61000
ENTRY = TABLE
PAGES = 0x62000
"""Two of them, mapped in turn; each holds the round that it was last mapped in."""
CONTROL, FIRST, SECOND, VECTORS = DATA, DATA + 8, DATA + 16, DATA + 32
EXPECTED, ROUND, READS, STOP = DATA + 64, DATA + 128, DATA + 192, DATA + 256
INPUT = DATA + 512
READER = 0x3000
OTHER_STACK = STACK - 0x800
GOOD, BAD = 0x55, 0x66
CR4_OSFXSR = 1 << 9

READ = f"""
again:
    mov rbx, [{ROUND}]
    mov rdx, {PAGE}
    mov rax, [rdx]
    cmp rax, rbx
    jb bad
    inc qword ptr [{READS}]
    cmp qword ptr [{STOP}], 0
    je again
    out {GOOD}, al
bad:
    mov qword ptr [{STOP}], 1
    out {BAD}, al
"""


def flush(call: str) -> str:
    return f"""
    mov r12, 1
round:
    mov rax, r12
    and rax, 1
    shl rax, 12
    add rax, {PAGES}
    mov [rax], r12
    or rax, 3
    mov [{ENTRY}], rax
    mov rcx, [{CONTROL}]
    mov rdx, [{FIRST}]
    mov r8, [{SECOND}]
    movups xmm0, [{VECTORS}]
    movups xmm1, [{VECTORS} + 16]
    {call}
    cmp rax, [{EXPECTED}]
    jne bad
    mov [{ROUND}], r12
    mov r13, [{READS}]
wait:
    cmp qword ptr [{STOP}], 0
    jne bad
    pause
    cmp [{READS}], r13
    je wait
    inc r12
    cmp r12, {ROUNDS}
    jbe round
    mov qword ptr [{STOP}], 1
    out {GOOD}, al
bad:
    mov qword ptr [{STOP}], 1
    out {BAD}, al
"""


@dataclass(frozen=True)
class Form:
    """A hypercall that reaches processor 1."""

    control: int
    memory: tuple[int, ...] = ()
    words: tuple[int, int] = (0, 0)
    vectors: tuple[int, ...] = ()

    @property
    def expected(self) -> int:
        return self.control & 0xFFF << 32


ALL, ALL_SPACES = 1, 2
FORMS = {
    "space": Form(hv.FLUSH_SPACE, (0, ALL_SPACES, 0b10)),
    "space_all": Form(hv.FLUSH_SPACE, (0, ALL | ALL_SPACES, 0)),
    "space_nobody_is_all": Form(hv.FLUSH_SPACE, (0, ALL_SPACES, 0)),
    "space_fast": Form(hv.FLUSH_SPACE | hv.FAST, (), (0, ALL_SPACES), (0b10,)),
    "list": Form(hv.FLUSH_LIST | 2 << 32, (0, ALL_SPACES, 0b10, PAGE, 0x1000)),
    "list_fast": Form(hv.FLUSH_LIST | hv.FAST | 1 << 32, (), (0, ALL_SPACES), (0b10, PAGE)),
    "space_ex": Form(hv.FLUSH_SPACE_EX | 1 << 17, (0, ALL_SPACES, 0, 1, 0b10)),
    "space_ex_all": Form(hv.FLUSH_SPACE_EX, (0, ALL_SPACES, 1, 0)),
    "space_ex_fast": Form(hv.FLUSH_SPACE_EX | hv.FAST | 1 << 17, (), (0, ALL_SPACES), (0, 1, 0b10)),
    "list_ex": Form(hv.FLUSH_LIST_EX | 1 << 17 | 1 << 32, (0, ALL_SPACES, 0, 1, 0b10, PAGE)),
    "list_ex_fast": Form(
        hv.FLUSH_LIST_EX | hv.FAST | 1 << 17 | 1 << 32, (), (0, ALL_SPACES), (0, 1, 0b10, PAGE)
    ),
}


def prepare(guest: Guest, system: System) -> Vcpu:
    """Maps PAGE; the processor that reads it."""
    machine = guest.machine
    machine.ram.write(CODE, assemble(flush(hv.call_instruction(system)), bits=64, origin=CODE))
    machine.ram.write(READER, assemble(READ, bits=64, origin=READER))
    machine.ram.write(PDPT + 8, struct.pack("<Q", DIRECTORY | 3))
    machine.ram.write(DIRECTORY, struct.pack("<Q", TABLE | 3))
    machine.ram.write(ENTRY, struct.pack("<Q", PAGES | 3))
    sregs = machine.vcpu.sregs()
    sregs.cr4 |= CR4_OSFXSR
    machine.vcpu.set_sregs(sregs)
    reader = machine.vm.create_vcpu(1)
    reader.set_cpuid(hv.cpuid_of_guest(system, reader))
    reader.set_sregs(sregs)
    reader.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    machine.vcpu.change_regs(rip=CODE, rsp=STACK, rflags=2)
    reader.change_regs(rip=READER, rsp=OTHER_STACK, rflags=2)
    return reader


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_hv_14_what_is_read_after_a_flush_is_new(system: System, form: Form) -> None:
    guest = Guest.introduced(system, controllers=True)
    reader = prepare(guest, system)
    first, second = form.words if form.control & hv.FAST else (INPUT, 0)
    words = struct.pack("<3Q", form.control, first, second)
    guest.machine.ram.write(CONTROL, words)
    guest.machine.ram.write(VECTORS, struct.pack("<4Q", *(*form.vectors, 0, 0, 0, 0)[:4]))
    guest.machine.ram.write(EXPECTED, struct.pack("<Q", form.expected))
    guest.machine.ram.write(INPUT, struct.pack(f"<{len(form.memory)}Q", *form.memory))
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    finally:
        guest.machine.ram.write(STOP, b"\1")
        thread.join()
    assert (guest.vcpu.io.port, reader.io.port) == (GOOD, GOOD)
    assert guest.machine.peek(ROUND) == ROUNDS


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.introduced(system)


def test_hv_14_the_result_says_that_the_list_is_done(guest: Guest) -> None:
    for reps in (1, 4095):
        assert guest.call(hv.FLUSH_LIST | reps << 32, DATA) == reps << 32


@pytest.mark.parametrize("code", [hv.FLUSH_LIST, hv.FLUSH_LIST_EX])
def test_hv_14_a_list_begins_with_its_first_element(guest: Guest, code: int) -> None:
    assert guest.call(code, DATA) == hv.INVALID_INPUT
    assert guest.call(code | 2 << 32 | 1 << 48, DATA) == hv.INVALID_INPUT


def test_hv_14_a_space_has_no_elements(guest: Guest) -> None:
    for code in (hv.FLUSH_SPACE, hv.FLUSH_SPACE_EX):
        assert guest.call(code | 1 << 32, DATA) == hv.INVALID_INPUT


@pytest.mark.parametrize("count", [0, 2, 65, 0x3FF])
def test_hv_14_a_wrong_number_of_words_is_refused(guest: Guest, count: int) -> None:
    guest.machine.ram.write(DATA, struct.pack("<5Q", 0, ALL_SPACES, 0, 1, 1))
    assert guest.call(hv.FLUSH_SPACE_EX | count << 17, DATA) == hv.INVALID_INPUT


def test_hv_14_input_outside_memory_is_refused(guest: Guest) -> None:
    for code in (hv.FLUSH_SPACE, hv.FLUSH_SPACE_EX, hv.FLUSH_LIST | 1 << 32):
        assert guest.call(code, RAM_SIZE) == hv.INVALID_INPUT
        assert guest.call(code, (1 << 64) - 8) == hv.INVALID_INPUT


def test_hv_14_two_that_flush_each_other_go_on(system: System) -> None:
    """Each waits for the other to forget."""
    guest = Guest.introduced(system, controllers=True, mode=Mode.LONG)
    call = hv.call_instruction(system)
    arguments = f"mov rcx, {hv.FLUSH_SPACE}; mov rdx, {INPUT}"
    source = f"again: {arguments}; {call}; dec rbx; jnz again; out {GOOD}, al"
    guest.machine.ram.write(INPUT, struct.pack("<3Q", 0, ALL | ALL_SPACES, 0))
    other = prepare(guest, system)
    guest.machine.ram.write(CODE, assemble(source, bits=64, origin=CODE))
    vcpus = [guest.vcpu, other]
    for vcpu, stack in zip(vcpus, (STACK, OTHER_STACK), strict=True):
        vcpu.change_regs(rip=CODE, rsp=stack, rbx=300)
    thread = threading.Thread(target=other.run)
    thread.start()
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    thread.join()
    assert [vcpu.io.port for vcpu in vcpus] == [GOOD, GOOD]
