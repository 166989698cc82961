"""mv_vs_op_hyperv_enforce, hyperv_cpuid_get_supported_list, hyperv_synic_activate,
hyperv_flush_inhibit, and exits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.cdl import CdlEntry
from microv.ops import observe, pp, vm, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest
from tests.hypercall.threads import join

_ENFORCE = mv.MV_VS_OP_VAL | mv.MV_VS_OP_HYPERV_ENFORCE_IDX_VAL
_ACTIVATE = mv.MV_VS_OP_VAL | mv.MV_VS_OP_HYPERV_SYNIC_ACTIVATE_IDX_VAL
_INTERFACE = CdlEntry(0x4000_0001, eax=0x3123_7648)
_RESET = 0x4000_0003
_SCONTROL = 0x4000_0080
_WRMSR = b"\x0f\x30\xf4"
_INHIBIT = mv.MV_VS_OP_VAL | mv.MV_VS_OP_HYPERV_FLUSH_INHIBIT_IDX_VAL
_CONNECT = mv.MV_VM_OP_VAL | mv.MV_VM_OP_HYPERV_CONNECT_IDX_VAL
_GUEST_OS_ID = 0x4000_0000
_FLUSH = 2 | 1 << 16
"""HvCallFlushVirtualAddressSpace; XMM0 is 0, which means all processors."""
_VMCALL_HLT = b"\x0f\x01\xc1\xf4"


def test_hv_24_enforcement_is_on_or_off(guest: Guest) -> None:
    vs.hyperv_enforce(guest.vsid, enforce=True)
    vs.hyperv_enforce(guest.vsid, enforce=False)
    status, _ = hypercall(_ENFORCE, process_handle(), guest.vsid, 2)
    assert status == mv.MV_STATUS_INVALID_INPUT_REG2


def test_hv_00b_leaves_are_ten_of_a_vs_as_of_the_machine(guest: Guest) -> None:
    leaves = pp.hyperv_cpuid_get_supported_list()
    assert len(leaves) == 10
    of_vs = vs.hyperv_cpuid_get_supported_list(guest.vsid)
    assert [leaf.function for leaf in of_vs] == [leaf.function for leaf in leaves]
    with Guest(controllers=True) as other:
        assert vs.hyperv_cpuid_get_supported_list(other.vsid) == leaves


def test_hv_11_a_reset_leaves_and_the_guest_goes_on() -> None:
    with Guest(_WRMSR) as guest:
        vs.cpuid_set(guest.vsid, _INTERFACE)
        vs.reg_set_list(
            guest.vsid, [(mv.mv_reg_t_rcx, _RESET), (mv.mv_reg_t_rax, 1), (mv.mv_reg_t_rdx, 0)]
        )
        left = vs.run(guest.vsid)
        assert left.reason == mv.mv_exit_reason_t_hyperv
        assert isinstance(left.details, mv.mv_exit_hyperv_t)
        assert left.details.kind == mv.MV_EXIT_HYPERV_RESET
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_hv_07_a_synthetic_interrupt_controller_needs_a_local_apic(guest: Guest) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.hyperv_synic_activate(guest.vsid, keeps_pages=True)
    with Guest(controllers=True) as other:
        vs.hyperv_synic_activate(other.vsid, keeps_pages=True)
        assert vs.msr_get(other.vsid, _SCONTROL) == 1
        status, _ = hypercall(_ACTIVATE, process_handle(), other.vsid, 2)
        assert status == mv.MV_STATUS_INVALID_INPUT_REG2


def _flusher(guest: Guest) -> int:
    """A VS that flushes all, in registers, and then halts; of a VM with a second one."""
    other = guest.add_vcpu(CODE)
    for vsid in (guest.vsid, other):
        vs.cpuid_set(vsid, _INTERFACE)
    vs.msr_set(guest.vsid, _GUEST_OS_ID, 1)
    cr0 = vs.reg_get(guest.vsid, mv.mv_reg_t_cr0)
    vs.reg_set_list(
        guest.vsid, [(mv.mv_reg_t_cr0, cr0 | 1), (mv.mv_reg_t_rax, _FLUSH), (mv.mv_reg_t_rdx, 0)]
    )
    return other


@contextmanager
def _running(vsid: int) -> Iterator[list[int]]:
    """The VS runs on another thread until it leaves once; exit reasons."""
    reasons: list[int] = []
    thread = threading.Thread(target=lambda: reasons.append(vs.run(vsid).reason))
    thread.start()
    yield reasons
    join(thread)


def _wait_suspended(vsid: int, on: int) -> None:
    while True:
        found = observe.activity_get(vsid)
        if found.activity == mv.MV_ACTIVITY_SUSPENDED:
            assert (found.suspended_on, found.hypercall) == (on, 2)
            return


def test_ti_05_who_flushes_an_inhibited_vs_is_suspended_on_it() -> None:
    with Guest(_VMCALL_HLT) as guest:
        other = _flusher(guest)
        vs.hyperv_flush_inhibit(other, inhibit=True)
        with _running(guest.vsid) as reasons:
            _wait_suspended(guest.vsid, on=other)
            vs.hyperv_flush_inhibit(other, inhibit=False)
        assert reasons == [mv.mv_exit_reason_t_hlt]
        assert observe.activity_get(guest.vsid).suspended_on == mv.MV_ACTIVITY_NOT_SUSPENDED


def test_ti_14_a_vs_that_is_destroyed_is_waited_for_no_more() -> None:
    with Guest(_VMCALL_HLT) as guest:
        other = _flusher(guest)
        vs.hyperv_flush_inhibit(other, inhibit=True)
        with _running(guest.vsid) as reasons:
            _wait_suspended(guest.vsid, on=other)
            guest.vcpus.pop().close()
        assert reasons == [mv.mv_exit_reason_t_hlt]


def test_ti_04_an_inhibition_is_on_or_off(guest: Guest) -> None:
    status, _ = hypercall(_INHIBIT, process_handle(), guest.vsid, 2)
    assert status == mv.MV_STATUS_INVALID_INPUT_REG2


def test_a_vs_that_is_none_is_refused(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.hyperv_enforce(bad_vsid, enforce=True)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.hyperv_cpuid_get_supported_list(bad_vsid)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.hyperv_synic_activate(bad_vsid, keeps_pages=False)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.hyperv_flush_inhibit(bad_vsid, inhibit=True)


@pytest.mark.parametrize(
    ("connection", "known", "status"),
    [
        (1 << 24, 1, mv.MV_STATUS_INVALID_INPUT_REG2),
        (0, 2, mv.MV_STATUS_INVALID_INPUT_REG3),
        ((1 << 24) - 1, 1, mv.MV_STATUS_SUCCESS),
        (5, 0, mv.MV_STATUS_SUCCESS),
    ],
)
def test_hv_08_a_connection_has_24_bits(
    guest: Guest, connection: int, known: int, status: int
) -> None:
    answer, _ = hypercall(_CONNECT, process_handle(), guest.vmid, connection, known)
    assert answer == status


def test_hv_08_connections_are_of_a_vm(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.hyperv_connect(bad_vmid, 1, known=True)


def test_hv_08_a_signal_leaves_with_its_connection() -> None:
    with Guest(_VMCALL_HLT) as guest:
        _flusher(guest)
        vm.hyperv_connect(guest.vmid, 7, known=True)
        registers = [(mv.mv_reg_t_rax, 0x5D | 1 << 16), (mv.mv_reg_t_rbx, 0), (mv.mv_reg_t_rcx, 7)]
        vs.reg_set_list(guest.vsid, registers)
        left = vs.run(guest.vsid)
        assert isinstance(left.details, mv.mv_exit_hyperv_t)
        assert left.details.kind == mv.MV_EXIT_HYPERV_SIGNAL
        assert left.details.data[3] == 7
