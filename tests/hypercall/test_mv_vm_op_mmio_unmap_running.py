"""mv_vm_op_mmio_unmap while a vCPU uses the memory: when it returns, the vCPU no longer does."""

import pytest

from microv import abi_gen as mv
from microv.ops import vm
from tests.hypercall.guest import MEMORY, RWX, Guest
from tests.hypercall.threads import running, wait_until_running

_TARGET = 0x9000
_PAGE = mv.MV_PAGE_SIZE
# OUT once, then write AL to the target for ever.
_WRITE_LOOP = b"\xe6\x10\xa2\x00\x90\xeb\xfb"
# OUT once, then loop on a page of its own.
_FAR_LOOP = b"\xe6\x10\xe9\xfb\x7f"


def test_no_write_lands_after_the_unmap() -> None:
    with Guest(_WRITE_LOOP) as guest:
        with running(guest.vsid) as runner:
            wait_until_running(guest.vsid)
            vm.mmio_unmap(guest.vmid, [(_TARGET, _PAGE)])
            guest.load(_TARGET, b"\xee")
            runner.left.acquire()
            assert guest.memory[_TARGET] == 0xEE
        assert runner.exits[:2] == [mv.mv_exit_reason_t_io, mv.mv_exit_reason_t_mmio]


def test_code_is_forgotten_with_its_page() -> None:
    with Guest(_FAR_LOOP) as guest:
        guest.load(_TARGET, b"\xeb\xfe")
        with running(guest.vsid) as runner:
            wait_until_running(guest.vsid)
            vm.mmio_unmap(guest.vmid, [(_TARGET, _PAGE)])
            runner.left.acquire()
        assert runner.exits[1] == mv.mv_exit_reason_t_unknown


@pytest.mark.parametrize("rounds", [200])
def test_map_and_unmap_under_a_running_vcpu_many_times(rounds: int) -> None:
    with Guest(_WRITE_LOOP) as guest, running(guest.vsid):
        for _ in range(rounds):
            vm.mmio_unmap(guest.vmid, [(_TARGET, _PAGE)])
            guest.load(_TARGET, b"\xee")
            assert guest.memory[_TARGET] == 0xEE
            vm.mmio_map(guest.vmid, [(_TARGET, guest.address + _TARGET, _PAGE, RWX)])
        vm.mmio_unmap(guest.vmid, [(0, MEMORY)])
