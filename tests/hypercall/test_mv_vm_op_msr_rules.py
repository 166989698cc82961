"""mv_vm_op_msr_leave_set, msr_filter_set: MSR accesses of the guest that the root decides."""

import pytest

from microv import abi_gen as mv
from microv.ops import vm, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest

_RDMSR_HLT = b"\x0f\x32\xf4"
_PLATFORM_INFO = 0xCE
_STAR = 0xC000_0081
_RCX = (mv.mv_reg_t_rcx, _STAR)
_BOTH = mv.MV_MSR_FILTER_READ | mv.MV_MSR_FILTER_WRITE


def test_a_denied_access_leaves_and_is_answered() -> None:
    with Guest(_RDMSR_HLT) as guest:
        vm.msr_leave_set(guest.vmid, mv.MV_MSR_LEAVE_DENIED)
        vm.msr_filter_set(guest.vmid, [(_BOTH, _STAR, 1, b"\0")], deny=False)
        # Whoever changes the rules makes a VS leave, which may run before it was asked to.
        exit_ = vs.run(guest.vsid, regs=[_RCX])
        assert exit_.reason == mv.mv_exit_reason_t_interrupt
        exit_ = vs.run(guest.vsid)
        assert exit_.reason == mv.mv_exit_reason_t_msr
        assert isinstance(exit_.details, mv.mv_exit_msr_t)
        assert (exit_.details.msr, exit_.details.flags) == (_STAR, mv.MV_EXIT_MSR_READ)
        assert exit_.details.reason == mv.MV_MSR_LEAVE_DENIED
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vs.run(guest.vsid, iomem=bytes(8))
        exit_ = vs.run(guest.vsid, iomem=(0x55).to_bytes(16, "little"))
        assert exit_.reason == mv.mv_exit_reason_t_hlt
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rax) == 0x55


def test_platform_info_can_be_taken_from_the_guest() -> None:
    with Guest(_RDMSR_HLT) as guest:
        vm.platform_info_set(guest.vmid, readable=False)
        vm.msr_leave_set(guest.vmid, mv.MV_MSR_LEAVE_INVALID)
        vs.run(guest.vsid, regs=[(mv.mv_reg_t_rcx, _PLATFORM_INFO)])
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_msr
        vm.platform_info_set(guest.vmid, readable=True)
        vs.run(guest.vsid, iomem=bytes(16))
        vs.reg_set(guest.vsid, mv.mv_reg_t_rip, CODE)
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


@pytest.mark.parametrize("reasons", [mv.MV_MSR_LEAVE_ALL + 1, 1 << 63], ids=hex)
def test_unknown_reasons_are_refused(vmid: int, reasons: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vm.msr_leave_set(vmid, reasons)


@pytest.mark.parametrize(
    ("flags", "count"), [(mv.MV_MSR_FILTER_ALL + 1, 1), (0, mv.MV_MSR_FILTER_MAX_MSRS + 1)]
)
def test_bad_ranges_are_refused(vmid: int, flags: int, count: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.msr_filter_set(vmid, [(flags, 0, count, b"")], deny=False)


def test_a_filter_has_16_ranges(vmid: int) -> None:
    range_ = (_BOTH, _STAR, mv.MV_MSR_FILTER_MAX_MSRS, b"")
    vm.msr_filter_set(vmid, [range_] * mv.MV_MSR_FILTER_MAX_RANGES, deny=True)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.msr_filter_set(vmid, [range_] * (mv.MV_MSR_FILTER_MAX_RANGES + 1), deny=True)


def test_bad_ids_are_refused(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.msr_leave_set(bad_vmid, 0)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.msr_filter_set(bad_vmid, [], deny=False)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.platform_info_set(bad_vmid, readable=True)
