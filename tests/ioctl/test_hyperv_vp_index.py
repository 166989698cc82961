"""HvCallGetVpIndexFromApicId: processors' numbers by the identifiers of their local APICs.

TLFS, "HvCallGetVpIndexFromApicId": elements and answers are filled up to 8 bytes. No kernel has it.
"""

import struct

import pytest

from tests import hyperv as hv
from tests.hyperv import OWN_PARTITION, Guest
from tests.kvm import System
from tests.machine import DATA, RAM_SIZE

CALL = hv.GET_VP_INDEX_FROM_APIC_ID
OUT = DATA + 0x1000
IDS = (65, 2, 7)
"""By number, from 1 on."""


@pytest.fixture
def guest(system: System) -> Guest:
    made = Guest.introduced(system, controllers=True)
    for apic_id in IDS:
        made.machine.vm.create_vcpu(apic_id)
    return made


def ask(guest: Guest, *ids: int, partition: int = OWN_PARTITION, level: int = 0) -> int:
    """The result of the hypercall."""
    data = struct.pack("<QQ", partition, level) + b"".join(struct.pack("<II", n, 0) for n in ids)
    guest.machine.ram.write(DATA, data)
    guest.machine.ram.write(OUT, b"\xee" * 8 * (len(ids) + 1))
    return guest.call(CALL | len(ids) << 32, DATA, OUT)


def told(guest: Guest, count: int) -> list[int]:
    return list(struct.unpack(f"<{count}Q", guest.machine.ram.read(OUT, 8 * count)))


def test_hv_47_index_is_that_of_the_local_apics_identifier(guest: Guest) -> None:
    assert ask(guest, 7, 0, 65, 2) == hv.SUCCESS | 4 << 32
    assert told(guest, 4) == [3, 0, 1, 2]


def test_hv_47_index_is_the_one_that_the_client_has_given(guest: Guest) -> None:
    assert guest.vcpu.set_msrs([(hv.VP_INDEX, 1000)]) == 1
    assert ask(guest, 0) == hv.SUCCESS | 1 << 32
    assert told(guest, 1) == [1000]


@pytest.mark.parametrize("nobody", [1, 66, 0xFF, 0xFFFF_FFFF])
def test_hv_47_index_of_nobody_ends_the_list(guest: Guest, nobody: int) -> None:
    assert ask(guest, 65, nobody, 2) == hv.INVALID_PARAMETER | 1 << 32
    assert told(guest, 3) == [1, *(int.from_bytes(b"\xee" * 8, "little"),) * 2]


def test_hv_47_index_in_registers_needs_no_memory(guest: Guest) -> None:
    hv.set_vectors(guest.vcpu, [2, 65])
    assert guest.call(CALL | hv.FAST | 2 << 32, OWN_PARTITION, 0) == hv.SUCCESS | 2 << 32
    assert bytes(guest.vcpu.fpu().xmm[1]) == struct.pack("<QQ", 2, 1)


def test_hv_47_index_in_other_partitions_and_levels_is_refused(guest: Guest) -> None:
    assert ask(guest, 0, partition=0) == hv.INVALID_PARTITION_ID
    assert ask(guest, 0, level=1) == hv.INVALID_VTL_STATE


@pytest.mark.parametrize(
    ("control", "source", "target", "status"),
    [
        (0, DATA, OUT, hv.INVALID_INPUT),
        (1 << 32 | 1 << 48, DATA, OUT, hv.INVALID_INPUT),
        (1 << 32 | 1 << 17, DATA, OUT, hv.INVALID_INPUT),
        (1 << 32, DATA + 1, OUT, hv.INVALID_ALIGNMENT),
        (1 << 32, DATA, OUT + 1, hv.INVALID_ALIGNMENT),
        (1 << 32, RAM_SIZE, OUT, hv.INVALID_ALIGNMENT),
        (1 << 32, DATA, RAM_SIZE, hv.INVALID_ALIGNMENT),
        (600 << 32, DATA, OUT, hv.INVALID_ALIGNMENT),
    ],
)
def test_hv_47_index_lists_that_are_not_there_are_refused(
    guest: Guest, control: int, source: int, target: int, status: int
) -> None:
    ask(guest, 0)
    assert guest.call(CALL | control, source, target) == status


def test_hv_47_index_is_not_known_without_local_apics(system: System) -> None:
    assert ask(Guest.introduced(system), 0) == hv.INVALID_PARAMETER


@pytest.mark.parametrize("there", [False, True])
def test_hv_47_index_enforced_needs_the_bit_of_starts(system: System, there: bool) -> None:
    announced = {hv.FEATURES: {"ebx": there << 21}}
    guest = Guest.introduced(system, announced, controllers=True, enforce=True)
    assert ask(guest, 0) == (hv.SUCCESS | 1 << 32 if there else hv.ACCESS_DENIED)
