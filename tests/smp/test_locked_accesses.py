"""Locked accesses of many processors to the same bytes, of any alignment: none is lost.

An address of 32 bits is nothing that the translator copies, so both tiers take part.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.deadline import deadline
from tests.kvm import System
from tests.machine import Machine
from tests.smp import guest
from tests.smp.threads import running

PROCESSORS: Final = 4
ROUNDS: Final = 2000
COUNTERS: Final = 0x5000
LINE: Final = 64

PLACES: Final = {
    "aligned": COUNTERS,
    "misaligned": COUNTERS + LINE + 21,
    "across blocks of 16 bytes": COUNTERS + 2 * LINE + 13,
    "across lines": COUNTERS + 4 * LINE - 3,
    "across pages": COUNTERS + 0x1000 - 5,
}


@pytest.fixture
def machine(system: System) -> Iterator[Machine]:
    with deadline(60):
        yield Machine.of(system, controllers=True)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_no_locked_increment_is_lost(machine: Machine, system: System, place: int) -> None:
    guest.load(
        machine,
        PROCESSORS,
        f"""
            mov ebx, {place:#x}
            mov r14d, {ROUNDS}
            more: lock inc qword ptr [rbx]
            lock add qword ptr [ebx], 1
            mov ecx, 1
            lock xadd qword ptr [rbx], rcx
            dec r14d
            jnz more
        """,
    )
    with running(machine, PROCESSORS, system) as crew:
        crew.finish()
    assert machine.peek(place, 8) == PROCESSORS * ROUNDS * 3
