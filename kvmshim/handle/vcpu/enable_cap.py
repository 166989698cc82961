"""KVM_ENABLE_CAP of a vCPU: what a vCPU does only when its client asks for it."""

import errno
from collections.abc import Callable
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_enable_cap
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from microv.ops import vs as vs_op


def handle_vcpu_enable_cap(vcpu: Vcpu, wanted: kvm_enable_cap) -> None:
    """KVM_ENABLE_CAP. Errors: EINVAL (unknown capability, a flag)."""
    enable = _ENABLE.get(wanted.cap)
    if enable is None or wanted.flags:
        raise KvmError(errno.EINVAL, f"capability {wanted.cap}, flags {wanted.flags:#x}")
    enable(vcpu, wanted.args[0])


def _enforce_pv_feature_cpuid(vcpu: Vcpu, enforce: int) -> None:
    """The guest has no more of KVM's MSRs and hypercalls than its CPUID announces; or all again."""
    vs_op.paravirt_enforce(vcpu.vsid, enforce=bool(enforce))


def _hyperv_enforce_cpuid(vcpu: Vcpu, enforce: int) -> None:
    """The same of Hyper-V's."""
    vs_op.hyperv_enforce(vcpu.vsid, enforce=bool(enforce))


def _hyperv_synic(vcpu: Vcpu, _: int) -> None:
    """A synthetic interrupt controller; EINVAL without a local APIC in the VM."""
    if vcpu.vm.irqchip is Irqchip.NONE:
        raise KvmError(errno.EINVAL, "no local APIC")
    vs_op.hyperv_synic_activate(vcpu.vsid, keeps_pages=False)


def _hyperv_synic2(vcpu: Vcpu, argument: int) -> None:
    """The same, and pages that the guest names stay as they are; there is no argument."""
    if argument or vcpu.vm.irqchip is Irqchip.NONE:
        raise KvmError(errno.EINVAL, f"argument {argument:#x}, or no local APIC")
    vs_op.hyperv_synic_activate(vcpu.vsid, keeps_pages=True)


_ENABLE: Final[dict[int, Callable[[Vcpu, int], None]]] = {
    kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID: _enforce_pv_feature_cpuid,
    kvm.KVM_CAP_HYPERV_ENFORCE_CPUID: _hyperv_enforce_cpuid,
    kvm.KVM_CAP_HYPERV_SYNIC: _hyperv_synic,
    kvm.KVM_CAP_HYPERV_SYNIC2: _hyperv_synic2,
}
