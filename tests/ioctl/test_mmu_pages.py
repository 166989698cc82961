"""KVM_SET_NR_MMU_PAGES, KVM_GET_NR_MMU_PAGES: a limit that is always kept."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_NR_MMU_PAGES, KVM_SET_NR_MMU_PAGES
from tests.kvm import System, Vm, refused


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_MMU_SHADOW_CACHE_CONTROL) == 1


@pytest.mark.parametrize("pages", [64, 1000, 0x7FFF_FFFF])
def test_set_then_get(vm: Vm, pages: int) -> None:
    assert vm.ioctl(KVM_SET_NR_MMU_PAGES, pages) == 0
    assert vm.ioctl(KVM_GET_NR_MMU_PAGES) == pages


def test_more_than_an_answer_can_tell(vm: Vm) -> None:
    assert vm.ioctl(KVM_SET_NR_MMU_PAGES, 1 << 40 | 7) == 0
    assert vm.ioctl(KVM_GET_NR_MMU_PAGES) == 7


@pytest.mark.parametrize("pages", [0, 63])
def test_too_few_are_refused(vm: Vm, pages: int) -> None:
    vm.ioctl(KVM_SET_NR_MMU_PAGES, 100)
    with refused(errno.EINVAL):
        vm.ioctl(KVM_SET_NR_MMU_PAGES, pages)
    assert vm.ioctl(KVM_GET_NR_MMU_PAGES) == 100


def test_system_has_none(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_NR_MMU_PAGES, 100)
