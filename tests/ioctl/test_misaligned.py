"""Structures at odd addresses: the same as at even ones. And what an ioctl only reads may lie in
memory that cannot be written."""

import mmap

import pytest

from tests.ioctl.rows import ANSWERS, MOMENTS, POINTERS, Row, Targets
from tests.kvm import PAGE_SIZE, Region, System
from tests.machine import Machine

READ = mmap.PROT_READ
BOTH = mmap.PROT_READ | mmap.PROT_WRITE
GIVEN_LISTS = {"writes_msrs", "takes_cpuid", "takes_routing"}

ONLY_READ = [
    row
    for row in POINTERS
    if row.shape_name not in ANSWERS and (not row.is_list or row.shape_name in GIVEN_LISTS)
]


def shown(system: System, row: Row, offset: int = 0, protection: int = BOTH) -> object:
    """All that a fresh machine shows of the ioctl, with its structure at `offset`."""
    memory = Region(4 * PAGE_SIZE)
    system.owned.callback(memory.close)
    targets = Targets(system, Machine.of(system, controllers=True))
    image = targets.image_for(row)
    memory.write(offset, image)
    memory.protect(protection, offset=0, size=memory.size)
    result = targets.outcome(row, memory.address + offset)
    answer = b"" if row.name in MOMENTS else memory.read(offset, len(image))
    return result, answer, targets.state()


@pytest.mark.parametrize("offset", [1, 7])
@pytest.mark.parametrize("row", POINTERS, ids=lambda row: row.label)
def test_odd_address(system: System, row: Row, offset: int) -> None:
    assert shown(system, row, offset) == shown(system, row)


@pytest.mark.parametrize("row", ONLY_READ, ids=lambda row: row.label)
def test_structure_that_cannot_be_written(system: System, row: Row) -> None:
    assert shown(system, row, protection=READ) == shown(system, row)
