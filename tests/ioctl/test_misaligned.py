"""Structures at odd addresses: the same as at even ones."""

import pytest

from tests.ioctl.rows import MOMENTS, POINTERS, STATE, Row, Targets
from tests.kvm import PAGE_SIZE, Region, System
from tests.machine import Machine

IMAGES = {row.label: row for row in STATE}


def image_for(row: Row, targets: Targets) -> bytes:
    """What the ioctl's GET tells, where it has one; else zeros."""
    getter = IMAGES.get(row.label.replace("_SET_", "_GET_"))
    return targets.image(getter)[1] if getter else bytes(PAGE_SIZE)


def outcome(system: System, memory: Region, row: Row, offset: int) -> object:
    """All that a fresh machine shows of the ioctl, with its structure at `offset`."""
    targets = Targets(system, Machine.of(system, controllers=True))
    image = image_for(row, targets)
    memory.write(offset, image)
    result = targets.outcome(row, memory.address + offset)
    answer = b"" if row.name in MOMENTS else memory.read(offset, len(image))
    return result, answer, targets.state()


@pytest.mark.parametrize("row", POINTERS, ids=lambda row: row.label)
def test_odd_address(system: System, row: Row) -> None:
    shown = []
    for offset in (0, 1, 7):
        memory = Region(4 * PAGE_SIZE)
        system.owned.callback(memory.close)
        shown.append(outcome(system, memory, row, offset))
    assert shown[1] == shown[0]
    assert shown[2] == shown[0]
