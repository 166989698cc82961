"""Every capability has a note, a test that proves it, and the value that the device answers."""

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import notes
from kvmshim.abi.caps import CAPABILITIES
from kvmshim.dispatch.support import CapabilityRow, capability_rows
from tests.kvm import System, Vm
from tests.server import ROOT
from tests.table.coverage import PROVED_BY

ANNOUNCED = [row for row in capability_rows() if row.value]
NOT_ANNOUNCED = [row for row in capability_rows() if not row.value]
UNHEARD_OF = range(300)
"""Beyond the last capability of Linux."""

OF_ITS_TYPE = {kvm.KVM_CAP_MEMORY_ATTRIBUTES, kvm.KVM_CAP_GUEST_MEMFD}
"""What a VM answers by its type."""


@pytest.mark.parametrize("row", ANNOUNCED, ids=lambda row: row.name)
def test_announced_capability_says_what_it_announces(row: CapabilityRow) -> None:
    assert row.note
    assert row.number not in notes.NOT_ANNOUNCED


@pytest.mark.parametrize("row", NOT_ANNOUNCED, ids=lambda row: row.name)
def test_other_capability_says_why_it_is_0(row: CapabilityRow) -> None:
    assert row.note
    assert row.number not in notes.ANNOUNCED


@pytest.mark.parametrize("row", ANNOUNCED, ids=lambda row: row.name)
def test_announced_capability_is_proved_by_a_test(row: CapabilityRow) -> None:
    assert (ROOT / "tests" / PROVED_BY[row.number]).is_file()


def test_no_test_proves_what_is_not_announced() -> None:
    assert PROVED_BY.keys() == {row.number for row in ANNOUNCED}


def test_device_answers_as_the_table_says(system: System) -> None:
    numbers = {*UNHEARD_OF, *CAPABILITIES}
    answered = {number: system.check_extension(number) for number in numbers}
    assert answered == {number: CAPABILITIES.get(number, 0) for number in numbers}


def test_vm_answers_as_the_device_does(system: System) -> None:
    vm: Vm = system.create_vm()
    numbers = {*UNHEARD_OF, *CAPABILITIES} - OF_ITS_TYPE
    answered = {number: vm.check_extension(number) for number in numbers}
    assert answered == {number: system.check_extension(number) for number in numbers}
