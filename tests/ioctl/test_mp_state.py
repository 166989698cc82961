"""KVM_GET_MP_STATE, KVM_SET_MP_STATE: without an interrupt chip every vCPU is runnable, always."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_MP_STATE, KVM_SET_MP_STATE
from kvmshim.abi.structs_gen import kvm_mp_state
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

NOT_RUNNABLE = [
    kvm.KVM_MP_STATE_UNINITIALIZED,
    kvm.KVM_MP_STATE_INIT_RECEIVED,
    kvm.KVM_MP_STATE_HALTED,
    kvm.KVM_MP_STATE_SIPI_RECEIVED,
    77,
    0xFFFF_FFFF,
]


@pytest.mark.parametrize("vcpu_id", [0, 1])
def test_fresh_vcpu_is_runnable(vm: Vm, vcpu_id: int) -> None:
    assert vm.create_vcpu(vcpu_id).mp_state() == kvm.KVM_MP_STATE_RUNNABLE


def test_runnable_may_be_set(vcpu: Vcpu) -> None:
    vcpu.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    assert vcpu.mp_state() == kvm.KVM_MP_STATE_RUNNABLE


def test_vcpu_that_executed_hlt_is_still_runnable(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.mp_state() == kvm.KVM_MP_STATE_RUNNABLE


@pytest.mark.parametrize("state", NOT_RUNNABLE)
def test_other_states_are_refused(vcpu: Vcpu, state: int) -> None:
    with refused(errno.EINVAL):
        vcpu.set_mp_state(state)
    assert vcpu.mp_state() == kvm.KVM_MP_STATE_RUNNABLE


@pytest.mark.parametrize("number", [KVM_GET_MP_STATE, KVM_SET_MP_STATE], ids=hex)
def test_vm_has_no_state(vm: Vm, number: int) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_mp_state())


@pytest.mark.parametrize("number", [KVM_GET_MP_STATE, KVM_SET_MP_STATE], ids=hex)
def test_system_has_no_state(system: System, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_mp_state())
