"""KVM_TRANSLATE2: a guest's linear address for an access that its hypervisor makes in its place.

"KVM: x86: Introduce KVM_TRANSLATE2", a patch series of September 2024.
"""

import errno
from typing import Final

from kvmshim.abi import profiles
from kvmshim.abi.structs_gen import kvm_translation2
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op

KVM_TRANSLATE_FLAGS_SET_ACCESSED: Final = 1 << 0
KVM_TRANSLATE_FLAGS_SET_DIRTY: Final = 1 << 1
KVM_TRANSLATE_FLAGS_FORCE_SET_ACCESSED: Final = 1 << 2
KVM_TRANSLATE_ACCESS_WRITE: Final = 1 << 0
KVM_TRANSLATE_ACCESS_USER: Final = 1 << 1
KVM_TRANSLATE_ACCESS_EXEC: Final = 1 << 2

_FLAGS: Final = {
    KVM_TRANSLATE_FLAGS_SET_ACCESSED: mv.MV_PROBE_SET_ACCESSED,
    KVM_TRANSLATE_FLAGS_SET_DIRTY: mv.MV_PROBE_SET_DIRTY,
    KVM_TRANSLATE_FLAGS_FORCE_SET_ACCESSED: mv.MV_PROBE_FORCE_ACCESSED,
}
_ACCESS: Final = {
    KVM_TRANSLATE_ACCESS_WRITE: mv.MV_PROBE_WRITE,
    KVM_TRANSLATE_ACCESS_USER: mv.MV_PROBE_USER,
    KVM_TRANSLATE_ACCESS_EXEC: mv.MV_PROBE_EXECUTE,
}
_FAULTS: Final = {
    mv.MV_PROBE_FOUND: 0,
    mv.MV_PROBE_NOT_PRESENT: 1,
    mv.MV_PROBE_DENIED: 2,
    mv.MV_PROBE_RESERVED_BIT: 3,
    mv.MV_PROBE_NO_ADDRESS: 4,
    mv.MV_PROBE_NO_MEMORY: 5,
}
"""KVM_TRANSLATE_FAULT_*."""


def handle_vcpu_translate2(vcpu: Vcpu, asked: kvm_translation2) -> kvm_translation2:
    """KVM_TRANSLATE2. That there is no translation is told, and no failure; nothing is injected.

    Errors: EINVAL (an unknown flag or access; a dirty bit or force without accessed bits; a dirty
    bit without a write; with `--strict`, a write that executes).
    """
    if not _is_sound(asked.flags, asked.access):
        raise KvmError(errno.EINVAL, f"flags {asked.flags:#x}, access {asked.access:#x}")
    wanted = [flag for bit, flag in _FLAGS.items() if asked.flags & bit]
    wanted += [flag for bit, flag in _ACCESS.items() if asked.access & bit]
    found = vs_op.probe(vcpu.vsid, asked.linear_address, sum(wanted))
    asked.physical_address = found.gpa
    asked.valid = found.failure == mv.MV_PROBE_FOUND
    asked.error_code = _FAULTS[found.failure]
    asked.set_bits_succeeded = found.marked
    return asked


def _is_sound(flags: int, access: int) -> bool:
    if flags & ~sum(_FLAGS) or access & ~sum(_ACCESS):
        return False
    if flags and not flags & KVM_TRANSLATE_FLAGS_SET_ACCESSED:
        return False
    write = access & KVM_TRANSLATE_ACCESS_WRITE
    if profiles.is_strict() and write and access & KVM_TRANSLATE_ACCESS_EXEC:
        return False
    return bool(write) or not flags & KVM_TRANSLATE_FLAGS_SET_DIRTY
