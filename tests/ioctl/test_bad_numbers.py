"""Numbers that are nearly right: known to another kind of file, or of another size or direction.

Each answers as a number that nobody knows.
"""

import errno

import pytest

from kvmshim.abi import ioctls_gen as nr
from tests.ioctl.rows import KINDS, NAMES, ROWS, Row, Targets
from tests.kvm import Region, refused

pytestmark = pytest.mark.usefixtures("unchanged")

UNKNOWN = {"system": errno.EINVAL, "vm": errno.ENOTTY, "vcpu": errno.EINVAL}
KNOWN = {kind: {row.number for row in ROWS if row.kind == kind} for kind in KINDS.values()}
KNOWN["vcpu"].add(nr.KVM_RUN)

ELSEWHERE = [(kind, number) for kind in UNKNOWN for number in NAMES if number not in KNOWN[kind]]


def with_size(number: int, size: int) -> int:
    return number & ~(0x3FFF << 16) | size << 16


def near(row: Row) -> set[int]:
    """The row's number with other sizes and directions, as far as its kind knows none of them."""
    sizes = {with_size(row.number, size) for size in (0, row.size + 1, row.size + 8, 2 * row.size)}
    directions = {row.number ^ direction << 30 for direction in (1, 2, 3)}
    return (sizes | directions) - KNOWN[row.kind]


@pytest.mark.parametrize(
    ("kind", "number"), ELSEWHERE, ids=[f"{kind}-{NAMES[number]}" for kind, number in ELSEWHERE]
)
def test_number_of_another_kind_of_file(
    targets: Targets, memory: Region, kind: str, number: int
) -> None:
    with refused(UNKNOWN[kind]):
        targets.of(kind).ioctl(number, memory.address)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_number_of_another_size_or_direction(targets: Targets, memory: Region, row: Row) -> None:
    for number in near(row):
        with refused(UNKNOWN[row.kind]):
            targets.of(row.kind).ioctl(number, memory.address)
