"""Every ioctl is served and tested by what it means, or says why it is not served."""

import pytest

from kvmshim.abi import ioctls_gen, notes
from kvmshim.dispatch.support import KINDS, IoctlRow, ioctl_rows
from kvmshim.dispatch.table import TABLES
from tests.table import header, sources

ROWS = ioctl_rows()
SERVED = sorted({row.name for row in ROWS if row.served})
NOT_SERVED = [row for row in ROWS if not row.served]


@pytest.mark.parametrize("name", SERVED)
def test_served_ioctl_has_a_test(name: str) -> None:
    assert name in sources.spoken_of()


@pytest.mark.parametrize("row", NOT_SERVED, ids=lambda row: f"{row.kind}-{row.name}")
def test_other_ioctl_says_why_it_is_not_served(row: IoctlRow) -> None:
    assert row.note


def test_no_note_excuses_what_is_served() -> None:
    assert notes.NOT_SERVED.keys() == {row.name for row in NOT_SERVED if row.note}


def test_every_row_of_the_dispatch_table_is_listed() -> None:
    listed = {(KINDS[row.kind], row.number) for row in ROWS if row.served}
    assert {(kind, number) for kind, table in TABLES.items() for number in table} <= listed


def test_numbers_are_those_of_the_kernel_header() -> None:
    known = {name: getattr(ioctls_gen, name) for name in ioctls_gen.TAKEN_BY}
    wanted = (known.keys() & header.names()) - header.WITHOUT_STRUCTURE
    numbers = header.numbers(sorted(wanted))
    assert numbers == {name: known[name] for name in numbers}


def test_every_ioctl_of_the_kernel_header_is_listed() -> None:
    assert header.names() - ioctls_gen.TAKEN_BY.keys() == set()
