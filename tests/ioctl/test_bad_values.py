"""Values out of any range, for the ioctls whose argument is no pointer."""

import errno

import pytest

from kvmshim.abi import ioctls_gen as nr
from tests.ioctl.rows import ROWS, Row, Targets
from tests.kvm import System, Vcpu, open_descriptors, refused
from tests.machine import Machine

VALUES = {
    "all ones": (1 << 64) - 1,
    "upper half": 0xFFFF_FFFF_0000_0000,
    "sign": 1 << 63,
    "32 ones": 0xFFFF_FFFF,
    "31 ones": 0x7FFF_FFFF,
    "bit 32": 1 << 32,
}

NUMBERS = [row for row in ROWS if row.shape_name == "number"]
IGNORED = {"KVM_GET_STATS_FD": "looks at no argument"}
"""Ioctls that make a file whatever the value is, and why."""

MAKERS = [row for row in ROWS if row.shape_name == "new_file" and row.name not in IGNORED]
NOTHING = [row for row in ROWS if row.shape_name == "nothing"]

REFUSALS = {errno.EINVAL, errno.ENOENT, errno.EEXIST, errno.EBUSY, errno.ENOMEM}


every_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


@every_value
@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.label)
def test_value_is_taken_or_changes_nothing(system: System, row: Row, value: int) -> None:
    targets = Targets(system, Machine.of(system))
    before = targets.state()
    result = targets.outcome(row, value)
    assert result >= 0 or (-result in REFUSALS and targets.state() == before)


@every_value
@pytest.mark.parametrize("row", MAKERS, ids=lambda row: row.label)
def test_nothing_is_made_of_it(system: System, row: Row, value: int) -> None:
    targets = Targets(system, Machine.of(system))
    before = targets.state(), open_descriptors()
    assert -targets.outcome(row, value) in REFUSALS
    assert (targets.state(), open_descriptors()) == before


@every_value
@pytest.mark.parametrize("row", NOTHING, ids=lambda row: row.label)
def test_argument_where_there_is_none(system: System, row: Row, value: int) -> None:
    with refused(errno.EINVAL):
        Targets(system, Machine.of(system)).call(row, value)


@every_value
def test_kvm_run_takes_no_argument(vcpu: Vcpu, value: int) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(nr.KVM_RUN, value)
