"""KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_SET_XSAVE: the whole state of x87 and vectors."""

import errno
import struct
from ctypes import sizeof

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_SET_XSAVE
from kvmshim.abi.structs_gen import kvm_xsave
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

FCW, MXCSR, XMM, XSTATE_BV, XCOMP_BV, RESERVED = 0, 24, 160, 512, 520, 528
X87, SSE = 1 << 0, 1 << 1


def xsave(vcpu: Vcpu, number: int = KVM_GET_XSAVE) -> kvm_xsave:
    found = kvm_xsave()
    vcpu.ioctl(number, found)
    return found


def area(*parts: tuple[int, bytes], of: bytes = b"") -> kvm_xsave:
    """An area with bytes at offsets; power-on control words unless told otherwise."""
    image = bytearray(of or bytes(sizeof(kvm_xsave)))
    if not of:
        struct.pack_into("<H", image, FCW, 0x37F)
        struct.pack_into("<I", image, MXCSR, 0x1F80)
    for offset, part in parts:
        image[offset : offset + len(part)] = part
    return kvm_xsave.from_buffer_copy(image)


def quad(value: int) -> bytes:
    return struct.pack("<Q", value)


def test_capabilities_are_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_XSAVE) == 1
    assert system.check_extension(kvm.KVM_CAP_XSAVE2) == sizeof(kvm_xsave) == 4096


def test_control_words_at_power_on(vcpu: Vcpu) -> None:
    image = bytes(xsave(vcpu))
    fcw, mxcsr = struct.unpack_from("<H22xI", image)
    assert (fcw, mxcsr) == (0x37F, 0x1F80)


def test_both_numbers_give_the_same(vcpu: Vcpu) -> None:
    assert bytes(xsave(vcpu, KVM_GET_XSAVE2)) == bytes(xsave(vcpu))


def test_get_then_set_then_get_is_the_identity(machine: Machine) -> None:
    machine.load("mov eax, 0x600; mov cr4, eax; pcmpeqd xmm3, xmm3; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    saved = xsave(machine.vcpu)
    other = machine.vm.create_vcpu(1)
    other.ioctl(KVM_SET_XSAVE, saved)
    assert bytes(xsave(other)) == bytes(saved)
    assert bytes(saved)[XMM + 48 : XMM + 64] == b"\xff" * 16


def test_registers_are_those_of_kvm_get_fpu(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_XSAVE, area((XSTATE_BV, quad(X87 | SSE)), (XMM, bytes(range(256)))))
    fpu = vcpu.fpu()
    assert (fpu.fcw, bytes(fpu.xmm)) == (0x37F, bytes(range(256)))


def test_unnamed_components_get_their_initial_configuration(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_XSAVE, area((XSTATE_BV, quad(SSE)), (XMM, b"\1" * 256)))
    vcpu.ioctl(KVM_SET_XSAVE, area((XSTATE_BV, quad(X87)), (XMM, b"\2" * 256)))
    assert bytes(vcpu.fpu().xmm) == bytes(256)


REFUSED = {
    "unknown component": (XSTATE_BV, quad(1 << 62)),
    "compacted format": (XCOMP_BV, quad(1 << 63 | 3)),
    "reserved byte": (RESERVED, b"\1"),
    "last reserved byte": (RESERVED + 47, b"\1"),
    "reserved bit of MXCSR": (MXCSR, struct.pack("<I", 0x8000_1F80)),
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(vcpu: Vcpu, wrong: tuple[int, bytes]) -> None:
    vcpu.ioctl(KVM_SET_XSAVE, area((XSTATE_BV, quad(X87 | SSE)), (XMM, b"\1" * 256)))
    before = bytes(xsave(vcpu))
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_XSAVE, area((XSTATE_BV, quad(X87 | SSE)), wrong))
    assert bytes(xsave(vcpu)) == before


@pytest.mark.parametrize("number", [KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_SET_XSAVE], ids=hex)
def test_only_a_vcpu_has_it(system: System, vm: Vm, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_xsave())
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_xsave())


HALF_WAY = 500


def test_vectors_move_to_another_vcpu_in_the_middle_of_a_loop(machine: Machine) -> None:
    """The loop runs often enough to be translated; its sums are in XMM registers all the time."""
    source = """
        mov rax, cr4; or eax, 0x600; mov cr4, rax
        mov ecx, 1000; mov eax, 3; movd xmm1, eax; pxor xmm2, xmm2; cvtsi2sd xmm3, eax
        again: paddq xmm2, xmm1; addsd xmm4, xmm3
        cmp ecx, 500; jne 1f; out 0x10, al; 1: dec ecx; jnz again
        movq rbx, xmm2; cvttsd2si rdx, xmm4; hlt
    """
    machine.load(source, Mode.LONG)
    vcpu = machine.vcpu
    assert vcpu.run() == kvm.KVM_EXIT_IO
    vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        vcpu.run()
    vcpu.state.immediate_exit = 0
    saved = xsave(vcpu)
    assert struct.unpack_from("<Q", bytes(saved), XMM + 2 * 16) == (3 * 501,)
    other = machine.vm.create_vcpu(1)
    other.set_sregs(vcpu.sregs())
    other.set_regs(vcpu.regs())
    other.ioctl(KVM_SET_XSAVE, saved)
    assert bytes(xsave(other)) == bytes(saved)
    for each in (vcpu, other):
        assert each.run() == kvm.KVM_EXIT_HLT
        regs = each.regs()
        assert (regs.rbx, regs.rdx) == (3000, 3000)
