"""KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_X86_SETUP_MCE, KVM_X86_SET_MCE: machine checks from outside.

SDM vol. 3, "Machine-Check Architecture"; what KVM does with an error follows
kvm_vcpu_ioctl_x86_set_mce in `arch/x86/kvm/x86.c`. Interrupts of corrected errors (CMCI) are there,
as in KVM, for Intel's processors.
"""

import errno
from ctypes import c_uint64
from typing import Final

from kvmshim.abi import limits
from kvmshim.abi.msr_index import (
    MSR_IA32_MC0_CTL,
    MSR_IA32_MC0_CTL2,
    MSR_IA32_MCG_CAP,
    MSR_IA32_MCG_CTL,
    MSR_IA32_MCG_STATUS,
)
from kvmshim.abi.structs_gen import kvm_x86_mce
from kvmshim.errors import KvmError
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from microv import abi_gen as mv
from microv.ops import pp as pp_op
from microv.ops import vs as vs_op

_MCG_CTL_P: Final = 1 << 8
_MCG_CMCI_P: Final = 1 << 10
_MCG_SER_P: Final = 1 << 24
_CTL2_CMCI_EN: Final = 1 << 30
_BANKS: Final = 0xFF
_EXTENDED: Final = 0xFF_0000
_STATUS_VAL, _STATUS_OVER, _STATUS_UC = 1 << 63, 1 << 62, 1 << 61
_STATUS_PCC, _STATUS_S, _STATUS_AR = 1 << 57, 1 << 56, 1 << 55
_MCG_STATUS_MCIP: Final = 1 << 2
_CR4_MCE: Final = 1 << 6
_ALL_ON: Final = (1 << 64) - 1
_MC: Final = 18
_GENUINE: Final = int.from_bytes(b"Genu", "little")


def handle_system_x86_get_mce_cap_supported(_: System) -> c_uint64:
    """KVM_X86_GET_MCE_CAP_SUPPORTED: the bits of IA32_MCG_CAP that can be set up."""
    return c_uint64(_supported())


def handle_vcpu_x86_setup_mce(vcpu: Vcpu, wanted: c_uint64) -> None:
    """KVM_X86_SETUP_MCE: IA32_MCG_CAP, and all reporting on.

    Errors: EINVAL (no bank, more than 32, or a capability that is not supported).
    """
    capability = wanted.value
    banks = capability & _BANKS
    if not 0 < banks <= limits.KVM_MAX_MCE_BANKS:
        raise KvmError(errno.EINVAL, f"{banks} banks")
    if capability & ~(_supported() | _BANKS | _EXTENDED):
        raise KvmError(errno.EINVAL, f"MCG_CAP {capability:#x} is not supported")
    on = [(MSR_IA32_MC0_CTL + 4 * bank, _ALL_ON) for bank in range(banks)]
    if capability & _MCG_CTL_P:
        on.append((MSR_IA32_MCG_CTL, _ALL_ON))
    silent = [(MSR_IA32_MC0_CTL2 + bank, 0) for bank in range(banks)]
    vs_op.msr_set_list(vcpu.vsid, [*silent, (MSR_IA32_MCG_CAP, capability), *on])


def handle_vcpu_x86_set_mce(vcpu: Vcpu, error: kvm_x86_mce) -> None:
    """KVM_X86_SET_MCE: puts an error into its bank. One that was not corrected raises #MC, where
    the guest has reporting on; the guest shuts down if it cannot take #MC. One that needs no action
    raises the interrupt of corrected errors, where the guest has enabled that.

    Errors: EINVAL (no such bank, or an error that is not valid).
    """
    capability = vs_op.msr_get(vcpu.vsid, MSR_IA32_MCG_CAP)
    if error.bank >= capability & _BANKS or not error.status & _STATUS_VAL:
        raise KvmError(errno.EINVAL, f"bank {error.bank}, status {error.status:#x}")
    first = MSR_IA32_MC0_CTL + 4 * error.bank
    ctl, old = vs_op.msr_get_list(vcpu.vsid, [first, first + 1])
    if not error.status & _STATUS_UC:
        _note_corrected(vcpu, error, first, old)
    elif _asks_for_no_action(error):
        _store(vcpu, error, first, error.status)
        vs_op.msr_set(vcpu.vsid, MSR_IA32_MCG_STATUS, error.mcg_status)
        _interrupt(vcpu, error.bank)
    elif ctl == _ALL_ON and _reports(vcpu, capability):
        _raise(vcpu, error, first, old)


def _supported() -> int:
    """Bits of IA32_MCG_CAP beside the number of banks."""
    intel = pp_op.cpuid_get_supported(0).ebx == _GENUINE
    return _MCG_CTL_P | _MCG_SER_P | (_MCG_CMCI_P if intel else 0)


def _interrupt(vcpu: Vcpu, bank: int) -> None:
    """Without the capability the second control of a bank is 0."""
    ctl2 = vs_op.msr_get(vcpu.vsid, MSR_IA32_MC0_CTL2 + bank)
    if ctl2 & _CTL2_CMCI_EN and vcpu.vm.irqchip is not Irqchip.NONE:
        vs_op.lvt_raise(vcpu.vsid, mv.mv_lvt_t_cmci)


def _note_corrected(vcpu: Vcpu, error: kvm_x86_mce, first: int, old: int) -> None:
    if old & _STATUS_VAL and old & _STATUS_UC:
        vs_op.msr_set(vcpu.vsid, first + 1, old | _STATUS_OVER)
    else:
        _store(vcpu, error, first, error.status | (_STATUS_OVER if old & _STATUS_VAL else 0))


def _asks_for_no_action(error: kvm_x86_mce) -> bool:
    """Uncorrected, no action required (UCNA)."""
    return not error.mcg_status and not error.status & (_STATUS_PCC | _STATUS_S | _STATUS_AR)


def _reports(vcpu: Vcpu, capability: int) -> bool:
    return not capability & _MCG_CTL_P or vs_op.msr_get(vcpu.vsid, MSR_IA32_MCG_CTL) == _ALL_ON


def _raise(vcpu: Vcpu, error: kvm_x86_mce, first: int, old: int) -> None:
    in_progress = vs_op.msr_get(vcpu.vsid, MSR_IA32_MCG_STATUS) & _MCG_STATUS_MCIP
    if in_progress or not vs_op.reg_get(vcpu.vsid, mv.mv_reg_t_cr4) & _CR4_MCE:
        events = vs_op.event_get_all(vcpu.vsid)
        events.flags |= mv.MV_EVENT_TRIPLE_FAULT
        vs_op.event_set_all(vcpu.vsid, events)
        return
    _store(vcpu, error, first, error.status | (_STATUS_OVER if old & _STATUS_VAL else 0))
    vs_op.msr_set(vcpu.vsid, MSR_IA32_MCG_STATUS, error.mcg_status)
    vs_op.inject_exception(vcpu.vsid, _MC)


def _store(vcpu: Vcpu, error: kvm_x86_mce, first: int, status: int) -> None:
    values = [(first + 2, error.addr), (first + 3, error.misc), (first + 1, status)]
    vs_op.msr_set_list(vcpu.vsid, values)
