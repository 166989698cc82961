"""The APIC timer's TSC-deadline mode, which a guest has whose CPUID shows it; SDM volume 3, "TSC-
Deadline Mode"."""

import pytest

from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import kvm_lapic_state
from tests.ioctl.apic import EOI, load, write
from tests.kvm import System
from tests.machine import Machine

IA32_TSC_DEADLINE = 0x6E0
CPUID_TSC_DEADLINE = 1 << 24
LVT_TIMER = 0x320
TIMER_INITIAL = 0x380
DEADLINE_MODE = 1 << 18
VECTOR = 0x41
FAR = 1 << 62

ARM = f"mov ecx, {IA32_TSC_DEADLINE}; xor edx, edx; mov eax, 1; wrmsr;"
END = write(EOI, 0) + "out 0x81, al; iretd"


def machine_of(system: System, *, shown: bool) -> Machine:
    """A machine whose CPUID has the bit or not."""
    machine = Machine.of(system, controllers=True)
    entries = list(system.supported_cpuid())
    leaf = next(entry for entry in entries if entry.function == 1)
    leaf.ecx = leaf.ecx & ~CPUID_TSC_DEADLINE | (CPUID_TSC_DEADLINE if shown else 0)
    machine.vcpu.set_cpuid(entries)
    return machine


def image(machine: Machine) -> bytearray:
    """The registers as KVM_GET_LAPIC gives them."""
    state = kvm_lapic_state()
    machine.vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    return bytearray(bytes(state))


def lvt(machine: Machine) -> int:
    """The timer's entry of the local vector table."""
    return int.from_bytes(image(machine)[LVT_TIMER : LVT_TIMER + 4], "little")


def test_a_deadline_that_has_passed_interrupts(system: System) -> None:
    machine = machine_of(system, shown=True)
    load(machine, write(LVT_TIMER, DEADLINE_MODE | VECTOR) + ARM, {VECTOR: END})
    assert machine.vcpu.port() == 0x80
    assert machine.vcpu.port() == 0x81
    assert machine.vcpu.msrs([IA32_TSC_DEADLINE]) == [0], "disarmed"
    assert lvt(machine) == DEADLINE_MODE | VECTOR


def test_without_the_bit_the_mode_is_one_shot(system: System) -> None:
    machine = machine_of(system, shown=False)
    source = write(LVT_TIMER, DEADLINE_MODE | VECTOR) + ARM + write(TIMER_INITIAL, 1)
    load(machine, source, {VECTOR: END})
    assert machine.vcpu.port() == 0x80
    assert lvt(machine) == VECTOR
    assert machine.vcpu.port() == 0x81, "TIMER_INITIAL is not looked at in deadline mode"


@pytest.mark.parametrize("shown", [False, True])
def test_client_sets_a_deadline_where_the_mode_is(system: System, shown: bool) -> None:
    machine = machine_of(system, shown=shown)
    load(machine, write(LVT_TIMER, DEADLINE_MODE | VECTOR), {})
    assert machine.vcpu.port() == 0x80
    assert machine.vcpu.set_msrs([(IA32_TSC_DEADLINE, FAR)]) == 1, "ignored, not refused"
    assert machine.vcpu.msrs([IA32_TSC_DEADLINE]) == [FAR if shown else 0]


def test_mode_that_is_restored_without_the_bit_is_one_shot(system: System) -> None:
    machine = machine_of(system, shown=False)
    saved = image(machine)
    saved[LVT_TIMER : LVT_TIMER + 4] = (DEADLINE_MODE | VECTOR).to_bytes(4, "little")
    machine.vcpu.ioctl(nr.KVM_SET_LAPIC, kvm_lapic_state.from_buffer_copy(saved))
    assert lvt(machine) == DEADLINE_MODE | VECTOR, "the register is as it was saved"
    assert machine.vcpu.set_msrs([(IA32_TSC_DEADLINE, FAR)]) == 1
    assert machine.vcpu.msrs([IA32_TSC_DEADLINE]) == [0]
