"""KVM_GET_REGS and KVM_SET_REGS: general registers, RIP, RFLAGS."""

from typing import Final

from kvmshim.abi.structs_gen import kvm_regs
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op

_REGISTERS: Final[dict[str, int]] = {
    "rax": mv.mv_reg_t_rax,
    "rbx": mv.mv_reg_t_rbx,
    "rcx": mv.mv_reg_t_rcx,
    "rdx": mv.mv_reg_t_rdx,
    "rsi": mv.mv_reg_t_rsi,
    "rdi": mv.mv_reg_t_rdi,
    "rsp": mv.mv_reg_t_rsp,
    "rbp": mv.mv_reg_t_rbp,
    "r8": mv.mv_reg_t_r8,
    "r9": mv.mv_reg_t_r9,
    "r10": mv.mv_reg_t_r10,
    "r11": mv.mv_reg_t_r11,
    "r12": mv.mv_reg_t_r12,
    "r13": mv.mv_reg_t_r13,
    "r14": mv.mv_reg_t_r14,
    "r15": mv.mv_reg_t_r15,
    "rip": mv.mv_reg_t_rip,
    "rflags": mv.mv_reg_t_rflags,
}


def handle_vcpu_get_regs(vcpu: Vcpu) -> kvm_regs:
    """KVM_GET_REGS. Never fails."""
    values = vs_op.reg_get_list(vcpu.vsid, list(_REGISTERS.values()))
    return kvm_regs(**dict(zip(_REGISTERS, values, strict=True)))


def handle_vcpu_set_regs(vcpu: Vcpu, regs: kvm_regs) -> None:
    """KVM_SET_REGS. Takes any values; bit 1 of RFLAGS is always set, as in hardware.

    A pending exception is dropped: the registers it belonged to are gone.
    """
    vs_op.reg_set_list(
        vcpu.vsid, [(register, getattr(regs, name)) for name, register in _REGISTERS.items()]
    )
