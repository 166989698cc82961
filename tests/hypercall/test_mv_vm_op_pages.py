"""mv_vm_op_mmio_replace, refuse_set, populate."""

import mmap
from collections.abc import Callable

import pytest

from microv import abi_gen as mv
from microv import engine_ffi
from microv.ops import vm, vs
from microv.status import MvError
from tests.hypercall.guest import RWX, Guest
from tests.hypercall.threads import running, wait_until_running

_PAGE = mv.MV_PAGE_SIZE
_TARGET = 0x9000
_FREE = 0x20000
# OUT once, then write AL to the target for ever.
_WRITE_LOOP = b"\xe6\x10\xa2\x00\x90\xeb\xfb"
# MOV AL, [0x9000]; HLT.
_READ = b"\xa0\x00\x90\xf4"
_CALLS: dict[str, Callable[[int, int, int], object]] = {
    "refuse_set": lambda vmid, gpa, size: vm.refuse_set(vmid, gpa, size, refused=True),
    "populate": vm.populate,
}


@pytest.fixture(params=list(_CALLS))
def call(request: pytest.FixtureRequest) -> Callable[[int, int, int], object]:
    """One of them, of (vmid, gpa, size)."""
    return _CALLS[request.param]


@pytest.fixture
def other() -> mmap.mmap:
    """Another page of this process; full of 0x5A."""
    memory = mmap.mmap(-1, _PAGE)
    memory[:] = b"\x5a" * _PAGE
    return memory


def _replacement(other: mmap.mmap) -> tuple[int, int, int, int]:
    return _TARGET, engine_ffi.address_of(other), _PAGE, RWX


def test_replaced_page_is_the_other_memory(other: mmap.mmap) -> None:
    with Guest(_READ) as guest:
        vm.mmio_replace(guest.vmid, [_replacement(other)])
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rax) & 0xFF == 0x5A
        vm.mmio_unmap(guest.vmid, [(_TARGET, _PAGE)])


def test_no_write_lands_in_the_former_page_afterwards(other: mmap.mmap) -> None:
    with Guest(_WRITE_LOOP) as guest:
        with running(guest.vsid):
            wait_until_running(guest.vsid)
            vm.mmio_replace(guest.vmid, [_replacement(other)])
            guest.load(_TARGET, b"\xee")
            assert all(guest.memory[_TARGET] == 0xEE for _ in range(10_000))
            vm.mmio_replace(guest.vmid, [(_TARGET, guest.address + _TARGET, _PAGE, RWX)])
        vm.mmio_unmap(guest.vmid, [(0, _PAGE)])


def test_page_that_is_not_mapped_is_not_replaced(guest: Guest, other: mmap.mmap) -> None:
    run = (_FREE, *_replacement(other)[1:])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_replace(guest.vmid, [run])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_replace(guest.vmid, [_replacement(other), run])


def test_what_is_no_memory_of_this_process_is_refused(guest: Guest) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_replace(guest.vmid, [(_TARGET, 0x1000, _PAGE, RWX)])


def test_replace_refuses(bad_vmid: int, other: mmap.mmap) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.mmio_replace(bad_vmid, [_replacement(other)])


def test_refused_page_leaves_with_a_fault_until_it_is_not() -> None:
    with Guest(_READ, memory=_TARGET) as guest:
        vm.refuse_set(guest.vmid, 0, mv.MV_MAX_GPA, refused=True)
        for _ in range(2):
            left = vs.run(guest.vsid)
            assert left.reason == mv.mv_exit_reason_t_memory_fault
            assert isinstance(left.details, mv.mv_exit_memory_fault_t)
            assert left.details.gpa == _TARGET
        vm.refuse_set(guest.vmid, _TARGET, _PAGE, refused=False)
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_mmio


def test_mapped_pages_are_not_refused() -> None:
    with Guest(_READ) as guest:
        vm.refuse_set(guest.vmid, 0, mv.MV_MAX_GPA, refused=True)
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_populate_ends_where_nothing_is_mapped(guest: Guest) -> None:
    size = len(guest.memory)
    assert vm.populate(guest.vmid, 0, 2 * size) == size
    assert vm.populate(guest.vmid, size - _PAGE, _PAGE) == _PAGE
    assert vm.populate(guest.vmid, size, _PAGE) == 0
    assert vm.populate(guest.vmid, 0, 0) == 0


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
