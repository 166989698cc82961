"""HV_X64_MSR_STIME_UNHALTED_TIMER_*: an interrupt whenever the processor has executed for a period.

TLFS, "Synthetic Time-Unhalted Timer Registers". No kernel has it.
"""

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import GP, Guest, faults
from tests.ioctl.apic import EOI, load, write
from tests.ioctl.test_pv_eoi import port
from tests.kvm import System
from tests.machine import CODE, DATA, Machine, Mode

VECTOR, NMI, OTHER = 0x41, 2, 0x51
ENABLED = 1 << 8
SHOT = 1 | 1 << 12 | OTHER << 4
"""Of a synthetic timer that sends the other vector by itself."""
MS = 10_000
ASSIST_PAGE = DATA + 0x1000
EXPIRED = ASSIST_PAGE + 56
SPIN = "again: jmp again"
PROGRAM = CODE + 0x400
INTERRUPTS_ENABLED = 0x202


def prepared(system: System, source: str, config: int, count: int) -> Machine:
    """A guest that does `source`.

    It tells of an interrupt by port 0x81, of an NMI by 0x82, of the other vector by 0x83.
    """
    machine = Machine.of(system, controllers=True)
    vcpu = machine.vcpu
    vcpu.set_cpuid(hv.cpuid_of_guest(system, vcpu))
    handler = f"{write(EOI, 0)} out 0x81, al; iretd"
    other = f"{write(EOI, 0)} out 0x83, al; iretd"
    load(machine, "", {VECTOR: handler, NMI: "out 0x82, al; iretd", OTHER: other})
    assert port(vcpu) == 0x80
    machine.ram.write(PROGRAM, assemble(source, bits=Mode.PROTECTED, origin=PROGRAM))
    vcpu.change_regs(rip=PROGRAM, rflags=INTERRUPTS_ENABLED)
    values = [
        (hv.VP_ASSIST_PAGE, ASSIST_PAGE | 1),
        (hv.UNHALTED_TIMER_COUNT, count),
        (hv.UNHALTED_TIMER_CONFIG, config),
    ]
    assert vcpu.set_msrs(values) == len(values)
    return machine


def test_hv_40_executing_it_is_interrupted_again_and_again(system: System) -> None:
    machine = prepared(system, SPIN, ENABLED | VECTOR, MS)
    for _ in range(3):
        assert machine.peek(EXPIRED, 8) == 0
        assert port(machine.vcpu) == 0x81
        assert machine.peek(EXPIRED, 8) == 1
        machine.ram.write(EXPIRED, b"\0")


def test_hv_40_vector_2_is_a_non_maskable_interrupt(system: System) -> None:
    machine = prepared(system, f"cli; {SPIN}", ENABLED | NMI, MS)
    assert port(machine.vcpu) == 0x82
    assert machine.peek(EXPIRED, 1) == 1


def test_hv_40_without_an_assist_page_there_is_the_interrupt(system: System) -> None:
    machine = prepared(system, SPIN, ENABLED | VECTOR, MS)
    machine.vcpu.set_msrs([(hv.VP_ASSIST_PAGE, 0)])
    assert port(machine.vcpu) == 0x81
    assert machine.peek(EXPIRED, 8) == 0


@pytest.mark.parametrize(("config", "count"), [(VECTOR, 1), (ENABLED | VECTOR, 0)])
def test_hv_40_what_is_off_never_interrupts(system: System, config: int, count: int) -> None:
    """The loop takes longer than the period, ten thousand times over."""
    machine = prepared(system, "mov ecx, 10000000; again: loop again; out 0x83, al", config, count)
    assert port(machine.vcpu) == 0x83
    assert machine.peek(EXPIRED, 8) == 0


@pytest.mark.parametrize("config", [ENABLED, ENABLED | 1, ENABLED | 15, 1 << 9, 1 << 63])
def test_hv_40_no_interrupt_has_such_a_vector(system: System, config: int) -> None:
    guest = Guest.of(system, controllers=True)
    assert faults(guest.wrmsr, hv.UNHALTED_TIMER_CONFIG, config) == GP
    assert guest.vcpu.set_msrs([(hv.UNHALTED_TIMER_CONFIG, config)]) == 0


def test_hv_40_it_needs_no_synthetic_interrupt_controller(system: System) -> None:
    guest = Guest.of(system, controllers=True)
    for index, value in ((hv.UNHALTED_TIMER_CONFIG, VECTOR), (hv.UNHALTED_TIMER_COUNT, 1 << 63)):
        guest.wrmsr(index, value)
        assert guest.rdmsr(index) == value
        assert guest.vcpu.msrs([index]) == [value]


@pytest.mark.parametrize(
    ("access", "features", "there"),
    [(1 << 3, 1 << 23, True), (0, 1 << 23, False), (1 << 3, 0, False)],
)
def test_hv_40_enforced_it_needs_both_of_its_bits(
    system: System, access: int, features: int, there: bool
) -> None:
    announced = {hv.FEATURES: {"eax": access, "edx": features}}
    guest = Guest.of(system, announced, controllers=True, enforce=True)
    for index in (hv.UNHALTED_TIMER_CONFIG, hv.UNHALTED_TIMER_COUNT):
        assert (faults(guest.rdmsr, index) is None) == there


def test_hv_40_without_a_local_apic_it_is_read_as_0(system: System) -> None:
    guest = Guest.of(system)
    assert guest.rdmsr(hv.UNHALTED_TIMER_CONFIG) == 0
    assert faults(guest.wrmsr, hv.UNHALTED_TIMER_CONFIG, ENABLED | VECTOR) == GP


@pytest.mark.slow
def test_hv_40_halt_takes_no_time_off_the_period(system: System) -> None:
    """The guest sleeps for longer than the period, which ends only when it has executed."""
    machine = prepared(system, f"hlt; {SPIN}", ENABLED | VECTOR, 500 * MS)
    vcpu = machine.vcpu
    hv.enable(vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
    until = vcpu.msrs([hv.TIME_REF_COUNT])[0] + 600 * MS
    vcpu.set_msrs([(hv.STIMER0_CONFIG + 1, until), (hv.STIMER0_CONFIG, SHOT)])
    assert port(vcpu) == 0x83
    assert vcpu.msrs([hv.TIME_REF_COUNT])[0] >= until
    assert machine.peek(EXPIRED, 8) == 0
    assert port(vcpu) == 0x81
    assert machine.peek(EXPIRED, 1) == 1
