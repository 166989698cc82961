"""How a dirty ring may be mapped: shared, and not to be executed. KVM refuses else, with EINVAL.

Only the command of `kvmshim run` is, and only where it can have the filter for that (see
`mapping_filter`): it would not outlive the server by much.
"""

from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.limits import KVM_DIRTY_RING_MAX_ENTRIES, PAGE_SIZE
from kvmshim.abi.structs_gen import kvm_dirty_gfn
from kvmshim.device.caller import RequestCaller
from kvmshim.device.kept_files import KeptFiles
from kvmshim.dispatch.request import Kept
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu

_START: Final = kvm.KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE
_LARGEST: Final = KVM_DIRTY_RING_MAX_ENTRIES * len(bytes(kvm_dirty_gfn()))


def judge(caller: RequestCaller, kept: Kept, kept_files: KeptFiles) -> None:
    """The client of `caller` is about to have the file of `kept`: if that has a ring, mappings of
    the client are judged from now on."""
    if not isinstance(kept, Vcpu) or not kept.vm.dirty_ring_size:
        return

    def refuses(tid: int, fd: int, offset: int, size: int) -> bool:
        try:
            vcpu = kept_files.find(tid, fd)
        except KvmError:
            return False
        ends = (offset, offset + -(-size // PAGE_SIZE) * PAGE_SIZE - 1)
        return isinstance(vcpu, Vcpu) and any(is_in_ring(vcpu, end) for end in ends)

    caller.judge_mappings(_START, _START + _LARGEST, refuses)


def is_in_ring(vcpu: Vcpu, offset: int) -> bool:
    """Whether a byte of the vCPU's file is one of its ring."""
    return 0 <= offset - _START < vcpu.vm.dirty_ring_size
