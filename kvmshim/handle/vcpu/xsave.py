"""KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_SET_XSAVE, KVM_GET_XCRS, KVM_SET_XCRS.

`struct kvm_xsave` is an XSAVE area in standard format (SDM vol. 1, "XSAVE Area"), and so is what
the engine exchanges. All components end before 4096 bytes, so the first two are the same.
"""

import errno
from typing import Final

from kvmshim.abi.structs_gen import kvm_xcrs, kvm_xsave
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op
from microv.status import MvError

_XCR0: Final = 0
_MAX_XCRS: Final = 16
_RESERVED: Final = slice(528, 576)
"""Bytes of the header that XRSTOR ignores, and KVM does not."""


def handle_vcpu_get_xsave(vcpu: Vcpu) -> kvm_xsave:
    """KVM_GET_XSAVE, KVM_GET_XSAVE2. Never fails."""
    return kvm_xsave.from_buffer_copy(vs_op.xsave_get_all(vcpu.vsid))


def handle_vcpu_set_xsave(vcpu: Vcpu, xsave: kvm_xsave) -> None:
    """KVM_SET_XSAVE. A component that XSTATE_BV does not name gets its initial configuration.

    Errors: EINVAL (XSTATE_BV names an unknown component; compacted format; reserved bits of the
    header or of MXCSR); nothing is changed then.
    """
    area = bytes(xsave)
    if any(area[_RESERVED]):
        raise KvmError(errno.EINVAL, "reserved bytes of the XSAVE header are not 0")
    try:
        vs_op.xsave_set_all(vcpu.vsid, area)
    except MvError as error:
        raise KvmError(errno.EINVAL, "no XSAVE area of this processor") from error


def handle_vcpu_get_xcrs(vcpu: Vcpu) -> kvm_xcrs:
    """KVM_GET_XCRS: XCR0, the only one there is. Never fails."""
    found = kvm_xcrs(nr_xcrs=1)
    found.xcrs[0].xcr = _XCR0
    found.xcrs[0].value = vs_op.reg_get(vcpu.vsid, mv.mv_reg_t_xcr0)
    return found


def handle_vcpu_set_xcrs(vcpu: Vcpu, xcrs: kvm_xcrs) -> None:
    """KVM_SET_XCRS: the first entry for XCR0 counts; others are ignored.

    Errors: EINVAL (a flag; more than 16 entries; a value that XCR0 cannot have with the CPUID that
    was set).
    """
    if xcrs.nr_xcrs > _MAX_XCRS or xcrs.flags:
        raise KvmError(errno.EINVAL, f"{xcrs.nr_xcrs} registers, flags {xcrs.flags:#x}")
    entries = list(xcrs.xcrs)[: xcrs.nr_xcrs]
    value = next((entry.value for entry in entries if entry.xcr == _XCR0), None)
    if value is None:
        return
    try:
        vs_op.reg_set(vcpu.vsid, mv.mv_reg_t_xcr0, value)
    except MvError as error:
        raise KvmError(errno.EINVAL, f"XCR0 cannot be {value:#x}") from error
