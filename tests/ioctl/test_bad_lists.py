"""Lists whose count lies, or whose entries lie nowhere: the kernel's errno, nothing is changed."""

import errno
import mmap
from dataclasses import dataclass

import pytest

from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi import limits
from tests.ioctl.rows import POINTERS, Row, Targets
from tests.kvm import PAGE_SIZE, Region, System, Vcpu, msr_table, refused
from tests.machine import Machine

pytestmark = pytest.mark.usefixtures("unchanged")

HUGE = 0xFFFF_FFFF
HALF = 1 << 31
MSR_IA32_SYSENTER_CS = 0x174


@dataclass(frozen=True)
class List:
    """How an ioctl's list is made, and what its kernel says to too many entries."""

    head: int
    """Bytes before the first entry; the count is the first four."""
    entry: int
    """Bytes of an entry."""
    longest: int | None
    """The largest count that is not refused for itself; None: the count is only room."""
    too_long: int = 0
    """The errno above that."""
    hollow: int = errno.EFAULT
    """The errno where entries cannot be read or written."""
    given: bool = False
    """Whether only the caller gives entries; else they are an answer."""
    tells: bool = False
    """Whether too little room is answered with the count that there is."""


INDEXES = List(head=4, entry=4, longest=None, tells=True)
MSRS = List(head=8, entry=16, longest=limits.MAX_IO_MSRS - 1, too_long=errno.E2BIG)
LEAVES = List(head=8, entry=40, longest=None)

LISTS = {
    "system-KVM_GET_MSR_INDEX_LIST": INDEXES,
    "system-KVM_GET_MSR_FEATURE_INDEX_LIST": INDEXES,
    "system-KVM_GET_MSRS": MSRS,
    "system-KVM_GET_SUPPORTED_CPUID": LEAVES,
    # The padding of the entries is looked at before; what cannot be read is not clean.
    "system-KVM_GET_EMULATED_CPUID": List(head=8, entry=40, longest=None, hollow=errno.EINVAL),
    "system-KVM_GET_SUPPORTED_HV_CPUID": LEAVES,
    "vm-KVM_SET_GSI_ROUTING": List(
        head=8,
        entry=48,
        longest=limits.KVM_MAX_IRQ_ROUTES,
        too_long=errno.EINVAL,
        given=True,
    ),
    "vcpu-KVM_GET_MSRS": MSRS,
    "vcpu-KVM_SET_MSRS": List(
        head=8, entry=16, longest=MSRS.longest, too_long=errno.E2BIG, given=True
    ),
    "vcpu-KVM_SET_CPUID": List(
        head=8,
        entry=24,
        longest=limits.KVM_MAX_CPUID_ENTRIES,
        too_long=errno.E2BIG,
        given=True,
    ),
    "vcpu-KVM_SET_CPUID2": List(
        head=8,
        entry=40,
        longest=limits.KVM_MAX_CPUID_ENTRIES,
        too_long=errno.E2BIG,
        given=True,
    ),
    "vcpu-KVM_GET_CPUID2": LEAVES,
    "vcpu-KVM_GET_SUPPORTED_HV_CPUID": LEAVES,
}

ROWS = [row for row in POINTERS if row.is_list]
BOUNDED = [row for row in ROWS if LISTS[row.label].longest is not None]
ROOMY = [row for row in ROWS if LISTS[row.label].longest is None]
ANSWERING = [row for row in ROWS if not LISTS[row.label].given]

every_list = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
every_answer = pytest.mark.parametrize("row", ROOMY, ids=lambda row: row.label)


def count_of(row: Row) -> int:
    """A count that the ioctl takes, with entries to read or write."""
    return LISTS[row.label].longest or limits.KVM_MAX_CPUID_ENTRIES


def place(memory: Region, offset: int, count: int) -> int:
    """A list's head with this count and zeros behind it; its address."""
    memory.write(offset, count.to_bytes(4, "little"))
    return memory.address + offset


def number_of_entries(targets: Targets, memory: Region, row: Row) -> int:
    """How many entries an ioctl answers with; leaves the memory zeroed."""
    targets.call(row, place(memory, 0, limits.KVM_MAX_CPUID_ENTRIES))
    there = count_at(memory)
    memory.write(0, bytes(memory.size))
    return there


