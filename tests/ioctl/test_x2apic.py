"""x2APIC mode: announced where KVM announces it, and there only for guests that are shown it."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.msr_index import MSR_IA32_APICBASE, X2APIC_ENABLE
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from tests.ioctl.apic import load
from tests.kvm import System, refused
from tests.machine import Machine

X2APIC = 1 << 21
TSC_DEADLINE = 1 << 24
GP = 13
SELF_IPI = 0x83F
EOI = 0x80B
VECTOR = 0x41

ENABLE = f"""
    mov ecx, {MSR_IA32_APICBASE}
    rdmsr
    or eax, {X2APIC_ENABLE}
    wrmsr
"""


@pytest.fixture
def machine(system: System) -> Machine:
    return Machine.of(system, controllers=True)


def table(system: System, *, x2apic: bool) -> list[kvm_cpuid_entry2]:
    entries = list(system.supported_cpuid())
    leaf = next(entry for entry in entries if entry.function == 1)
    leaf.ecx = leaf.ecx | X2APIC if x2apic else leaf.ecx & ~X2APIC
    return entries


def test_it_is_announced_and_the_deadline_timer_by_its_capability(system: System) -> None:
    leaf = next(entry for entry in system.supported_cpuid() if entry.function == 1)
    assert leaf.ecx & (X2APIC | TSC_DEADLINE) == X2APIC
    assert system.check_extension(kvm.KVM_CAP_TSC_DEADLINE_TIMER) == 1


def test_guest_that_is_shown_it_uses_it(system: System, machine: Machine) -> None:
    machine.vcpu.set_cpuid(table(system, x2apic=True))
    source = ENABLE + f"xor edx, edx; mov eax, {VECTOR}; mov ecx, {SELF_IPI}; wrmsr;"
    end = f"xor eax, eax; xor edx, edx; mov ecx, {EOI}; wrmsr; out 0x81, al; iretd"
    load(machine, source, {GP: "out 0x82, al; hlt", VECTOR: end})
    ports = []
    for _ in range(2):
        assert machine.vcpu.run() == kvm.KVM_EXIT_IO
        ports.append(machine.vcpu.io.port)
    assert ports == [0x80, 0x81]
    assert machine.vcpu.msrs([MSR_IA32_APICBASE])[0] & X2APIC_ENABLE


def test_without_the_bit_a_guest_cannot_enable_it(system: System, machine: Machine) -> None:
    machine.vcpu.set_cpuid(table(system, x2apic=False))
    load(machine, ENABLE, {GP: "out 0x82, al; hlt"})
    assert machine.vcpu.port() == 0x82


def test_without_the_bit_its_client_cannot_either(system: System, machine: Machine) -> None:
    vcpu = machine.vcpu
    vcpu.set_cpuid(table(system, x2apic=False))
    base = vcpu.msrs([MSR_IA32_APICBASE])[0]
    assert vcpu.set_msrs([(MSR_IA32_APICBASE, base | X2APIC_ENABLE)]) == 0
    sregs = vcpu.sregs()
    sregs.apic_base |= X2APIC_ENABLE
    with refused(errno.EINVAL):
        vcpu.set_sregs(sregs)
    assert vcpu.msrs([MSR_IA32_APICBASE]) == [base]
    vcpu.set_cpuid(table(system, x2apic=True))
    vcpu.set_sregs(sregs)
    assert vcpu.msrs([MSR_IA32_APICBASE]) == [base | X2APIC_ENABLE]
