"""MSR_KVM_ASYNC_PF_EN and its companions: a guest that enables it is told to look for its pages."""

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.ioctls_gen import KVM_ENABLE_CAP
from kvmshim.abi.structs_gen import kvm_cpuid_entry2, kvm_enable_cap, kvm_lapic_state
from tests.ioctl.apic import EOI, MSI_ASSERT, load, message, send, write
from tests.kvm import System, Vcpu
from tests.machine import DATA, RAM_SIZE, Machine
from tests.paravirt import (
    ASYNC_PF_ACK,
    ASYNC_PF_EN,
    ASYNC_PF_INT,
    ENABLED,
    FEATURES_LEAF,
)

VECTOR = 0xEC
GP = 13
SEND_ALWAYS = 1 << 1
BY_VMEXIT = 1 << 2
BY_INTERRUPT = 1 << 3
ON = ENABLED | BY_INTERRUPT
INIT = 5 << 8

FEATURE = 1 << 4
FEATURE_VMEXIT = 1 << 10
FEATURE_INT = 1 << 14

FLAGS, TOKEN = DATA, DATA + 4
ALL = 0xFFFF_FFFF

WRMSR = "mov ecx, {msr:#x}; mov eax, {value:#x}; xor edx, edx; wrmsr;"
ACKNOWLEDGE = WRMSR.format(msr=ASYNC_PF_ACK, value=1)


@pytest.fixture
def machine(system: System) -> Machine:
    """A guest that halts with interrupts on, and tells when it is told."""
    machine = Machine.of(system, controllers=True)
    load(machine, "", {VECTOR: write(EOI, 0) + "out 0x81, al; iretd"})
    assert machine.vcpu.set_msrs([(ASYNC_PF_INT, VECTOR)]) == 1
    assert port(machine.vcpu) == 0x80
    return machine


def port(vcpu: Vcpu) -> int:
    assert vcpu.run() == kvm.KVM_EXIT_IO
    return vcpu.io.port