def count_at(memory: Region) -> int:
    return int.from_bytes(memory.read(0, 4), "little")


@pytest.mark.parametrize("row", BOUNDED, ids=lambda row: row.label)
@pytest.mark.parametrize("count", ["one more", "half", "huge"])
def test_count_that_is_too_large(targets: Targets, memory: Region, row: Row, count: str) -> None:
    shape = LISTS[row.label]
    assert shape.longest is not None
    counts = {"one more": shape.longest + 1, "half": HALF, "huge": HUGE}
    with refused(shape.too_long):
        targets.call(row, place(memory, 0, counts[count]))


@pytest.mark.parametrize("row", BOUNDED, ids=lambda row: row.label)
def test_count_is_refused_before_the_entries_are_read(
    targets: Targets, hole: Region, row: Row
) -> None:
    shape = LISTS[row.label]
    with refused(shape.too_long):
        targets.call(row, place(hole, hole.size // 2 - shape.head, HUGE))


@pytest.mark.parametrize("count", [HALF, HUGE], ids=hex)
@every_answer
def test_more_room_than_there_is_memory(
    targets: Targets, memory: Region, row: Row, count: int
) -> None:
    assert targets.call(row, place(memory, 0, count)) == 0


@every_answer
def test_just_enough_room(targets: Targets, memory: Region, row: Row) -> None:
    there = number_of_entries(targets, memory, row)
    assert targets.call(row, place(memory, 0, there)) == 0
    assert count_at(memory) == there


@every_answer
@pytest.mark.parametrize("room", ["none", "one too few"])
def test_too_little_room(targets: Targets, memory: Region, row: Row, room: str) -> None:
    there = number_of_entries(targets, memory, row)
    count = {"none": 0, "one too few": there - 1}[room]
    with refused(errno.E2BIG):
        targets.call(row, place(memory, 0, count))
    assert count_at(memory) == (there if LISTS[row.label].tells else count)
    assert not any(memory.read(LISTS[row.label].head, memory.size // 2))


@pytest.mark.parametrize("row", BOUNDED, ids=lambda row: row.label)
def test_list_of_nothing_is_taken(system: System, memory: Region, row: Row) -> None:
    targets = Targets(system, Machine.of(system, controllers=True))
    assert targets.call(row, place(memory, 0, 0)) == 0


@every_list
def test_entries_that_are_nowhere(targets: Targets, hole: Region, row: Row) -> None:
    shape = LISTS[row.label]
    with refused(shape.hollow):
        targets.call(row, place(hole, hole.size // 2 - shape.head, count_of(row)))


@every_list
def test_entry_that_is_half_mapped(targets: Targets, hole: Region, row: Row) -> None:
    shape = LISTS[row.label]
    offset = hole.size // 2 - shape.head - shape.entry // 2
    with refused(shape.hollow):
        targets.call(row, place(hole, offset, count_of(row)))


@pytest.mark.parametrize("row", ANSWERING, ids=lambda row: row.label)
def test_entries_in_read_only_memory(targets: Targets, memory: Region, row: Row) -> None:
    address = place(memory, PAGE_SIZE - LISTS[row.label].head, count_of(row))
    memory.protect(mmap.PROT_READ, offset=PAGE_SIZE, size=memory.size - PAGE_SIZE)
    with refused(errno.EFAULT):
        targets.call(row, address)


def test_no_msr_is_set_if_one_cannot_be_read(vcpu: Vcpu, hole: Region) -> None:
    vcpu.set_msrs([(MSR_IA32_SYSENTER_CS, 1)])
    table = msr_table([(MSR_IA32_SYSENTER_CS, 2)], nmsrs=2)
    offset = hole.size // 2 - len(table)
    hole.write(offset, bytes(table))
    with refused(errno.EFAULT):
        vcpu.ioctl(nr.KVM_SET_MSRS, hole.address + offset)
    assert vcpu.msrs([MSR_IA32_SYSENTER_CS]) == [1]


def test_every_list_is_known() -> None:
    assert {row.label for row in ROWS} == LISTS.keys()
