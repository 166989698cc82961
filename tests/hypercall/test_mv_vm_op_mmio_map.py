"""mv_vm_op_mmio_map and mmio_unmap: who may, what a list may say, what is mapped afterwards."""

import mmap
from collections.abc import Iterator

import pytest

from microv import abi_gen as mv
from microv import engine_ffi, mdl
from microv.call import with_handle
from microv.mdl import Run
from microv.ops import vm
from microv.shared_page import shared_page
from microv.status import MvError
from tests.hypercall.guest import RWX

_MAP = mv.MV_VM_OP_VAL | mv.MV_VM_OP_MMIO_MAP_IDX_VAL
_PAGE = mv.MV_PAGE_SIZE
_PAGES = 300


@pytest.fixture(scope="module")
def address() -> Iterator[int]:
    """300 pages of this process."""
    memory = mmap.mmap(-1, _PAGES * _PAGE)
    yield engine_ffi.address_of(memory)
    memory.close()


def _map_list(vmid: int, *runs: Run, num_entries: int | None = None) -> None:
    page = mdl.to_page(list(runs))
    if num_entries is not None:
        page.num_entries = num_entries
    shared_page().write(page)
    with_handle(_MAP, vmid, mv.MV_ROOT_VMID)


def _scattered(address: int, count: int) -> list[tuple[int, int, int, int]]:
    """Pages that do not merge: in the guest each follows the other, here in reverse."""
    return [(i * _PAGE, address + (count - 1 - i) * _PAGE, _PAGE, RWX) for i in range(count)]


