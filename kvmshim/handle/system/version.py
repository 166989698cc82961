"""KVM_GET_API_VERSION and KVM_GET_VCPU_MMAP_SIZE: what every client asks first."""

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.objects.system import System


def handle_system_get_api_version(_: System) -> int:
    """KVM_GET_API_VERSION: 12, for ever."""
    return kvm.KVM_API_VERSION


def handle_system_get_vcpu_mmap_size(_: System) -> int:
    """KVM_GET_VCPU_MMAP_SIZE: bytes of the mapping of a vCPU's file."""
    return limits.VCPU_MMAP_SIZE
