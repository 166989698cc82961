"""KVM_GET_FPU, KVM_SET_FPU: x87 and SSE registers in the layout of FXSAVE.

As in Linux the MXCSR field is not carried.
"""

import errno
from ctypes import Array, addressof, memmove
from typing import Any

import pytest

from kvmshim.abi.ioctls_gen import KVM_GET_FPU, KVM_SET_FPU
from kvmshim.abi.structs_gen import kvm_fpu
from tests.kvm import System, Vcpu, Vm, refused


def fill(field: Array[Any], data: bytes) -> None:
    """Puts `data` at the start of an array of a structure."""
    memmove(addressof(field), data, len(data))


def test_control_word_at_power_on_masks_all_exceptions(vcpu: Vcpu) -> None:
    fpu = vcpu.fpu()
    assert (fpu.fcw, fpu.fsw, fpu.ftwx) == (0x37F, 0, 0)


def test_registers_at_power_on_are_zero(vcpu: Vcpu) -> None:
    fpu = vcpu.fpu()
    assert (bytes(fpu.fpr), bytes(fpu.xmm)) == (bytes(128), bytes(256))


def test_set_then_get_is_the_identity(vcpu: Vcpu) -> None:
    fpu = vcpu.fpu()
    fpu.fcw, fpu.fsw, fpu.ftwx, fpu.last_opcode = 0x27F, 0x3800, 0x81, 0x123
    fpu.last_ip, fpu.last_dp = 0x1122_3344_5566, 0x6677_8899_AABB
    fill(fpu.xmm, bytes(range(256)))
    fill(fpu.fpr, b"".join(bytes(range(i, i + 10)) + bytes(6) for i in range(8)))
    vcpu.set_fpu(fpu)
    assert bytes(vcpu.fpu()) == bytes(fpu)


def test_vcpus_have_registers_of_their_own(vm: Vm) -> None:
    first, second = vm.create_vcpu(0), vm.create_vcpu(1)
    fpu = first.fpu()
    fill(fpu.xmm, b"\1")
    first.set_fpu(fpu)
    assert bytes(second.fpu().xmm) == bytes(256)


@pytest.mark.parametrize("number", [KVM_GET_FPU, KVM_SET_FPU], ids=hex)
def test_vm_has_no_fpu(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_fpu())


@pytest.mark.parametrize("number", [KVM_GET_FPU, KVM_SET_FPU], ids=hex)
def test_system_has_no_fpu(system: System, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_fpu())
