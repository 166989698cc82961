"""KVM_GET_FPU and KVM_SET_FPU: the x87 and SSE registers.

The engine keeps them as an FXSAVE image (SDM vol. 1, "FXSAVE Area"); `kvm_fpu` has the same
fields in another order. As in Linux, `mxcsr` is neither read nor written by these two.
"""

import struct
from ctypes import memmove
from typing import Final

from kvmshim.abi.structs_gen import kvm_fpu
from kvmshim.objects.vcpu import Vcpu
from microv.ops import vs as vs_op

_HEAD: Final = struct.Struct("<HHBxHQQ")
"""FCW, FSW, abridged FTW, FOP, FIP, FDP: the first 24 bytes."""

_ST: Final = slice(32, 160)
"""ST0 to ST7, 16 bytes each."""

_XMM: Final = slice(160, 416)
"""XMM0 to XMM15."""


def handle_vcpu_get_fpu(vcpu: Vcpu) -> kvm_fpu:
    """KVM_GET_FPU. Never fails."""
    image = vs_op.fpu_get_all(vcpu.vsid)
    fcw, fsw, ftw, fop, fip, fdp = _HEAD.unpack_from(image)
    fpu = kvm_fpu(fcw=fcw, fsw=fsw, ftwx=ftw, last_opcode=fop, last_ip=fip, last_dp=fdp)
    memmove(fpu.fpr, image[_ST], _ST.stop - _ST.start)
    memmove(fpu.xmm, image[_XMM], _XMM.stop - _XMM.start)
    return fpu


def handle_vcpu_set_fpu(vcpu: Vcpu, fpu: kvm_fpu) -> None:
    """KVM_SET_FPU. Takes any values, as KVM does."""
    image = bytearray(vs_op.fpu_get_all(vcpu.vsid))
    _HEAD.pack_into(
        image,
        0,
        fpu.fcw,
        fpu.fsw,
        fpu.ftwx,
        fpu.last_opcode,
        fpu.last_ip,
        fpu.last_dp,
    )
    image[_ST] = bytes(fpu.fpr)
    image[_XMM] = bytes(fpu.xmm)
    vs_op.fpu_set_all(vcpu.vsid, bytes(image))
