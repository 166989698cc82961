"""KVM_GET_XCRS, KVM_SET_XCRS: XCR0."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_XCRS, KVM_SET_XCRS
from kvmshim.abi.structs_gen import kvm_xcrs
from tests.kvm import System, Vcpu, Vm, refused

X87, SSE, AVX = 1, 2, 4


def of(*values: tuple[int, int], flags: int = 0, nr_xcrs: int | None = None) -> kvm_xcrs:
    """A list of (register, value); `nr_xcrs` may lie about their number."""
    xcrs = kvm_xcrs(nr_xcrs=len(values) if nr_xcrs is None else nr_xcrs, flags=flags)
    for entry, (number, value) in zip(xcrs.xcrs, values, strict=False):
        entry.xcr, entry.value = number, value
    return xcrs


def xcr0(vcpu: Vcpu) -> int:
    found = kvm_xcrs()
    vcpu.ioctl(KVM_GET_XCRS, found)
    assert bytes(found) == bytes(of((0, found.xcrs[0].value)))
    return int(found.xcrs[0].value)


@pytest.fixture
def vcpu(system: System, vcpu: Vcpu) -> Vcpu:
    """With all that the processor can do."""
    vcpu.set_cpuid(system.supported_cpuid())
    return vcpu


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_XCRS) == 1


def test_power_on_value_has_x87_alone(vcpu: Vcpu) -> None:
    assert xcr0(vcpu) == X87


def test_set_then_get_is_the_identity(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_XCRS, of((0, X87 | SSE)))
    assert xcr0(vcpu) == X87 | SSE


def test_first_entry_for_xcr0_counts(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_XCRS, of((1, 0x123), (0, X87 | SSE), (0, X87)))
    assert xcr0(vcpu) == X87 | SSE


def test_other_registers_are_ignored(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SET_XCRS, of((1, 0x123)))
    vcpu.ioctl(KVM_SET_XCRS, of())
    assert xcr0(vcpu) == X87


REFUSED = {
    "without x87": of((0, SSE)),
    "AVX without SSE": of((0, X87 | AVX)),
    "no such component": of((0, X87 | 1 << 62)),
    "flag": of((0, X87), flags=1),
    "too many": of((0, X87), nr_xcrs=17),
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(vcpu: Vcpu, wrong: kvm_xcrs) -> None:
    vcpu.ioctl(KVM_SET_XCRS, of((0, X87 | SSE)))
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_XCRS, wrong)
    assert xcr0(vcpu) == X87 | SSE


def test_component_that_cpuid_hides_is_refused(system: System, vm: Vm) -> None:
    vcpu = vm.create_vcpu(1)
    vcpu.set_cpuid([leaf for leaf in system.supported_cpuid() if leaf.function != 0xD])
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_XCRS, of((0, X87 | SSE | AVX)))


@pytest.mark.parametrize("number", [KVM_GET_XCRS, KVM_SET_XCRS], ids=hex)
def test_only_a_vcpu_has_them(system: System, vm: Vm, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_xcrs())
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_xcrs())
