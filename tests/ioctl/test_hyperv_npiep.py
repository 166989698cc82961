"""HV_X64_MSR_NPIEP_CONFIG: instructions that tell user code where the supervisor's tables are.

TLFS, "Non-Privileged Instruction Execution Prevention". No kernel has it.
"""

import pytest

from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import GP, Guest, faults
from tests.kvm import System
from tests.machine import CODE, DATA, STACK

STORES = ("sgdt", "sidt", "sldt", "str")
"""By bit of the MSR."""
IOPL_3 = 3 << 12
UMIP = 1 << 11
RING_0, RING_3 = 0, 3


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.of(system)


def denied(guest: Guest, store: str, ring: int) -> bool:
    """Whether an instruction is #GP in this ring."""
    hv.enter_ring(guest, ring)
    source = f"{store} [{DATA}]; out {hv.DONE_PORT:#x}, al"
    guest.machine.ram.write(CODE + 0x200, assemble(source, bits=64, origin=CODE + 0x200))
    guest.vcpu.change_regs(rip=CODE + 0x200, rsp=STACK, rflags=2 | IOPL_3)
    guest.vcpu.run()
    return faults(guest.check) == GP


@pytest.mark.parametrize("config", range(16))
def test_hv_41_each_bit_denies_one_instruction_in_ring_3(guest: Guest, config: int) -> None:
    guest.wrmsr(hv.NPIEP_CONFIG, config)
    assert guest.rdmsr(hv.NPIEP_CONFIG) == config
    for place, store in enumerate(STORES):
        assert denied(guest, store, RING_3) == bool(config >> place & 1), store
        assert not denied(guest, store, RING_0), store


def test_hv_41_user_mode_instruction_prevention_denies_them_all_the_same(guest: Guest) -> None:
    sregs = guest.vcpu.sregs()
    sregs.cr4 |= UMIP
    guest.vcpu.set_sregs(sregs)
    for config in (0, 1):
        guest.vcpu.set_msrs([(hv.NPIEP_CONFIG, config)])
        for store in STORES:
            assert denied(guest, store, RING_3), store
            assert not denied(guest, store, RING_0), store


@pytest.mark.parametrize("bit", [4, 5, 31, 32, 63])
def test_hv_41_other_bits_are_refused(guest: Guest, bit: int) -> None:
    assert faults(guest.wrmsr, hv.NPIEP_CONFIG, 1 << bit) == GP
    assert guest.vcpu.set_msrs([(hv.NPIEP_CONFIG, 1 << bit)]) == 0


def test_hv_41_each_processor_has_its_own(guest: Guest, system: System) -> None:
    other = guest.machine.vm.create_vcpu(1)
    other.set_cpuid(hv.cpuid_of_guest(system, other))
    guest.wrmsr(hv.NPIEP_CONFIG, 5)
    assert other.msrs([hv.NPIEP_CONFIG]) == [0]


def test_hv_41_it_stays_where_cpuid_is_set_anew(guest: Guest, system: System) -> None:
    guest.wrmsr(hv.NPIEP_CONFIG, 2)
    guest.vcpu.set_cpuid(hv.cpuid_of_guest(system, guest.vcpu))
    assert denied(guest, "sidt", RING_3)
