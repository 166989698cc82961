"""RETRY_CONTINUATION: a long map or unmap gives others their turn, and is one call in the end."""

import mmap
from collections.abc import Iterator

import pytest

from microv import abi_gen as mv
from microv import engine_ffi, mdl
from microv.call import hypercall, process_handle
from microv.exits import IoDetails
from microv.mdl import Run
from microv.ops import vm, vs
from microv.shared_page import shared_page
from microv.status import MvError
from tests.hypercall.guest import CODE, RWX, Guest
from tests.hypercall.threads import in_new_thread, running, staying

_MAP = mv.MV_VM_OP_VAL | mv.MV_VM_OP_MMIO_MAP_IDX_VAL
_UNMAP = mv.MV_VM_OP_VAL | mv.MV_VM_OP_MMIO_UNMAP_IDX_VAL
_RETRY = mv.MV_STATUS_RETRY_CONTINUATION
_SIZE = 64 << 20
_GPA = 0x1000_1000
"""Large blocks of memory are mapped at once: it begins behind the start of one."""
_OUT_LOOP = b"\xe6\x10\xeb\xfc"
_READ_LAST_BYTE_OUT_HLT = b"\xa0\xff\xff\xe6\x11\xf4"
_LAST_SEGMENT = _GPA + _SIZE - 0x10000


@pytest.fixture(scope="module")
def address() -> Iterator[int]:
    """64 MiB of this process; the last byte is 0x5A."""
    memory = mmap.mmap(-1, _SIZE)
    memory[_SIZE - 1] = 0x5A
    yield engine_ffi.address_of(memory)
    memory.close()


@pytest.fixture
def slow() -> Iterator[Guest]:
    """A VM whose map and unmap calls have next to no time; the guest loops with exits."""
    with Guest(_OUT_LOOP) as guest:
        vm.set_time_budget(guest.vmid, 1)
        yield guest


def _begin(call: int, vmid: int, *runs: Run) -> int:
    shared_page().write(mdl.to_page(list(runs)))
    return _again(call, vmid)


def _again(call: int, vmid: int) -> int:
    status, _ = hypercall(call, process_handle(), vmid, mv.MV_SELF_ID)
    return status


def _last_byte(guest: Guest) -> int:
    """What a vCPU reads at the end of the region."""
    guest.load(0x4000, _READ_LAST_BYTE_OUT_HLT)
    vsid = guest.add_vcpu(0x4000)
    details = vs.run(vsid, regs=[(mv.mv_reg_t_ds_base, _LAST_SEGMENT)]).details
    assert isinstance(details, IoDetails)
    return details.data[0]


def _is_mapped(guest: Guest, run: Run) -> bool:
    try:
        vm.mmio_unmap(guest.vmid, [(run.gpa, run.size)])
    except MvError:
        return False
    vm.mmio_map(guest.vmid, [run])
    return True


def test_other_vcpus_run_between_the_continuations(slow: Guest, address: int) -> None:
    run = Run(_GPA, address, _SIZE, RWX)
    with running(slow.add_vcpu(CODE)) as runner:
        statuses = [_begin(_MAP, slow.vmid, run)]
        while statuses[-1] == _RETRY:
            runner.left.acquire()
            statuses.append(_again(_MAP, slow.vmid))
    assert len(statuses) > 3
    assert statuses[-1] == mv.MV_STATUS_SUCCESS
    assert _last_byte(slow) == 0x5A


def test_one_call_without_hurry_has_the_same_result(slow: Guest, address: int) -> None:
    vm.set_time_budget(slow.vmid, 10**12)
    assert _begin(_MAP, slow.vmid, Run(_GPA, address, _SIZE, RWX)) == mv.MV_STATUS_SUCCESS
    assert _last_byte(slow) == 0x5A


def test_an_unmap_is_continued_too(slow: Guest, address: int) -> None:
    run = Run(_GPA, address, _SIZE, RWX)
    vm.mmio_map(slow.vmid, [run])
    statuses = [_begin(_UNMAP, slow.vmid, run)]
    while statuses[-1] == _RETRY:
        statuses.append(_again(_UNMAP, slow.vmid))
    assert len(statuses) > 3
    assert not _is_mapped(slow, run)


def test_another_hypercall_takes_a_map_back(slow: Guest, address: int) -> None:
    run = Run(_GPA, address, _SIZE, RWX)
    assert _begin(_MAP, slow.vmid, run) == _RETRY
    vm.vmid()
    assert not _is_mapped(slow, run._replace(size=mv.MV_PAGE_SIZE))
    vm.mmio_map(slow.vmid, [run])
    assert _last_byte(slow) == 0x5A


def test_another_hypercall_takes_an_unmap_back(slow: Guest, address: int) -> None:
    run = Run(_GPA, address, _SIZE, RWX)
    vm.mmio_map(slow.vmid, [run])
    assert _begin(_UNMAP, slow.vmid, run) == _RETRY
    vm.vmid()
    assert _is_mapped(slow, run)
    assert _last_byte(slow) == 0x5A


def test_another_list_takes_the_first_back(slow: Guest, address: int) -> None:
    first = Run(_GPA, address, _SIZE, RWX)
    second = Run(0x2000_0000, address, _SIZE, RWX)
    assert _begin(_MAP, slow.vmid, first) == _RETRY
    status = _begin(_MAP, slow.vmid, second)
    while status == _RETRY:
        status = _again(_MAP, slow.vmid)
    assert (_is_mapped(slow, second), _is_mapped(slow, first)) == (True, False)


def test_the_end_of_its_thread_takes_a_map_back(slow: Guest, address: int) -> None:
    run = Run(_GPA, address, _SIZE, RWX)
    assert in_new_thread(lambda: _begin(_MAP, slow.vmid, run)) == _RETRY
    assert not _is_mapped(slow, run._replace(size=mv.MV_PAGE_SIZE))


def test_another_thread_waits_for_its_turn_and_the_vm_stays(address: int) -> None:
    empty = vm.create_vm()
    vm.set_time_budget(empty, 1)
    small = Run(0, address, mv.MV_PAGE_SIZE, RWX)
    with staying(lambda: _begin(_MAP, empty, Run(_GPA, address, _SIZE, RWX))):
        assert [_begin(_MAP, empty, small) for _ in range(0x100)] == [_RETRY] * 0x100
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vm.destroy_vm(empty)
    vm.mmio_map(empty, [small])
    vm.destroy_vm(empty)


def test_the_budget_is_refused_where_it_is_none(vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vm.set_time_budget(vmid, 0)


def test_the_budget_refuses(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.set_time_budget(bad_vmid, 1)
