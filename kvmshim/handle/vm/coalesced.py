"""KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO: writes that need not leave at once.

`Documentation/virt/kvm/api.rst`, KVM_REGISTER_COALESCED_MMIO; `virt/kvm/coalesced_mmio.c`. They
wait in the third page of `kvm_run`, which is one for all vCPUs; a write that finds no room leaves.
"""

import errno

from kvmshim.abi.structs_gen import kvm_coalesced_mmio_zone
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm


def handle_vm_register_coalesced_mmio(vm: Vm, zone: kvm_coalesced_mmio_zone) -> None:
    """KVM_REGISTER_COALESCED_MMIO, of memory or (`pio` 1) of ports.

    Errors: EINVAL (`pio` neither 0 nor 1), ENOSPC (1000 zones).
    """
    if not vm.door.add_zone(zone.addr, zone.size, port=_is_port(zone)):
        raise KvmError(errno.ENOSPC, "there are too many zones")


def handle_vm_unregister_coalesced_mmio(vm: Vm, zone: kvm_coalesced_mmio_zone) -> None:
    """KVM_UNREGISTER_COALESCED_MMIO: zones that hold all of the given one are there no more.

    Errors: EINVAL (`pio` neither 0 nor 1).
    """
    vm.door.remove_zones(zone.addr, zone.size, port=_is_port(zone))


def _is_port(zone: kvm_coalesced_mmio_zone) -> bool:
    if zone.pio not in (0, 1):
        raise KvmError(errno.EINVAL, f"pio {zone.pio:#x} is neither 0 nor 1")
    return bool(zone.pio)
