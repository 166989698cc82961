"""mv_vs_op_guest_stopped, paravirt_enforce, wait_with, and mv_vm_op_hypercall_leave_set."""

import ctypes
import threading

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import vm, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest

_SYSTEM_TIME = 0x4B564D01
_STEAL_TIME = 0x4B564D03
_WAIT_WITH = mv.MV_VS_OP_VAL | mv.MV_VS_OP_WAIT_WITH_IDX_VAL
_ENFORCE = mv.MV_VS_OP_VAL | mv.MV_VS_OP_PARAVIRT_ENFORCE_IDX_VAL


def test_a_stopped_guest_is_told_at_the_next_run(guest: Guest) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.guest_stopped(guest.vsid)
    vs.msr_set(guest.vsid, _SYSTEM_TIME, CODE + 0x100 | 1)
    vs.guest_stopped(guest.vsid)
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt
    assert ctypes.string_at(guest.address + CODE + 0x11D, 1) == b"\x03"


def test_enforcement_is_on_or_off(guest: Guest) -> None:
    vs.paravirt_enforce(guest.vsid, enforce=True)
    vs.paravirt_enforce(guest.vsid, enforce=False)
    status, _ = hypercall(_ENFORCE, process_handle(), guest.vsid, 2)
    assert status == mv.MV_STATUS_INVALID_INPUT_REG2


def test_waits_of_a_thread_are_stolen() -> None:
    with Guest(b"\xf4\xeb\xfd") as guest:
        vs.msr_set(guest.vsid, _STEAL_TIME, CODE + 0x100 | 1)
        for thread in (threading.get_native_id(), 0, 0xFFFF_FFFF):
            vs.wait_with(guest.vsid, thread)
            assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt
        assert ctypes.string_at(guest.address + CODE + 0x108, 4) == b"\x06\0\0\0"
        status, _ = hypercall(_WAIT_WITH, process_handle(), guest.vsid, 1 << 32)
        assert status == mv.MV_STATUS_INVALID_INPUT_REG2


def test_a_vs_that_is_none_is_refused(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.guest_stopped(bad_vsid)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.paravirt_enforce(bad_vsid, enforce=True)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.wait_with(bad_vsid, 0)


def test_hypercalls_that_leave_are_known(vmid: int) -> None:
    for hypercalls in (mv.MV_HYPERCALL_LEAVE_MAP_GPA_RANGE, 0):
        vm.hypercall_leave_set(vmid, hypercalls)
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vm.hypercall_leave_set(vmid, 1)


def test_a_vm_that_is_none_is_refused(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.hypercall_leave_set(bad_vmid, 0)
