"""Which translations flush hypercalls take, seen on the TLB.

A guest reads pages, the host maps them to others behind its back, and somebody flushes. What it
reads then is old where the translation was kept and new where it was not.
"""

import struct

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.assembler import assemble
from tests.kvm import System
from tests.machine import DATA, PDPT, PML4, STACK
from tests.suspension import Partition

A, B, C = 0x4010_0000, 0x4010_1000, 0x4030_0000
"""Linear pages; the first two are neighbours, the third is in the next two MiB. B is global. None
of them has its place in the TLB where code, stack or data have theirs."""
PAGES = {"A": A, "B": B, "C": C}
DIRECTORY, TABLES = 0x60000, (0x61000, 0x62000)
OLD, NEW = 0x63000, 0x64000
GLOBAL = 1 << 8
CR4_PGE = 1 << 7
READ = f"mov r9, {A}; mov r9, [r9]; mov r10, {B}; mov r10, [r10];"
READ += f"mov r11, {C}; mov r11, [r11]; out {hv.DONE_PORT}, al"
READER = 0x3000

ALL_SPACES, NON_GLOBAL, EXTENDED = 2, 4, 8
ONE = 1 << 32


class Stale:
    """A processor that has read A, B and C, which are mapped to other pages since."""

    def __init__(self, system: System, reader: int) -> None:
        self.partition = Partition(system)
        machine = self.partition.guest.machine
        self.ram = machine.ram
        self.reader = self.partition.vcpus[reader]
        self.ram.write(READER, assemble(READ, bits=64, origin=READER))
        self.ram.write(PDPT + 8, struct.pack("<Q", DIRECTORY | 3))
        self.ram.write(DIRECTORY, struct.pack("<2Q", TABLES[0] | 3, TABLES[1] | 3))
        self.ram.write(OLD, b"\1")
        self.ram.write(NEW, b"\2")
        for vcpu in self.partition.vcpus:
            sregs = vcpu.sregs()
            sregs.cr4 |= CR4_PGE
            vcpu.set_sregs(sregs)
        self.map(OLD)
        assert self.read() == {"A": 1, "B": 1, "C": 1}
        self.map(NEW)

    def map(self, page: int) -> None:
        self.ram.write(TABLES[0] + 0x800, struct.pack("<2Q", page | 3, page | 3 | GLOBAL))
        self.ram.write(TABLES[1] + 0x800, struct.pack("<Q", page | 3))

    def read(self) -> dict[str, int]:
        self.reader.change_regs(rip=READER, rsp=STACK, rflags=2)
        assert self.reader.run() == kvm.KVM_EXIT_IO
        regs = self.reader.regs()
        return {"A": regs.r9, "B": regs.r10, "C": regs.r11}

    def taken(self) -> str:
        """The pages whose translations are gone."""
        return "".join(name for name, value in self.read().items() if value == 2)

    def flush(self, control: int, *words: int) -> None:
        """Processor 0 flushes."""
        guest = self.partition.guest
        if control & hv.FAST:
            hv.set_vectors(guest.vcpu, words[2:])
            result = guest.call(control, words[0], words[1])
        else:
            self.ram.write(DATA, struct.pack(f"<{len(words)}Q", *words))
            result = guest.call(control, DATA)
        assert result == control & 0xFFF << 32


@pytest.fixture(params=[0, 1], ids=["itself", "another"])
def stale(system: System, request: pytest.FixtureRequest) -> Stale:
    """Who flushes forgets itself, or has another one forget."""
    return Stale(system, request.param)


def test_hv_30_without_a_flush_old_translations_stay(stale: Stale) -> None:
    assert stale.taken() == ""


@pytest.mark.parametrize(("name", "page"), PAGES.items())
def test_hv_30_a_list_takes_the_pages_it_names(stale: Stale, name: str, page: int) -> None:
    stale.flush(hv.FLUSH_LIST | ONE, 0, ALL_SPACES, 0b11, page)
    assert stale.taken() == name


@pytest.mark.parametrize("fast", [0, hv.FAST], ids=["memory", "fast"])
def test_hv_30_so_do_all_forms_of_it(stale: Stale, fast: int) -> None:
    stale.flush(hv.FLUSH_LIST | fast | ONE, 0, ALL_SPACES, 0b11, A)
    assert stale.taken() == "A"
    stale.flush(hv.FLUSH_LIST_EX | fast | ONE | 1 << 17, 0, ALL_SPACES, 0, 1, 0b11, C)
    assert stale.taken() == "AC"


def test_hv_30_an_element_names_pages_that_follow(stale: Stale) -> None:
    stale.flush(hv.FLUSH_LIST | ONE, 0, ALL_SPACES, 0b11, A | 1)
    assert stale.taken() == "AB"


