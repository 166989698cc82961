"""A VM whose pages can be private, and its guest_memfd."""

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi import structs_gen as abi
from tests.kvm import Descriptor, Region, Vm


class GuestMemfd(Descriptor):
    """A guest_memfd of a VM, closed with it at the latest."""

    def __init__(self, vm: Vm, size: int) -> None:
        super().__init__(vm.ioctl(nr.KVM_CREATE_GUEST_MEMFD, abi.kvm_create_guest_memfd(size=size)))
        vm.owned.callback(self.close)


def set_region2(
    vm: Vm,
    region: Region,
    memory: int = 0,
    *,
    slot: int = 1,
    gpa: int,
    size: int | None = None,
    offset: int = 0,
    flags: int = kvm.KVM_MEM_GUEST_MEMFD,
) -> None:
    """KVM_SET_USER_MEMORY_REGION2 with the guest_memfd `memory` from `offset` on."""
    wanted = abi.kvm_userspace_memory_region2(
        slot=slot,
        flags=flags,
        guest_phys_addr=gpa,
        memory_size=region.size if size is None else size,
        userspace_addr=region.address,
        guest_memfd=memory,
        guest_memfd_offset=offset,
    )
    vm.ioctl(nr.KVM_SET_USER_MEMORY_REGION2, wanted)


def set_private(vm: Vm, gpa: int, size: int, *, private: bool = True) -> None:
    """KVM_SET_MEMORY_ATTRIBUTES."""
    attributes = kvm.KVM_MEMORY_ATTRIBUTE_PRIVATE if private else 0
    wanted = abi.kvm_memory_attributes(address=gpa, size=size, attributes=attributes)
    vm.ioctl(nr.KVM_SET_MEMORY_ATTRIBUTES, wanted)
