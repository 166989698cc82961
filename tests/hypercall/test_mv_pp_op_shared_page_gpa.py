"""mv_pp_op_set_shared_page_gpa, clr_, get_: on threads that have no page yet."""

import mmap

import pytest

from microv import abi_gen as mv
from microv import engine_ffi
from microv.call import hypercall, process_handle
from microv.ops import pp
from microv.shared_page import shared_page
from microv.status import MvError
from tests.hypercall.threads import in_new_thread

_MSR_LIST = mv.MV_PP_OP_VAL | mv.MV_PP_OP_MSR_GET_SUPPORTED_LIST_IDX_VAL


@pytest.fixture
def memory() -> mmap.mmap:
    """A page that may be a shared page."""
    return mmap.mmap(-1, mv.MV_PAGE_SIZE)


def _refused(gpa: int) -> bool:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        pp.set_shared_page_gpa(gpa)
    return pp.get_shared_page_gpa() == 0


@pytest.mark.parametrize("gpa", [0, mv.MV_MAX_GPA, 2**64 - mv.MV_PAGE_SIZE, 0x1000])
def test_set_refuses_what_is_no_memory(gpa: int) -> None:
    assert in_new_thread(lambda: _refused(gpa))


def test_set_refuses_unaligned_addresses(memory: mmap.mmap) -> None:
    address = engine_ffi.address_of(memory)
    assert in_new_thread(lambda: _refused(address + 8))


def test_set_refuses_memory_that_cannot_be_written() -> None:
    with open("/proc/self/maps", encoding="ascii") as maps:
        read_only = next(line for line in maps if " r--p " in line)
    assert in_new_thread(lambda: _refused(int(read_only.split("-")[0], 16)))


def test_set_then_clear_many_times(memory: mmap.mmap) -> None:
    address = engine_ffi.address_of(memory)

    def body() -> list[int]:
        seen = []
        for _ in range(0x100):
            pp.set_shared_page_gpa(address)
            seen.append(pp.get_shared_page_gpa())
            pp.clr_shared_page_gpa()
            seen.append(pp.get_shared_page_gpa())
        return seen

    assert in_new_thread(body) == [address, 0] * 0x100


def test_set_refuses_a_second_page(memory: mmap.mmap) -> None:
    address = engine_ffi.address_of(memory)

    def body() -> int:
        pp.set_shared_page_gpa(address)
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            pp.set_shared_page_gpa(address)
        return pp.get_shared_page_gpa()

    assert in_new_thread(body) == address


def test_clear_without_a_page_is_fine() -> None:
    def body() -> int:
        pp.clr_shared_page_gpa()
        pp.clr_shared_page_gpa()
        return pp.get_shared_page_gpa()

    assert in_new_thread(body) == 0


def test_a_page_belongs_to_one_thread() -> None:
    here = shared_page().address
    assert in_new_thread(lambda: shared_page().address) != here
    assert pp.get_shared_page_gpa() == here


def test_calls_that_need_a_page_are_refused_without_one() -> None:
    status, _ = in_new_thread(lambda: hypercall(_MSR_LIST, process_handle()))
    assert status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_a_page_that_somebody_else_set_is_used(memory: mmap.mmap) -> None:
    address = engine_ffi.address_of(memory)

    def body() -> int:
        pp.set_shared_page_gpa(address)
        return shared_page().address

    assert in_new_thread(body) == address
