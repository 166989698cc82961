"""A device opened only to read or only to write: KVM never asks how it was opened."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from tests.ioctl.rows import MOMENTS, ROWS, Row, Targets
from tests.kvm import Region, System
from tests.machine import Machine, Mode

ACCESS = {"read only": os.O_RDONLY, "write only": os.O_WRONLY}


@pytest.fixture(params=list(ACCESS.values()), ids=list(ACCESS))
def narrow(request: pytest.FixtureRequest, device_path: Path, guarded: None) -> Iterator[System]:  # noqa: ARG001
    """The device, opened one way."""
    system = System(device_path, access=request.param)
    yield system
    system.close()


def shown(system: System, row: Row) -> object:
    """All that a fresh machine shows of the ioctl with a good argument."""
    targets = Targets(system, Machine.of(system, controllers=True))
    memory = Region(0x10000)
    system.owned.callback(memory.close)
    memory.write(0, targets.image_for(row))
    result = targets.outcome(row, memory.address if row.takes_pointer else 0)
    answer = b"" if row.name in MOMENTS else memory.read(0, memory.size)
    return result >= 0 or result, answer, targets.state()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_every_ioctl_answers_as_ever(system: System, device_path: Path, row: Row) -> None:
    narrow = System(device_path, access=os.O_RDONLY)
    system.owned.callback(narrow.close)
    assert shown(narrow, row) == shown(system, row)


def test_guest_runs(narrow: System) -> None:
    machine = Machine.of(narrow)
    machine.load("hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT
