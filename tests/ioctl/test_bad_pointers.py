"""Pointers that lead nowhere: EFAULT from every ioctl that takes one, and nothing is changed."""

import errno
import mmap

import pytest

from tests.ioctl.rows import ANSWERS, POINTERS, STRUCTURES, Row, Targets, half_mapped
from tests.kvm import PAGE_SIZE, Region, refused

NOWHERE = {
    "null": 0,
    "first page": 8,
    "non-canonical": 1 << 60,
    "kernel half": 0xFFFF_8000_0000_0000,
    "last byte": (1 << 64) - 1,
}

NO_ANSWER = {
    "KVM_CLEAR_DIRTY_LOG": "is _IOWR in the header, and only reads",
    "KVM_CREATE_GUEST_MEMFD": "is _IOWR in the header, and answers with a descriptor",
    "KVM_CREATE_DEVICE": "is _IOWR in the header, and finds no device",
    "KVM_SET_PIT": "is _IOR in the header, and only reads",
    "KVM_SET_IRQCHIP": "is _IOR in the header, and only reads",
}
"""Ioctls whose number says that they write to the caller, and why they do not."""

ANSWERING = [row for row in STRUCTURES if row.reads and row.name not in NO_ANSWER]

every_pointer = pytest.mark.parametrize("row", POINTERS, ids=lambda row: row.label)
every_structure = pytest.mark.parametrize("row", STRUCTURES, ids=lambda row: row.label)
every_answer = pytest.mark.parametrize("row", ANSWERING, ids=lambda row: row.label)


pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.mark.parametrize("address", NOWHERE.values(), ids=NOWHERE)
@every_pointer
def test_pointer_to_nowhere(targets: Targets, row: Row, address: int) -> None:
    with refused(errno.EFAULT):
        targets.call(row, address)


@every_pointer
def test_page_that_may_not_be_touched(targets: Targets, hole: Region, row: Row) -> None:
    with refused(errno.EFAULT):
        targets.call(row, hole.address + hole.size // 2)


@every_pointer
def test_page_that_is_not_mapped(targets: Targets, row: Row) -> None:
    region = Region(16 * PAGE_SIZE)
    region.close()
    with refused(errno.EFAULT):
        targets.call(row, region.address)


@every_structure
def test_structure_whose_first_byte_is_mapped(targets: Targets, hole: Region, row: Row) -> None:
    with refused(errno.EFAULT):
        targets.call(row, half_mapped(hole, row.size, 1))


@every_structure
def test_structure_whose_first_half_is_mapped(targets: Targets, hole: Region, row: Row) -> None:
    with refused(errno.EFAULT):
        targets.call(row, half_mapped(hole, row.size, row.size // 2))


@every_structure
def test_structure_whose_last_byte_is_not_mapped(targets: Targets, hole: Region, row: Row) -> None:
    with refused(errno.EFAULT):
        targets.call(row, half_mapped(hole, row.size, row.size - 1))


@every_answer
def test_answer_into_read_only_memory(targets: Targets, memory: Region, row: Row) -> None:
    memory.protect(mmap.PROT_READ, offset=0, size=memory.size)
    with refused(errno.EFAULT):
        targets.call(row, memory.address)


@every_answer
def test_answer_whose_last_byte_is_read_only(targets: Targets, memory: Region, row: Row) -> None:
    memory.protect(mmap.PROT_READ, offset=PAGE_SIZE, size=PAGE_SIZE)
    with refused(errno.EFAULT):
        targets.call(row, memory.address + PAGE_SIZE + 1 - row.size)


def test_every_ioctl_that_answers_is_known() -> None:
    """A new shape that writes to the caller has to be named."""
    assert {row.shape_name for row in ANSWERING} <= ANSWERS
