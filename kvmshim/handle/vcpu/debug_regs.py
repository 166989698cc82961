"""KVM_GET_DEBUGREGS and KVM_SET_DEBUGREGS: DR0 to DR3, DR6, DR7."""

import errno
from typing import Final

from kvmshim.abi.structs_gen import kvm_debugregs
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op

_ADDRESSES: Final = (mv.mv_reg_t_dr0, mv.mv_reg_t_dr1, mv.mv_reg_t_dr2, mv.mv_reg_t_dr3)


def handle_vcpu_get_debugregs(vcpu: Vcpu) -> kvm_debugregs:
    """KVM_GET_DEBUGREGS. Never fails."""
    registers = (*_ADDRESSES, mv.mv_reg_t_dr6, mv.mv_reg_t_dr7)
    *addresses, dr6, dr7 = vs_op.reg_get_list(vcpu.vsid, registers)
    found = kvm_debugregs(dr6=dr6, dr7=dr7)
    for number, address in enumerate(addresses):
        found.db[number] = address
    return found


def handle_vcpu_set_debugregs(vcpu: Vcpu, registers: kvm_debugregs) -> None:
    """KVM_SET_DEBUGREGS. Bits that DR6 and DR7 have fixed keep their values.

    Errors: EINVAL (a flag; bits 63:32 of DR6 or DR7); nothing is changed then.
    """
    if registers.flags:
        raise KvmError(errno.EINVAL, f"flags {registers.flags:#x} are not known")
    if registers.dr6 >> 32 or registers.dr7 >> 32:
        raise KvmError(
            errno.EINVAL, f"DR6 {registers.dr6:#x} or DR7 {registers.dr7:#x} is too wide"
        )
    vs_op.reg_set_list(
        vcpu.vsid,
        [
            *zip(_ADDRESSES, registers.db, strict=True),
            (mv.mv_reg_t_dr6, registers.dr6),
            (mv.mv_reg_t_dr7, registers.dr7),
        ],
    )
