"""KVM_X86_SET_MSR_FILTER: which MSRs the guest may read and write.

`Documentation/virt/kvm/api.rst`, KVM_X86_SET_MSR_FILTER. An access that is denied raises #GP, or
leaves with KVM_EXIT_X86_RDMSR or _WRMSR where KVM_CAP_X86_USER_SPACE_MSR says so. The MSRs of the
x2APIC are never kept from the guest, and the client's own accesses are not filtered.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_msr_filter, kvm_msr_filter_range
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from microv import abi_gen as mv
from microv.ops import vm as vm_op

_KINDS: Final = {
    kvm.KVM_MSR_FILTER_READ: mv.MV_MSR_FILTER_READ,
    kvm.KVM_MSR_FILTER_WRITE: mv.MV_MSR_FILTER_WRITE,
}
_WORD_BITS: Final = 64


def handle_vm_x86_set_msr_filter(vm: Vm, wanted: kvm_msr_filter, caller: Caller) -> None:
    """KVM_X86_SET_MSR_FILTER. Replaces the filter for all vCPUs; the first range that has an MSR
    counts, and a range without MSRs is none.

    Errors: EINVAL (an unknown flag; a range for neither reads nor writes, or with more than 12288
    MSRs; denying by default without any range), EFAULT (a bitmap); nothing is changed then.
    """
    deny = wanted.flags & kvm.KVM_MSR_FILTER_DEFAULT_DENY != 0
    if wanted.flags & ~kvm.KVM_MSR_FILTER_DEFAULT_DENY:
        raise KvmError(errno.EINVAL, f"flags {wanted.flags:#x} are not known")
    ranges = [range_ for range_ in wanted.ranges if range_.nmsrs]
    if deny and not ranges:
        raise KvmError(errno.EINVAL, "every MSR would be denied")
    found = [_read_range(range_, caller) for range_ in ranges]
    with vm.lock:
        vm_op.msr_filter_set(vm.vmid, found, deny=deny)


def _read_range(wanted: kvm_msr_filter_range, caller: Caller) -> tuple[int, int, int, bytes]:
    if not wanted.flags or wanted.flags & ~sum(_KINDS):
        raise KvmError(errno.EINVAL, f"flags {wanted.flags:#x} of a range are not known")
    size = -(-wanted.nmsrs // _WORD_BITS) * _WORD_BITS // 8
    if size > kvm.KVM_MSR_FILTER_MAX_BITMAP_SIZE:
        raise KvmError(errno.EINVAL, f"{wanted.nmsrs} MSRs in a range")
    kinds = sum(kind for flag, kind in _KINDS.items() if wanted.flags & flag)
    return kinds, wanted.base, wanted.nmsrs, caller.copy_in(wanted.bitmap, size)