def test_map_refuses_a_destination(bad_vmid: int, address: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.mmio_map(bad_vmid, [(0, address, _PAGE, RWX)])


def test_unmap_refuses_a_destination(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.mmio_unmap(bad_vmid, [(0, _PAGE)])


@pytest.mark.parametrize("source", [mv.MV_INVALID_ID, 1, mv.MV_MAX_VMS, mv.MV_ALL_ID])
def test_map_refuses_a_source_that_is_not_the_root(vmid: int, address: int, source: int) -> None:
    shared_page().write(mdl.to_page([Run(0, address, _PAGE, RWX)]))
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        with_handle(_MAP, vmid, source)


@pytest.mark.parametrize("num_entries", [0, 126, 2**64 - 1])
def test_map_refuses_a_number_of_entries(vmid: int, address: int, num_entries: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        _map_list(vmid, Run(0, address, _PAGE, RWX), num_entries=num_entries)


@pytest.mark.parametrize(
    ("gpa", "offset", "size", "flags"),
    [
        (8, 0, _PAGE, RWX),
        (0, 8, _PAGE, RWX),
        (0, 0, 0, RWX),
        (0, 0, _PAGE + 8, RWX),
        (mv.MV_MAX_GPA, 0, _PAGE, RWX),
        (mv.MV_MAX_GPA - _PAGE, 0, 2 * _PAGE, RWX),
        (2**64 - _PAGE, 0, _PAGE, RWX),
        (0, 0, 2**63, RWX),
        (0, 0, 2**64 - _PAGE, RWX),
        (0, 0, _PAGE, RWX | mv.MV_MAP_FLAG_USER),
        (0, 0, _PAGE, RWX | mv.MV_MAP_FLAG_2M_PAGE),
    ],
)
def test_a_refused_entry_leaves_nothing_mapped(
    vmid: int, address: int, gpa: int, offset: int, size: int, flags: int
) -> None:
    good = Run(0x10_0000, address, 2 * _PAGE, RWX)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        _map_list(vmid, good, Run(gpa, address + offset, size, flags))
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_unmap(vmid, [(good.gpa, _PAGE)])


def test_map_refuses_what_is_no_memory_of_this_process(vmid: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_map(vmid, [(0, 0x1000, _PAGE, RWX)])


def test_read_only_memory_can_be_mapped_without_write(vmid: int) -> None:
    with open("/proc/self/maps", encoding="ascii") as maps:
        line = next(line for line in maps if " r--p " in line)
    address = int(line.split("-")[0], 16)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_map(vmid, [(0, address, _PAGE, RWX)])
    vm.mmio_map(vmid, [(0, address, _PAGE, mv.MV_MAP_FLAG_READ_ACCESS)])


def test_map_refuses_a_page_that_is_mapped(vmid: int, address: int) -> None:
    vm.mmio_map(vmid, [(_PAGE, address, _PAGE, RWX)])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_map(vmid, [(0, address, 2 * _PAGE, RWX)])
    vm.mmio_map(vmid, [(0, address, _PAGE, RWX)])


def test_map_refuses_a_list_that_names_a_page_twice(vmid: int, address: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        _map_list(vmid, Run(0, address, 2 * _PAGE, RWX), Run(_PAGE, address, _PAGE, RWX))


def test_unmap_refuses_what_is_not_mapped_and_keeps_the_rest(vmid: int, address: int) -> None:
    vm.mmio_map(vmid, [(0, address, 2 * _PAGE, RWX)])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_unmap(vmid, [(0, _PAGE), (2 * _PAGE, _PAGE)])
    vm.mmio_unmap(vmid, [(0, 2 * _PAGE)])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_unmap(vmid, [(0, 2 * _PAGE)])


def test_a_hole_can_be_cut_into_a_run_and_filled_again(vmid: int, address: int) -> None:
    vm.mmio_map(vmid, [(0, address, 8 * _PAGE, RWX)])
    vm.mmio_unmap(vmid, [(3 * _PAGE, _PAGE)])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_unmap(vmid, [(0, 8 * _PAGE)])
    vm.mmio_map(vmid, [(3 * _PAGE, address, _PAGE, RWX)])
    vm.mmio_unmap(vmid, [(0, 8 * _PAGE)])


def test_a_full_list_and_more_than_one(vmid: int, address: int) -> None:
    for count in (mv.MV_MDL_MAX_ENTRIES, _PAGES):
        vm.mmio_map(vmid, _scattered(address, count))
        vm.mmio_unmap(vmid, [(0, count * _PAGE)])


def test_a_refusal_in_the_second_list_takes_the_first_back(vmid: int, address: int) -> None:
    runs = _scattered(address, _PAGES)
    runs[-1] = (0, address, _PAGE, RWX)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_map(vmid, runs)
    vm.mmio_map(vmid, _scattered(address, _PAGES))


def test_runs_that_continue_each_other_go_as_one(vmid: int, address: int) -> None:
    runs = [(i * _PAGE, address + i * _PAGE, _PAGE, RWX) for i in range(_PAGES)]
    vm.mmio_map(vmid, runs)
    assert shared_page().read(mv.mv_mdl_t).num_entries == 1


def test_the_last_page_of_the_address_space(vmid: int, address: int) -> None:
    vm.mmio_map(vmid, [(mv.MV_MAX_GPA - _PAGE, address, _PAGE, RWX)])
    vm.mmio_unmap(vmid, [(mv.MV_MAX_GPA - _PAGE, _PAGE)])


def test_map_and_unmap_many_times(vmid: int, address: int) -> None:
    for _ in range(0x100):
        vm.mmio_map(vmid, [(0, address, 16 * _PAGE, RWX)])
        vm.mmio_unmap(vmid, [(0, 16 * _PAGE)])
    vm.mmio_map(vmid, [(0, address, 16 * _PAGE, RWX)])


def test_two_vms_may_share_memory(vmid: int, address: int) -> None:
    other = vm.create_vm()
    vm.mmio_map(vmid, [(0, address, _PAGE, RWX)])
    vm.mmio_map(other, [(0, address, _PAGE, RWX)])
    vm.mmio_unmap(other, [(0, _PAGE)])
    vm.destroy_vm(other)
    vm.mmio_unmap(vmid, [(0, _PAGE)])
