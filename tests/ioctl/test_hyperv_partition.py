"""What a guest of Hyper-V learns of its partition, and the hypercall page that it locks.

TLFS, "HvCallGetPartitionId", "Establishing the Hypercall Interface". No kernel has them.
"""

import pytest

from tests import hyperv as hv
from tests.hyperv import GP, Guest, faults
from tests.kvm import System
from tests.machine import DATA, RAM_SIZE, Mode

LOCKED = 2


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.introduced(system)


def partition_id(guest: Guest) -> int:
    assert guest.call(hv.GET_PARTITION_ID, 0, DATA) == hv.SUCCESS
    return guest.machine.peek(DATA, 8)


def test_hv_47_partition_each_has_a_number(system: System, guest: Guest) -> None:
    other = Guest.introduced(system, mode=Mode.PROTECTED)
    ids = {partition_id(guest), partition_id(other)}
    assert len(ids) == 2
    assert not ids & {0, (1 << 64) - 1}
    assert partition_id(guest) in ids


@pytest.mark.parametrize(
    ("control", "address", "status"),
    [
        (0, DATA + 1, hv.INVALID_ALIGNMENT),
        (0, DATA + 4, hv.INVALID_ALIGNMENT),
        (0, RAM_SIZE, hv.INVALID_ALIGNMENT),
        (0, (1 << 64) - 8, hv.INVALID_ALIGNMENT),
        (1 << 17, DATA, hv.INVALID_INPUT),
        (1 << 32, DATA, hv.INVALID_INPUT),
    ],
)
def test_hv_47_partition_a_bad_request_is_refused(
    guest: Guest, control: int, address: int, status: int
) -> None:
    assert guest.call(hv.GET_PARTITION_ID | control, 0, address) == status
    assert guest.machine.peek(DATA, 8) == 0


@pytest.mark.parametrize("there", [False, True])
def test_hv_47_partition_enforced_the_number_needs_its_bit(system: System, there: bool) -> None:
    guest = Guest.introduced(system, {hv.FEATURES: {"ebx": there << 1}}, enforce=True)
    status = guest.call(hv.GET_PARTITION_ID, 0, DATA)
    assert status == (hv.SUCCESS if there else hv.ACCESS_DENIED)


def test_hv_47_lock_keeps_the_page_where_it_is(guest: Guest) -> None:
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    guest.wrmsr(hv.HYPERCALL, DATA + 0x1000 | hv.ENABLED | LOCKED)
    locked = guest.rdmsr(hv.HYPERCALL)
    assert locked == DATA + 0x1000 | hv.ENABLED | LOCKED
    for value in (0, DATA | hv.ENABLED, locked & ~LOCKED):
        assert faults(guest.wrmsr, hv.HYPERCALL, value) == GP
    assert guest.rdmsr(hv.HYPERCALL) == locked
    assert guest.vcpu.set_msrs([(hv.HYPERCALL, 0)]) == 1
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)


def test_hv_47_lock_that_is_not_announced_is_nothing(system: System) -> None:
    supported = hv.leaf(hv.supported(system), hv.FEATURES).edx
    guest = Guest.introduced(system, {hv.FEATURES: {"edx": supported & ~(1 << 18)}})
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED | LOCKED)
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    assert guest.rdmsr(hv.HYPERCALL) == DATA | hv.ENABLED
