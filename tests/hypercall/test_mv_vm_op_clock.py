"""mv_vm_op_clock_get, clock_set: a VM's clock beside the host's."""

import time

import pytest

from microv.ops import vm
from microv.status import MvError

_DAY_NS = 86_400 * 10**9


def test_the_clock_never_goes_back(vmid: int) -> None:
    seen = [vm.clock_get(vmid) for _ in range(0x1000)]
    for clock in ("clock", "tsc"):
        values = [getattr(reading, clock) for reading in seen]
        assert values == sorted(values)


def test_the_hosts_time_is_told(vmid: int) -> None:
    before = time.time_ns()
    assert before <= vm.clock_get(vmid).realtime <= time.time_ns()


def test_the_clock_goes_on_from_what_was_set(vmid: int) -> None:
    vm.clock_set(vmid, 3 * _DAY_NS)
    assert 3 * _DAY_NS <= vm.clock_get(vmid).clock < 4 * _DAY_NS


def test_the_clock_goes_on_from_when_it_was_so(vmid: int) -> None:
    vm.clock_set(vmid, 0, vm.clock_get(vmid).realtime - 3 * _DAY_NS)
    assert 3 * _DAY_NS <= vm.clock_get(vmid).clock < 4 * _DAY_NS


def test_a_time_to_come_is_now(vmid: int) -> None:
    vm.clock_set(vmid, 3 * _DAY_NS, 2**64 - 1)
    assert 3 * _DAY_NS <= vm.clock_get(vmid).clock < 4 * _DAY_NS


def test_the_clock_wraps(vmid: int) -> None:
    vm.clock_set(vmid, 2**64 - 1, vm.clock_get(vmid).realtime - _DAY_NS)
    assert vm.clock_get(vmid).clock < 2 * _DAY_NS


def test_bad_ids_are_refused(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.clock_get(bad_vmid)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.clock_set(bad_vmid, 0)
