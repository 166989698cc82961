"""mv_vm_op_quirks_set, and hypercalls of the guest as exits."""

import pytest

from microv import abi_gen as mv
from microv.ops import pp, vm, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest

_VMCALL = b"\x0f\x01\xc1"
_VMMCALL = b"\x0f\x01\xd9"
_HLT = b"\xf4"
_ARGUMENTS = [
    mv.mv_reg_t_rax,
    mv.mv_reg_t_rbx,
    mv.mv_reg_t_rcx,
    mv.mv_reg_t_rdx,
    mv.mv_reg_t_rsi,
]


def native_and_other() -> tuple[bytes, bytes]:
    is_amd = pp.cpuid_get_supported(0).ebx == int.from_bytes(b"Auth", "little")
    return (_VMMCALL, _VMCALL) if is_amd else (_VMCALL, _VMMCALL)


def test_call_leaves_with_its_arguments_and_is_answered() -> None:
    native, _ = native_and_other()
    values = [0x1_0000_0000 | number for number in range(101, 106)]
    with Guest(native + _HLT) as guest:
        exit_ = vs.run(guest.vsid, regs=list(zip(_ARGUMENTS, values, strict=True)))
        assert exit_.reason == mv.mv_exit_reason_t_hypercall
        assert isinstance(exit_.details, mv.mv_exit_hypercall_t)
        details = exit_.details
        assert (list(details.args), details.flags, details.cpl) == ([101, 102, 103, 104, 105], 0, 0)
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rip) == CODE
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vs.run(guest.vsid, iomem=bytes(4))
        answer = bytes([0x55] * mv.MV_EXIT_HYPERCALL_ANSWER_SIZE)
        assert vs.run(guest.vsid, iomem=answer).reason == mv.mv_exit_reason_t_hlt
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rax) == 0x5555_5555


def test_the_other_vendors_call_is_repaired_or_undefined() -> None:
    native, other = native_and_other()
    with Guest(other + _HLT) as guest:
        vm.quirks_set(guest.vmid, mv.MV_QUIRK_ALL & ~mv.MV_QUIRK_HYPERCALL_REPAIR)
        vs.run(guest.vsid, regs=[(mv.mv_reg_t_idtr_limit, 0)])
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_shutdown
        assert guest.memory[CODE : CODE + 3] == other
    with Guest(other + _HLT) as guest:
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hypercall
        assert guest.memory[CODE : CODE + 3] == native


@pytest.mark.parametrize("quirks", [mv.MV_QUIRK_ALL + 1, 1 << 63], ids=hex)
def test_unknown_quirks_are_refused(vmid: int, quirks: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vm.quirks_set(vmid, quirks)


def test_only_a_guest_vm_has_quirks(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.quirks_set(bad_vmid, mv.MV_QUIRK_ALL)


def test_quirks_are_set_again_and_again(vmid: int) -> None:
    for _ in range(0x1000):
        vm.quirks_set(vmid, 0)
        vm.quirks_set(vmid, mv.MV_QUIRK_ALL)
