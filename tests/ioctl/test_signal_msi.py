"""KVM_SIGNAL_MSI and KVM_CAP_X2APIC_API: messages of devices, and how they name local APICs."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.msr_index import MSR_IA32_APICBASE, X2APIC_ENABLE
from kvmshim.abi.structs_gen import kvm_lapic_state, kvm_msi
from tests.ioctl.apic import ID, enable_cap, load, message, send
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine

VECTOR = 0x41
FAR_ID = 300
LOGICAL = 1 << 2
IRR = 0x200


@pytest.fixture
def machine(system: System) -> Machine:
    return Machine.of(system, controllers=True)


def lapic(vcpu: Vcpu) -> kvm_lapic_state:
    state = kvm_lapic_state()
    vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    return state


def has(vcpu: Vcpu, vector: int) -> bool:
    """Whether the vector is requested at the local APIC."""
    image = bytes(lapic(vcpu))
    word = int.from_bytes(image[IRR + vector // 32 * 16 :][:4], "little")
    return bool(word >> vector % 32 & 1)


def enable(vcpu: Vcpu, *, x2apic: bool = False) -> None:
    """Enables the local APIC by software."""
    if x2apic:
        vcpu.set_msrs([(MSR_IA32_APICBASE, vcpu.msrs([MSR_IA32_APICBASE])[0] | X2APIC_ENABLE)])
    state = lapic(vcpu)
    state.regs[0xF1] = 1
    vcpu.ioctl(nr.KVM_SET_LAPIC, state)


def test_it_says_how_many_have_got_it(machine: Machine) -> None:
    others = [machine.vm.create_vcpu(number) for number in (1, 2)]
    for vcpu in (machine.vcpu, *others):
        enable(vcpu)
    assert send(machine.vm, message(VECTOR, 1)) == 1
    assert send(machine.vm, message(VECTOR, 1)) == 0, "it was pending already"
    assert send(machine.vm, message(VECTOR, 0xFF)) == 2
    assert [has(vcpu, VECTOR) for vcpu in (machine.vcpu, *others)] == [True] * 3


def test_to_nobody(machine: Machine) -> None:
    with refused(errno.EPERM):
        send(machine.vm, message(VECTOR, 7))


def test_without_controllers(vm: Vm) -> None:
    with refused(errno.EINVAL):
        send(vm, message(VECTOR))


@pytest.mark.parametrize("flags", [1, 2, 0x8000_0000])
def test_unknown_flags(machine: Machine, flags: int) -> None:
    msi = message(VECTOR)
    msi.flags = flags
    with refused(errno.EINVAL):
        send(machine.vm, msi)


def test_it_reaches_the_guest(machine: Machine) -> None:
    load(machine, "", {VECTOR: "out 0x81, al; iretd"})
    assert machine.vcpu.port() == 0x80
    send(machine.vm, message(VECTOR))
    assert machine.vcpu.port() == 0x81


def test_nmi_by_message(machine: Machine) -> None:
    load(machine, "", {2: "out 0x82, al; iretd"})
    assert machine.vcpu.port() == 0x80
    send(machine.vm, message(0, data=4 << 8))
    assert machine.vcpu.port() == 0x82


def test_ids_of_32_bits(machine: Machine) -> None:
    far = machine.vm.create_vcpu(FAR_ID)
    enable(far, x2apic=True)
    with refused(errno.EPERM):
        send(machine.vm, message(VECTOR, FAR_ID))
    enable_cap(machine.vm, kvm.KVM_CAP_X2APIC_API, kvm.KVM_X2APIC_API_USE_32BIT_IDS)
    assert send(machine.vm, message(VECTOR, FAR_ID)) == 1
    assert has(far, VECTOR)


def test_images_with_ids_of_32_bits(machine: Machine) -> None:
    far = machine.vm.create_vcpu(FAR_ID)
    enable(far, x2apic=True)
    assert bytes(lapic(far))[ID : ID + 4] == (FAR_ID << 24 & 0xFFFF_FFFF).to_bytes(4, "little")
    enable_cap(machine.vm, kvm.KVM_CAP_X2APIC_API, kvm.KVM_X2APIC_API_USE_32BIT_IDS)
    state = lapic(far)
    assert bytes(state)[ID : ID + 4] == FAR_ID.to_bytes(4, "little")
    far.ioctl(nr.KVM_SET_LAPIC, state)
    assert bytes(lapic(far)) == bytes(state)
    state.regs[ID] += 1
    with refused(errno.EINVAL):
        far.ioctl(nr.KVM_SET_LAPIC, state)


@pytest.mark.parametrize("quirk", [True, False])
def test_broadcast_by_a_byte(machine: Machine, quirk: bool) -> None:
    """0xFF means all even in x2APIC mode, unless the client says that it does not."""
    enable(machine.vcpu, x2apic=True)
    wide = machine.vm.create_vcpu(0xFF)
    enable(wide, x2apic=True)
    if not quirk:
        enable_cap(
            machine.vm,
            kvm.KVM_CAP_X2APIC_API,
            kvm.KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
        )
    assert send(machine.vm, message(VECTOR, 0xFF)) == (2 if quirk else 1)
    assert has(wide, VECTOR)
    assert has(machine.vcpu, VECTOR) == quirk


def test_unknown_flags_of_the_x2apic_api(machine: Machine) -> None:
    with refused(errno.EINVAL):
        enable_cap(machine.vm, kvm.KVM_CAP_X2APIC_API, 4)


def test_logical_destination(machine: Machine) -> None:
    enable(machine.vcpu)
    state = lapic(machine.vcpu)
    state.regs[0xD3] = 0x40
    state.regs[0xE0:0xE4] = [-1] * 4
    machine.vcpu.ioctl(nr.KVM_SET_LAPIC, state)
    msi = message(VECTOR, 0x40)
    assert send(machine.vm, kvm_msi(address_lo=msi.address_lo | LOGICAL, data=msi.data)) == 1
    with refused(errno.EPERM):
        msi = message(VECTOR, 0x20)
        send(machine.vm, kvm_msi(address_lo=msi.address_lo | LOGICAL, data=msi.data))
