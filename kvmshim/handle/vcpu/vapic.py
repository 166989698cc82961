"""KVM_SET_VAPIC_ADDR: where a guest that its client has patched would find its task priority.

`Documentation/virt/kvm/api.rst`. A client patches the instructions that KVM_EXIT_TPR_ACCESS tells
it of. None are told here (KVM_CAP_VAPIC is 0), so nobody reads the place and it is not written;
but clients with a local APIC in the engine set it all the same, to 0 at each reset.
"""

import errno
from ctypes import c_uint32, c_uint64, sizeof

from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip


def handle_vcpu_set_vapic_addr(vcpu: Vcpu, address: c_uint64) -> None:
    """KVM_SET_VAPIC_ADDR; 0 is no place.

    Errors: EINVAL (no local APIC in the engine; no memory there).
    """
    if vcpu.vm.irqchip is Irqchip.NONE:
        raise KvmError(errno.EINVAL, "the vCPU has no local APIC")
    gpa = address.value
    with vcpu.vm.lock:
        backed = any(slot.overlaps(0, gpa, sizeof(c_uint32)) for slot in vcpu.vm.slots.values())
    if gpa and not backed:
        raise KvmError(errno.EINVAL, f"there is no memory at {gpa:#x}")
