"""MSRs of KVM's paravirtual interface, and KVM_CAP_ENFORCE_PV_FEATURE_CPUID."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_ENABLE_CAP
from kvmshim.abi.structs_gen import kvm_cpuid_entry2, kvm_enable_cap
from tests.kvm import System, Vcpu, refused
from tests.machine import DATA, Machine, Mode
from tests.paravirt import (
    ALL_MSRS,
    ASYNC_PF_ACK,
    ASYNC_PF_EN,
    ASYNC_PF_INT,
    ENABLED,
    FEATURES_LEAF,
    POLL_CONTROL,
    PV_EOI_EN,
    STEAL_TIME,
    SYSTEM_TIME_NEW,
)

GP = 13


def enforce(vcpu: Vcpu, *, on: bool = True) -> None:
    wanted = kvm_enable_cap(cap=kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
    wanted.args[0] = on
    vcpu.ioctl(KVM_ENABLE_CAP, wanted)


def faults(machine: Machine, instruction: str, index: int, value: int = 0) -> bool:
    machine.load(f"{instruction}; hlt", Mode.PROTECTED)
    machine.handle(GP, "mov ebx, 13; hlt", Mode.PROTECTED)
    machine.vcpu.change_regs(rbx=0, rcx=index, rax=value & 0xFFFF_FFFF, rdx=value >> 32)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    return machine.vcpu.regs().rbx == GP


def test_all_are_in_the_list(system: System) -> None:
    assert set(ALL_MSRS) <= set(system.msr_indexes())


def test_after_power_up_polling_is_on_and_all_else_off(vcpu: Vcpu) -> None:
    expected = [int(msr == POLL_CONTROL) for msr in ALL_MSRS]
    assert vcpu.msrs(list(ALL_MSRS)) == expected


def test_what_was_read_can_be_written_back(system: System) -> None:
    machine = Machine.of(system, controllers=True)
    values = [
        (SYSTEM_TIME_NEW, DATA | ENABLED),
        (STEAL_TIME, DATA + 0x40 | ENABLED),
        (PV_EOI_EN, DATA + 0x80 | ENABLED),
        (POLL_CONTROL, 0),
        (ASYNC_PF_INT, 0xEC),
        (ASYNC_PF_EN, DATA + 0xC0 | 0xD),
    ]
    assert machine.vcpu.set_msrs(values) == len(values)
    assert machine.vcpu.msrs([msr for msr, _ in values]) == [value for _, value in values]


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        (STEAL_TIME, DATA | 3),
        (STEAL_TIME, DATA | 0x20 | ENABLED),
        (PV_EOI_EN, DATA | 3),
        (POLL_CONTROL, 2),
        (POLL_CONTROL, 1 << 63),
        (ASYNC_PF_INT, 0x100),
        (ASYNC_PF_EN, DATA | 0x11),
        # There is no local APIC that could deliver it.
        (ASYNC_PF_EN, DATA | 1),
        (ASYNC_PF_INT, 0x20),
    ],
)
def test_other_values_are_refused(machine: Machine, msr: int, value: int) -> None:
    before = machine.vcpu.msrs([msr])
    assert machine.vcpu.set_msrs([(msr, value)]) == 0
    assert faults(machine, "wrmsr", msr, value)
    assert machine.vcpu.msrs([msr]) == before


@pytest.mark.parametrize("msr", ALL_MSRS, ids=hex)
def test_guest_has_them_announced_or_not(machine: Machine, msr: int) -> None:
    assert not faults(machine, "rdmsr", msr)
    assert not faults(machine, "wrmsr", msr, 0)


@pytest.mark.parametrize("msr", ALL_MSRS, ids=hex)
def test_enforced_a_guest_has_what_is_announced(machine: Machine, msr: int) -> None:
    enforce(machine.vcpu)
    assert faults(machine, "rdmsr", msr)
    assert faults(machine, "wrmsr", msr)
    enforce(machine.vcpu, on=False)
    assert not faults(machine, "rdmsr", msr)


@pytest.mark.parametrize("base", [0x4000_0000, 0x4000_0100, 0x4000_FF00], ids=hex)
def test_signature_may_be_at_any_of_its_places(system: System, machine: Machine, base: int) -> None:
    others = [e for e in system.supported_cpuid() if e.function >> 28 != 4]
    ebx, ecx, edx = (int.from_bytes(word, "little") for word in (b"KVMK", b"VMKV", b"M\0\0\0"))
    machine.vcpu.set_cpuid(
        [
            *others,
            kvm_cpuid_entry2(function=base, eax=base + 1, ebx=ebx, ecx=ecx, edx=edx),
            kvm_cpuid_entry2(function=base + 1, eax=1 << 3 | 1 << 12),
        ]
    )
    enforce(machine.vcpu)
    for msr, announced in ((SYSTEM_TIME_NEW, True), (POLL_CONTROL, True), (PV_EOI_EN, False)):
        assert faults(machine, "rdmsr", msr) != announced


def test_announced_are_the_features_that_linux_announces(system: System) -> None:
    """All that the kernel itself has: other bits are of clients, or of other processors."""
    bits = (0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 24)
    leaf = next(e for e in system.supported_cpuid() if e.function == FEATURES_LEAF)
    assert [bit for bit in range(32) if leaf.eax >> bit & 1] == list(bits)
    assert (leaf.ebx, leaf.ecx, leaf.edx) == (0, 0, 0)


def test_every_announced_feature_works_enforced(system: System) -> None:
    machine = Machine.of(system, controllers=True)
    machine.vcpu.set_cpuid(system.supported_cpuid())
    enforce(machine.vcpu)
    leaf = next(e for e in system.supported_cpuid() if e.function == FEATURES_LEAF)
    features = {0: 0x12, 3: SYSTEM_TIME_NEW, 4: ASYNC_PF_EN, 5: STEAL_TIME, 6: PV_EOI_EN}
    features |= {12: POLL_CONTROL, 14: ASYNC_PF_ACK}
    for bit, msr in features.items():
        machine.vcpu.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
        machine.load("rdmsr; out 0x55, al", Mode.PROTECTED)
        machine.handle(GP, "out 0x56, al", Mode.PROTECTED)
        machine.vcpu.change_regs(rcx=msr)
        assert machine.vcpu.run() == kvm.KVM_EXIT_IO
        assert machine.vcpu.io.port == (0x55 if leaf.eax >> bit & 1 else 0x56), hex(msr)


def test_the_client_is_not_bound(vcpu: Vcpu) -> None:
    enforce(vcpu)
    assert vcpu.set_msrs([(SYSTEM_TIME_NEW, 0), (POLL_CONTROL, 1)]) == 2
    assert len(vcpu.msrs(list(ALL_MSRS))) == len(ALL_MSRS)


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        kvm_enable_cap(cap=kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID, flags=1),
        kvm_enable_cap(cap=kvm.KVM_CAP_X86_USER_SPACE_MSR),
        kvm_enable_cap(cap=0xFFFF_FFFF),
    ],
    ids=["flag", "of a VM", "unknown"],
)
def test_other_capabilities_are_refused(vcpu: Vcpu, wanted: kvm_enable_cap) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_ENABLE_CAP, wanted)
