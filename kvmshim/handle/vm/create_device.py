"""KVM_CREATE_DEVICE: x86 has one type of device, VFIO's, and there is no device assignment here."""

import errno

from kvmshim.abi.structs_gen import kvm_create_device
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm


def handle_vm_create_device(_: Vm, wanted: kvm_create_device) -> None:
    """KVM_CREATE_DEVICE, as of a Linux without VFIO. Errors: ENODEV (whatever the type)."""
    raise KvmError(errno.ENODEV, f"there is no device of type {wanted.type_}")
