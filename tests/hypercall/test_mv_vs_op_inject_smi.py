"""mv_vs_op_inject_smi (extension): system management mode, and its address space."""

from collections.abc import Iterator
from typing import Final

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.exits import FailureDetails
from microv.ops import vm, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, MEMORY, RWX, Guest

_INJECT: Final = mv.MV_VS_OP_VAL | mv.MV_VS_OP_INJECT_SMI_IDX_VAL
_SMBASE: Final = 0x3_0000
_RSM: Final = b"\x0f\xaa"


@pytest.fixture
def smm_guest() -> Iterator[Guest]:
    """Its memory from 0 on is what system management mode sees from SMBASE on."""
    with Guest() as guest:
        vm.mmio_map(guest.vmid, [(_SMBASE | mv.MV_GPA_SMM, guest.address, MEMORY, RWX)])
        yield guest


def test_handler_and_return(smm_guest: Guest) -> None:
    smm_guest.load(0x8000, b"\xe6\x10" + _RSM)
    vs.inject_smi(smm_guest.vsid)
    assert vs.event_get_all(smm_guest.vsid).flags == mv.MV_EVENT_SMI
    assert vs.run(smm_guest.vsid).reason == mv.mv_exit_reason_t_io
    flags = vs.event_get_all(smm_guest.vsid).flags
    assert flags == mv.MV_EVENT_SMM | mv.MV_EVENT_NMI_BLOCKED
    assert vs.run(smm_guest.vsid).reason == mv.mv_exit_reason_t_hlt
    assert vs.event_get_all(smm_guest.vsid).flags == 0
    assert vs.reg_get(smm_guest.vsid, mv.mv_reg_t_rip) == CODE + 1


def test_memory_of_one_space_is_not_in_the_other(smm_guest: Guest) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_unmap(smm_guest.vmid, [(_SMBASE, MEMORY)])
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_unmap(smm_guest.vmid, [(mv.MV_GPA_SMM, MEMORY)])
    vm.mmio_map(smm_guest.vmid, [(_SMBASE, smm_guest.address, MEMORY, RWX)])
    vm.mmio_unmap(smm_guest.vmid, [(_SMBASE | mv.MV_GPA_SMM, MEMORY)])
    vm.mmio_unmap(smm_guest.vmid, [(_SMBASE, MEMORY)])


@pytest.mark.parametrize("gpa", [mv.MV_MAX_GPA, mv.MV_MAX_GPA - 0x1000, mv.MV_GPA_SMM << 1])
def test_the_second_space_is_no_larger(guest: Guest, gpa: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.mmio_map(guest.vmid, [(gpa | mv.MV_GPA_SMM, guest.address, 0x2000, RWX)])


def test_writes_are_logged_in_their_space(smm_guest: Guest) -> None:
    vmid, smm = smm_guest.vmid, _SMBASE | mv.MV_GPA_SMM
    vm.dirty_log_set(vmid, 0, MEMORY, on=True)
    vm.dirty_log_set(vmid, smm, MEMORY, on=True)
    smm_guest.load(0x8000, _RSM)
    vs.inject_smi(smm_guest.vsid)
    vs.run(smm_guest.vsid)
    # The state-save area.
    assert vm.dirty_log_get(vmid, smm, MEMORY) == b"\0\x80"
    assert vm.dirty_log_get(vmid, 0, MEMORY) == b"\0\0"
    vm.dirty_log_clear(vmid, smm, MEMORY, b"\xff\xff")
    assert vm.dirty_log_get(vmid, smm, MEMORY) == b"\0\0"


@pytest.mark.parametrize("vsid", [0, mv.MV_INVALID_ID, mv.MV_SELF_ID, mv.MV_MAX_VSS])
def test_a_vs_that_is_none_is_refused(vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.inject_smi(vsid)


def test_a_wrong_handle_is_refused(guest: Guest) -> None:
    status, _ = hypercall(_INJECT, process_handle() + 1, guest.vsid)
    assert status == mv.MV_STATUS_FAILURE_INVALID_HANDLE


def test_without_memory_for_the_state_the_vm_is_lost(guest: Guest) -> None:
    other = guest.add_vcpu(CODE)
    vs.inject_smi(guest.vsid)
    for vsid in (guest.vsid, guest.vsid, other):
        exit_ = vs.run(vsid)
        assert exit_.reason == mv.mv_exit_reason_t_failure
        assert exit_.details == FailureDetails(mv.MV_EXIT_FAILURE_LOST)
