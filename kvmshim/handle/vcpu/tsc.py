"""KVM_SET_TSC_KHZ and KVM_GET_TSC_KHZ, of a vCPU and of a VM.

The guest's time-stamp counter is computed from host time, so it can have any frequency. vCPUs of
one frequency stay synchronised, whenever it was set.
"""

import errno
from typing import Final

from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from microv.ops import pp as pp_op
from microv.ops import vs as vs_op

_MAX_KHZ: Final = (1 << 31) - 1
"""Exclusive; KVM_GET_TSC_KHZ returns a positive number."""


def handle_vcpu_set_tsc_khz(vcpu: Vcpu, khz: int, _: Caller) -> None:
    """KVM_SET_TSC_KHZ of a vCPU; 0 is the host's frequency. Errors: EINVAL (2^31 - 1 or more)."""
    vs_op.tsc_set_khz(vcpu.vsid, _checked(khz))


def handle_vcpu_get_tsc_khz(vcpu: Vcpu, _: int, __: Caller) -> int:
    """KVM_GET_TSC_KHZ of a vCPU. Never fails."""
    return vs_op.tsc_get_khz(vcpu.vsid)


def handle_vm_set_tsc_khz(vm: Vm, khz: int, _: Caller) -> None:
    """KVM_SET_TSC_KHZ of a VM: for vCPUs made from now on. Errors as for a vCPU."""
    vm.tsc_khz = _checked(khz)


def handle_vm_get_tsc_khz(vm: Vm, _: int, __: Caller) -> int:
    """KVM_GET_TSC_KHZ of a VM. Never fails."""
    return vm.tsc_khz or pp_op.tsc_get_khz()


def _checked(khz: int) -> int:
    khz &= 0xFFFF_FFFF
    if khz >= _MAX_KHZ:
        raise KvmError(errno.EINVAL, f"no counter runs at {khz} kHz")
    return khz or pp_op.tsc_get_khz()
