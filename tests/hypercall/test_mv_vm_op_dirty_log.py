"""mv_vm_op_dirty_log_set, dirty_log_get, dirty_log_clear."""

from collections.abc import Callable

import pytest

from microv import abi_gen as mv
from microv.ops import vm
from microv.status import MvError

_PAGE = mv.MV_PAGE_SIZE
_CALLS: dict[str, Callable[[int, int, int], object]] = {
    "set": lambda vmid, gpa, size: vm.dirty_log_set(vmid, gpa, size, on=True),
    "get": vm.dirty_log_get,
    "clear": lambda vmid, gpa, size: vm.dirty_log_clear(vmid, gpa, size, bytes(0x1000)),
}


@pytest.fixture(params=list(_CALLS))
def call(request: pytest.FixtureRequest) -> Callable[[int, int, int], object]:
    """One of the three, of (vmid, gpa, size)."""
    return _CALLS[request.param]


def test_pages_that_are_not_mapped_were_not_written(vmid: int) -> None:
    vm.dirty_log_set(vmid, 0, 0x10 * _PAGE, on=True, all_written=True)
    assert vm.dirty_log_get(vmid, 0, 0x10 * _PAGE) == bytes(2)
    vm.dirty_log_clear(vmid, 0, 0x10 * _PAGE, b"\xff\xff")


def test_a_range_may_be_all_there_is(vmid: int) -> None:
    vm.dirty_log_set(vmid, 0, mv.MV_MAX_GPA, on=True)


def test_a_bitmap_has_a_bit_for_each_page(vmid: int) -> None:
    for pages, size in ((1, 1), (8, 1), (9, 2), (mv.MV_DIRTY_LOG_MAX_PAGES + 1, 0x1001)):
        assert vm.dirty_log_get(vmid, 0, pages * _PAGE) == bytes(size)


@pytest.mark.parametrize("gpa", [8, mv.MV_MAX_GPA, 2**64 - _PAGE], ids=hex)
def test_bad_addresses_are_refused(
    vmid: int, call: Callable[[int, int, int], object], gpa: int
) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        call(vmid, gpa, _PAGE)


def test_odd_lengths_are_refused(vmid: int, call: Callable[[int, int, int], object]) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG3"):
        call(vmid, 0, 8)


def test_bad_ids_are_refused(bad_vmid: int, call: Callable[[int, int, int], object]) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        call(bad_vmid, 0, _PAGE)