def has_request(vcpu: Vcpu) -> bool:
    """Whether the vector is requested at the local APIC."""
    state = kvm_lapic_state()
    vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    word = int.from_bytes(bytes(state)[0x200 + VECTOR // 32 * 16 :][:4], "little")
    return bool(word >> VECTOR % 32 & 1)


def enable(vcpu: Vcpu, value: int = ON) -> None:
    assert vcpu.set_msrs([(ASYNC_PF_EN, DATA | value)]) == 1


def test_features_are_announced(system: System) -> None:
    leaf = next(e for e in system.supported_cpuid() if e.function == FEATURES_LEAF)
    assert leaf.eax & FEATURE
    assert leaf.eax & FEATURE_VMEXIT
    assert leaf.eax & FEATURE_INT


def test_guest_that_enables_it_is_told_to_look_again(machine: Machine) -> None:
    source = WRMSR.format(msr=ASYNC_PF_INT, value=VECTOR)
    source += WRMSR.format(msr=ASYNC_PF_EN, value=DATA | ON | SEND_ALWAYS | BY_VMEXIT)
    load(machine, source, {VECTOR: write(EOI, 0) + "out 0x81, al; iretd"})
    assert port(machine.vcpu) == 0x80
    assert port(machine.vcpu) == 0x81
    assert (machine.peek(FLAGS), machine.peek(TOKEN)) == (0, ALL)


def test_a_halted_guest_whose_client_enables_it_wakes(machine: Machine) -> None:
    """As the guest of a client that was moved does."""
    machine.vcpu.set_mp_state(kvm.KVM_MP_STATE_HALTED)
    enable(machine.vcpu)
    assert machine.peek(TOKEN) == 0, "not before it runs"
    assert port(machine.vcpu) == 0x81
    assert machine.peek(TOKEN) == ALL


def test_each_enabling_tells_once_the_guest_has_seen_the_last(machine: Machine) -> None:
    handler = write(EOI, 0) + f"out 0x81, al; mov dword ptr [{TOKEN}], 0;" + ACKNOWLEDGE
    load(machine, "", {VECTOR: handler + "iretd"})
    assert port(machine.vcpu) == 0x80
    for _ in range(2):
        enable(machine.vcpu)
        assert port(machine.vcpu) == 0x81
        enable(machine.vcpu)
        assert port(machine.vcpu) == 0x81


def test_what_waits_is_told_after_the_acknowledgement_alone(machine: Machine) -> None:
    """The guest has not made the token 0 when it is enabled, and does so later."""
    machine.ram.write(TOKEN, b"\7\0\0\0")
    enable(machine.vcpu)
    later = f"mov dword ptr [{TOKEN}], 0; out 0x83, al;" + ACKNOWLEDGE
    load(machine, later, {VECTOR: "out 0x81, al; iretd"})
    assert port(machine.vcpu) == 0x83
    assert not has_request(machine.vcpu)
    assert port(machine.vcpu) == 0x80
    assert has_request(machine.vcpu)
    assert port(machine.vcpu) == 0x81


def test_what_waits_is_told_when_paging_is_switched_on(machine: Machine) -> None:
    machine.ram.write(TOKEN, b"\7\0\0\0")
    enable(machine.vcpu)
    load(machine, "out 0x83, al; out 0x84, al;", {VECTOR: "out 0x81, al; iretd"})
    assert port(machine.vcpu) == 0x83
    machine.ram.write(TOKEN, bytes(4))
    directory = 0x50000
    large = [page << 22 | 0x83 for page in range(1024)]
    machine.ram.write(directory, b"".join(entry.to_bytes(4, "little") for entry in large))
    sregs = machine.vcpu.sregs()
    sregs.cr3, sregs.cr4, sregs.cr0 = directory, sregs.cr4 | 1 << 4, sregs.cr0 | 1 << 31
    machine.vcpu.set_sregs(sregs)
    assert port(machine.vcpu) == 0x84
    assert has_request(machine.vcpu)


@pytest.mark.parametrize("value", [0, ENABLED, BY_INTERRUPT, ENABLED | SEND_ALWAYS | BY_VMEXIT])
def test_not_enabled_tells_nothing(machine: Machine, value: int) -> None:
    enable(machine.vcpu, value)
    load(machine, "", {VECTOR: "out 0x81, al; iretd"})
    assert port(machine.vcpu) == 0x80
    assert not has_request(machine.vcpu)
    assert machine.peek(TOKEN) == 0


def test_what_was_not_told_is_forgotten_when_it_is_disabled(machine: Machine) -> None:
    enable(machine.vcpu)
    enable(machine.vcpu, 0)
    load(machine, "", {VECTOR: "out 0x81, al; iretd"})
    assert port(machine.vcpu) == 0x80
    assert not has_request(machine.vcpu)


def test_what_was_read_is_written_back(machine: Machine) -> None:
    enable(machine.vcpu, ON | SEND_ALWAYS)
    values = machine.vcpu.msrs([ASYNC_PF_INT, ASYNC_PF_EN, ASYNC_PF_ACK])
    assert values == [VECTOR, DATA | ON | SEND_ALWAYS, 0]
    indices = [ASYNC_PF_INT, ASYNC_PF_EN, ASYNC_PF_ACK]
    assert machine.vcpu.set_msrs(list(zip(indices, values, strict=True))) == 3
    assert machine.vcpu.msrs(indices) == values


@pytest.mark.parametrize("value", [DATA | 0x10, DATA | 0x20, RAM_SIZE | ON, 1 << 60 | ON])
def test_bad_values_are_refused(machine: Machine, value: int) -> None:
    assert machine.vcpu.set_msrs([(ASYNC_PF_EN, value)]) == 0
    source = f"mov ecx, {ASYNC_PF_EN}; mov eax, {value & 0xFFFF_FFFF}; mov edx, {value >> 32};"
    load(machine, source + "wrmsr;", {GP: "out 0x85, al; hlt"})
    assert port(machine.vcpu) == 0x85


def test_memory_is_looked_for_only_where_it_is_used(machine: Machine) -> None:
    assert machine.vcpu.set_msrs([(ASYNC_PF_EN, RAM_SIZE | ENABLED)]) == 1


@pytest.mark.parametrize(
    ("features", "value", "allowed"),
    [
        (FEATURE, ENABLED, True),
        (FEATURE, BY_VMEXIT, False),
        (FEATURE, BY_INTERRUPT, False),
        (FEATURE | FEATURE_VMEXIT, ENABLED | BY_VMEXIT, True),
        (FEATURE | FEATURE_INT, ON, True),
        (FEATURE_INT | FEATURE_VMEXIT, ENABLED, False),
    ],
)
def test_an_enforced_guest_has_what_is_announced(
    system: System, features: int, value: int, allowed: bool
) -> None:
    machine = Machine.of(system, controllers=True)
    entries: list[kvm_cpuid_entry2] = list(system.supported_cpuid())
    next(entry for entry in entries if entry.function == FEATURES_LEAF).eax = features
    machine.vcpu.set_cpuid(entries)
    wanted = kvm_enable_cap(cap=kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
    wanted.args[0] = 1
    machine.vcpu.ioctl(KVM_ENABLE_CAP, wanted)
    source = WRMSR.format(msr=ASYNC_PF_EN, value=DATA | value)
    load(machine, source + "out 0x83, al;", {GP: "out 0x85, al; hlt"})
    assert port(machine.vcpu) == (0x83 if allowed else 0x85)


def test_init_ends_it(machine: Machine) -> None:
    other = machine.vm.create_vcpu(1)
    assert other.set_msrs([(ASYNC_PF_INT, VECTOR), (ASYNC_PF_EN, DATA | ON)]) == 2
    send(machine.vm, message(0, 1, INIT | MSI_ASSERT))
    assert other.mp_state() == kvm.KVM_MP_STATE_INIT_RECEIVED
    assert other.msrs([ASYNC_PF_INT, ASYNC_PF_EN]) == [0, 0]
