"""HV_X64_MSR_TSC_INVARIANT_CONTROL: CPUID tells of an invariant counter once the guest wants it."""

import pytest

from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import GP, Guest, faults
from tests.kvm import System
from tests.machine import CODE

INVARIANT_TSC = 0x8000_0007
SHOWN = 1 << 8


def with_invariant_tsc(
    system: System, guest: Guest, access: int = 0xFFFF_FFFF
) -> list[kvm_cpuid_entry2]:
    """A table with an invariant counter; `access`: bits of FEATURES.EAX that it has."""
    wanted = hv.leaf(hv.supported(guest.vcpu), hv.FEATURES).eax & access
    entries = hv.cpuid_of_guest(system, guest.vcpu, {hv.FEATURES: {"eax": wanted}})
    hv.leaf(entries, INVARIANT_TSC).edx |= SHOWN
    return entries


@pytest.fixture
def guest(system: System) -> Guest:
    made = Guest.of(system)
    made.vcpu.set_cpuid(with_invariant_tsc(system, made))
    source = f"cpuid; out {hv.DONE_PORT:#x}, al; hlt"
    made.machine.ram.write(CODE, assemble(source, bits=64, origin=CODE))
    return made


def shows_it(guest: Guest) -> bool:
    """What the guest sees; its step for RDMSR is CPUID."""
    guest.take("rdmsr", rax=INVARIANT_TSC, rcx=0)
    return bool(guest.vcpu.regs().rdx & SHOWN)


def test_hv_34_the_guest_has_it_shown_and_cannot_hide_it_again(guest: Guest) -> None:
    assert guest.vcpu.msrs([hv.TSC_INVARIANT_CONTROL]) == [0]
    assert not shows_it(guest)
    guest.wrmsr(hv.TSC_INVARIANT_CONTROL, 0)
    assert not shows_it(guest)
    guest.wrmsr(hv.TSC_INVARIANT_CONTROL, 1)
    assert shows_it(guest)
    assert guest.vcpu.msrs([hv.TSC_INVARIANT_CONTROL]) == [1]
    assert faults(guest.wrmsr, hv.TSC_INVARIANT_CONTROL, 0) == GP
    guest.wrmsr(hv.TSC_INVARIANT_CONTROL, 1)
    assert shows_it(guest)


def test_hv_34_the_client_can_hide_it_again(guest: Guest) -> None:
    assert guest.vcpu.set_msrs([(hv.TSC_INVARIANT_CONTROL, 1)]) == 1
    assert shows_it(guest)
    assert guest.vcpu.set_msrs([(hv.TSC_INVARIANT_CONTROL, 0)]) == 1
    assert not shows_it(guest)


@pytest.mark.parametrize("bit", [*range(1, 16), 31, 32, 63])
def test_hv_34_other_bits_are_refused(guest: Guest, bit: int) -> None:
    assert faults(guest.wrmsr, hv.TSC_INVARIANT_CONTROL, 1 << bit) == GP
    assert guest.vcpu.set_msrs([(hv.TSC_INVARIANT_CONTROL, 1 << bit)]) == 0


def test_hv_34_what_one_processor_asks_for_all_see(guest: Guest, system: System) -> None:
    other = guest.machine.vm.create_vcpu(1)
    other.set_cpuid(hv.cpuid_of_guest(system, other))
    other.set_msrs([(hv.TSC_INVARIANT_CONTROL, 1)])
    assert shows_it(guest)


def test_hv_34_without_the_msrs_bit_the_table_is_shown(system: System, guest: Guest) -> None:
    guest.vcpu.set_cpuid(with_invariant_tsc(system, guest, access=0xFFFF_FFFF & ~(1 << 15)))
    assert shows_it(guest)


def test_hv_34_a_table_without_it_shows_nothing(system: System, guest: Guest) -> None:
    entries = hv.cpuid_of_guest(system, guest.vcpu)
    hv.leaf(entries, INVARIANT_TSC).edx &= ~SHOWN
    guest.vcpu.set_cpuid(entries)
    guest.wrmsr(hv.TSC_INVARIANT_CONTROL, 1)
    assert not shows_it(guest)
