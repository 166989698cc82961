"""What a client places before the first vCPU: KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR,
KVM_SET_BOOT_CPU_ID.

The first two lend guest-physical pages to Intel's processors that cannot run real mode. The engine
can, so it takes none: the addresses are checked as KVM checks them, and forgotten.
"""

import errno
from ctypes import c_uint64
from typing import Final

from kvmshim.abi import limits
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller

_LAST_TSS_ADDRESS: Final = (1 << 32) - 3 * limits.PAGE_SIZE


def handle_vm_set_tss_addr(_: Vm, address: int, __: Caller) -> None:
    """KVM_SET_TSS_ADDR. Errors: EINVAL (the three pages do not end below 4 GiB)."""
    if address > _LAST_TSS_ADDRESS:
        raise KvmError(errno.EINVAL, f"{address:#x} leaves no three pages below 4 GiB")


def check_no_vcpus(vm: Vm) -> None:
    """Errors: EINVAL (the VM has had a vCPU)."""
    with vm.lock:
        if vm.vcpus:
            raise KvmError(errno.EINVAL, "the VM has a vCPU")


def handle_vm_set_identity_map_addr(_: Vm, __: c_uint64) -> None:
    """KVM_SET_IDENTITY_MAP_ADDR. Any address will do.

    Errors: EINVAL (the VM has had a vCPU; said before EFAULT).
    """


def handle_vm_set_boot_cpu_id(vm: Vm, vcpu_id: int, _: Caller) -> None:
    """KVM_SET_BOOT_CPU_ID: which vCPU begins with IA32_APIC_BASE.BSP; vCPU 0 unless told.

    Errors: EBUSY (the VM has had a vCPU).
    """
    with vm.lock:
        if vm.vcpus:
            raise KvmError(errno.EBUSY, "the VM has a vCPU")
        vm.boot_vcpu_id = vcpu_id & 0xFFFF_FFFF