def test_hv_30_several_elements_name_several_pages(stale: Stale) -> None:
    stale.flush(hv.FLUSH_LIST | 3 << 32, 0, ALL_SPACES, 0b11, A, 0x1234_5000, C)
    assert stale.taken() == "AC"


def test_hv_30_processors_that_are_not_named_keep_theirs(system: System) -> None:
    stale = Stale(system, 1)
    stale.flush(hv.FLUSH_LIST | ONE, 0, ALL_SPACES, 0b101, A)
    assert stale.taken() == ""


@pytest.mark.parametrize("elements", [16, 17, 4095])
def test_hv_30_of_a_list_that_is_too_long_all_pages_are_taken(stale: Stale, elements: int) -> None:
    if elements <= 16:
        stale.flush(hv.FLUSH_LIST | elements << 32, 0, ALL_SPACES, 0b11, *[A] * elements)
        assert stale.taken() == "A"
    else:
        stale.flush(hv.FLUSH_LIST | elements << 32, 0, ALL_SPACES, 0b11, A)
        assert stale.taken() == "ABC"


def test_hv_30_more_than_a_processor_remembers_is_everything(system: System) -> None:
    stale = Stale(system, 1)
    for _ in range(17):
        stale.flush(hv.FLUSH_LIST | ONE, 0, ALL_SPACES, 0b10, 0x1234_5000)
    assert stale.taken() == "ABC"


@pytest.mark.parametrize(
    ("element", "taken"),
    [
        (A, "A"),
        (A | 1, "AB"),
        (0x4000_0000 | 1 << 11, "AB"),
        (0x4000_0000 | 1 << 11 | 1, "ABC"),
        (0x4020_0000 | 1 << 11, "C"),
        (0x4000_0000 | 1 << 11 | 1 << 12, "ABC"),
        (0x8000_0000 | 1 << 11 | 1 << 12, ""),
    ],
)
def test_hv_31_extended_elements_name_large_pages(stale: Stale, element: int, taken: str) -> None:
    stale.flush(hv.FLUSH_LIST | ONE, 0, ALL_SPACES | EXTENDED, 0b11, element)
    assert stale.taken() == taken


def test_hv_14_a_space_takes_all_its_pages(stale: Stale) -> None:
    stale.flush(hv.FLUSH_SPACE, PML4, 0, 0b11)
    assert stale.taken() == "ABC"


def test_hv_42_another_space_takes_global_pages_only(stale: Stale) -> None:
    other = PML4 ^ 0x2000
    stale.flush(hv.FLUSH_SPACE, other, NON_GLOBAL, 0b11)
    assert stale.taken() == ""
    stale.flush(hv.FLUSH_LIST | 2 << 32, other, 0, 0b11, A, C)
    assert stale.taken() == ""
    stale.flush(hv.FLUSH_SPACE, other, 0, 0b11)
    assert stale.taken() == "B"
    stale.flush(hv.FLUSH_SPACE, other, ALL_SPACES, 0b11)
    assert stale.taken() == "ABC"


def test_hv_42_two_roots_side_by_side_are_one_space(stale: Stale) -> None:
    """As Linux has them with page-table isolation, of which it names the first one."""
    stale.flush(hv.FLUSH_SPACE, PML4 ^ 0x1000, 0, 0b11)
    assert stale.taken() == "ABC"


def test_hv_14_global_pages_may_be_kept(stale: Stale) -> None:
    stale.flush(hv.FLUSH_SPACE, 0, ALL_SPACES | NON_GLOBAL, 0b11)
    assert stale.taken() == "AC"
    stale.flush(hv.FLUSH_LIST | ONE, 0, ALL_SPACES | NON_GLOBAL, 0b11, B)
    assert stale.taken() == "AC"


def test_hv_30_a_list_outside_memory_is_refused(stale: Stale) -> None:
    end = 0x80000 - 24
    stale.ram.write(end, struct.pack("<3Q", 0, ALL_SPACES, 0b11))
    guest = stale.partition.guest
    assert guest.call(hv.FLUSH_LIST | ONE, end) == hv.INVALID_INPUT
    assert stale.taken() == ""


def test_hv_22_fast_a_list_that_no_register_holds_is_refused(stale: Stale) -> None:
    guest = stale.partition.guest
    assert guest.call(hv.FLUSH_LIST | hv.FAST | 12 << 32, 0, ALL_SPACES) == hv.INVALID_INPUT
    assert guest.call(hv.FLUSH_LIST | hv.FAST | 11 << 32, 0, ALL_SPACES) == 11 << 32
