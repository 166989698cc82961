"""MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK, KVM_KVMCLOCK_CTRL: the guest's clock is the VM's."""

import errno
import struct
import threading
import time

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_GET_CLOCK,
    KVM_GET_TSC_KHZ,
    KVM_KVMCLOCK_CTRL,
    KVM_SET_CLOCK,
    KVM_SET_TSC_KHZ,
)
from kvmshim.abi.structs_gen import kvm_clock_data
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import CODE, DATA, MMIO, RAM_SIZE, Machine, Mode
from tests.paravirt import (
    ENABLED,
    FEATURES_LEAF,
    STABLE,
    STOPPED,
    SYSTEM_TIME,
    SYSTEM_TIME_NEW,
    WALL_CLOCK,
    WALL_CLOCK_NEW,
    Clock,
    TimeInfo,
)

IA32_TSC = 0x10
IA32_TSC_ADJUST = 0x3B
YEAR_NS = 365 * 86_400 * 10**9


@pytest.fixture
def clock(machine: Machine) -> Clock:
    return Clock(machine)


def vm_clock(vm: Vm) -> int:
    found = kvm_clock_data()
    vm.ioctl(KVM_GET_CLOCK, found)
    return found.clock


def is_the_vms(clock: Clock) -> None:
    for _ in range(10):
        before = vm_clock(clock.machine.vm)
        seen = clock.read()
        assert before <= seen <= vm_clock(clock.machine.vm)


def test_features_are_announced(system: System) -> None:
    leaf = next(e for e in system.supported_cpuid() if e.function == FEATURES_LEAF)
    clocksource, clocksource2, stable = 1 << 0, 1 << 3, 1 << 24
    assert leaf.eax & (clocksource | clocksource2 | stable) == clocksource | clocksource2 | stable
    assert system.check_extension(kvm.KVM_CAP_KVMCLOCK_CTRL) == 1


def test_guest_reads_what_the_client_reads(clock: Clock) -> None:
    is_the_vms(clock)


@pytest.mark.parametrize("years", [0, 1, 30, 580])
def test_guest_follows_a_clock_that_is_set(clock: Clock, years: int) -> None:
    clock.read()
    clock.machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=years * YEAR_NS))
    assert years * YEAR_NS <= clock.read() < years * YEAR_NS + YEAR_NS
    is_the_vms(clock)


def test_clock_wraps_at_64_bits(clock: Clock) -> None:
    clock.machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=(1 << 64) - 1))
    assert clock.read() < YEAR_NS
    is_the_vms(clock)


@pytest.mark.parametrize("msr", [IA32_TSC, IA32_TSC_ADJUST])
@pytest.mark.parametrize("value", [0, 1 << 40, (1 << 63) + 5, (1 << 64) - 1], ids=hex)
def test_clients_change_of_the_counter_is_no_change_of_time(
    clock: Clock, msr: int, value: int
) -> None:
    before = clock.read()
    clock.machine.vcpu.set_msrs([(msr, value)])
    assert before < clock.read() < before + 60 * 10**9
    is_the_vms(clock)


@pytest.mark.parametrize("msr", [IA32_TSC, IA32_TSC_ADJUST])
def test_guests_change_of_the_counter_is_no_change_of_time(
    system: System, machine: Machine, msr: int
) -> None:
    machine.vcpu.set_cpuid(system.supported_cpuid())
    clock = Clock(machine)
    before = clock.read()
    stored = clock.info
    regs = machine.vcpu.regs()
    machine.ram.write(0x2000, bytes.fromhex("0f30f4"))
    machine.vcpu.change_regs(rip=0x2000, rcx=msr, rax=0x1234, rdx=0x4000_0000)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    # Told before the next instruction.
    assert clock.info.tsc_timestamp != stored.tsc_timestamp
    assert clock.info.version == stored.version + 2
    machine.vcpu.set_regs(regs)
    assert before < clock.read() < before + 60 * 10**9
    is_the_vms(clock)


@pytest.mark.parametrize("khz", [1_000, 500_000, 4_000_000, 10_000_000])
def test_guest_with_another_frequency_has_the_same_time(clock: Clock, khz: int) -> None:
    clock.read()
    clock.machine.vcpu.ioctl(KVM_SET_TSC_KHZ, khz)
    tick = 10**6 // khz + 1
    for _ in range(10):
        before = vm_clock(clock.machine.vm)
        seen = clock.read()
        assert before - tick <= seen <= vm_clock(clock.machine.vm) + tick


def test_all_vcpus_read_one_clock(machine: Machine) -> None:
    first = Clock(machine)
    other = machine.vm.create_vcpu(1)
    other.set_sregs(machine.vcpu.sregs())
    other.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    other.change_regs(rip=CODE, rflags=2)
    other.set_msrs([(SYSTEM_TIME_NEW, DATA | ENABLED), (IA32_TSC, 5)])
    readings = []
    for _ in range(5):
        readings.append(first.read())
        other.run()
        readings.append(other.regs().rax)
        machine.vcpu.set_msrs([(SYSTEM_TIME_NEW, DATA | ENABLED)])
        other.set_msrs([(SYSTEM_TIME_NEW, DATA | ENABLED)])
    assert readings == sorted(readings)
    assert first.info.flags & STABLE


def test_counters_of_two_frequencies_are_not_stable(machine: Machine) -> None:
    clock, other = Clock(machine), machine.vm.create_vcpu(1)
    clock.read()
    assert clock.info.flags == STABLE
    other.ioctl(KVM_SET_TSC_KHZ, 1000)
    clock.read()
    assert clock.info.flags == 0
    other.ioctl(KVM_SET_TSC_KHZ, machine.vcpu.ioctl(KVM_GET_TSC_KHZ))
    clock.read()
    assert clock.info.flags == STABLE


def test_structure_is_written_only_when_something_changes(clock: Clock) -> None:
    clock.read()
    first = clock.info
    assert first.version == 2
    clock.read()
    assert clock.info == first
    clock.machine.vcpu.set_msrs([(SYSTEM_TIME, DATA | ENABLED)])
    clock.read()
    assert clock.info == TimeInfo(4, *list(first.__dict__.values())[1:])


def test_running_guest_is_told_of_a_new_clock(machine: Machine) -> None:
    """It says that it runs, and spins until its clock is past a year."""
    runs = DATA + 0x100
    machine.load(
        f"mov byte ptr [{runs}], 1; again: mov rax, [{DATA} + 16]; shr rax, 52; jz again; hlt",
        Mode.LONG,
    )
    machine.vcpu.set_msrs([(SYSTEM_TIME_NEW, DATA | ENABLED)])

    def set_clock() -> None:
        while not machine.peek(runs, 1):
            pass
        machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=YEAR_NS))

    thread = threading.Thread(target=set_clock)
    thread.start()
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    thread.join()


@pytest.mark.parametrize("msr", [SYSTEM_TIME, SYSTEM_TIME_NEW], ids=hex)
def test_guest_switches_it_on_and_off(machine: Machine, msr: int) -> None:
    machine.load("wrmsr; mov rbx, [0x4008]; rdmsr; hlt; wrmsr; hlt", Mode.LONG)
    machine.vcpu.change_regs(rcx=msr, rax=DATA | ENABLED, rdx=0)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    regs = machine.vcpu.regs()
    assert (regs.rax, regs.rdx) == (DATA | ENABLED, 0)
    info = TimeInfo.of(machine.ram.read(DATA, 32))
    assert regs.rbx == info.tsc_timestamp
    assert info.version == 2
    machine.vcpu.change_regs(rax=DATA)
    machine.vcpu.run()
    assert TimeInfo.of(machine.ram.read(DATA, 32)).version == 2
    assert machine.vcpu.msrs([SYSTEM_TIME, SYSTEM_TIME_NEW]) == [DATA, DATA]


@pytest.mark.parametrize("gpa", [RAM_SIZE, MMIO, RAM_SIZE - 16, 1 << 51, (1 << 64) - 32], ids=hex)
def test_where_no_memory_is_nothing_happens(machine: Machine, gpa: int) -> None:
    clock = Clock(machine)
    machine.vcpu.set_msrs([(SYSTEM_TIME_NEW, gpa | ENABLED), (WALL_CLOCK_NEW, gpa)])
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert clock.info.version == 0
    assert machine.vcpu.msrs([SYSTEM_TIME_NEW, WALL_CLOCK]) == [gpa | ENABLED, gpa]


@pytest.mark.parametrize("msr", [WALL_CLOCK, WALL_CLOCK_NEW], ids=hex)
def test_wall_clock_is_when_the_clock_was_0(machine: Machine, msr: int) -> None:
    machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=1000 * 10**9))
    before = time.time_ns() - vm_clock(machine.vm)
    machine.vcpu.set_msrs([(msr, DATA)])
    after = time.time_ns() - vm_clock(machine.vm)
    version, sec, nsec = struct.unpack("<3I", machine.ram.read(DATA, 12))
    slack = 10**6
    assert version == 2
    assert min(before, after) - slack <= sec * 10**9 + nsec <= max(before, after) + slack


def test_guest_asks_for_the_wall_clock(machine: Machine) -> None:
    machine.load("wrmsr; hlt", Mode.LONG)
    machine.vcpu.change_regs(rcx=WALL_CLOCK_NEW, rax=DATA, rdx=0)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert abs(machine.peek(DATA + 4) - time.time()) < 60


def test_wall_clock_is_the_vms(machine: Machine) -> None:
    other = machine.vm.create_vcpu(1)
    machine.vcpu.set_msrs([(WALL_CLOCK, DATA)])
    assert other.msrs([WALL_CLOCK, WALL_CLOCK_NEW]) == [DATA, DATA]


def test_guest_is_told_that_it_was_stopped(clock: Clock) -> None:
    clock.read()
    clock.machine.vcpu.ioctl(KVM_KVMCLOCK_CTRL)
    assert clock.info.flags == STABLE
    clock.read()
    assert clock.info.flags == STABLE | STOPPED
    # Kept until the guest clears it.
    clock.machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=5))
    clock.read()
    assert clock.info.flags == STABLE | STOPPED
    clock.machine.ram.write(DATA + 29, bytes([STABLE]))
    clock.read()
    clock.machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=5))
    clock.read()
    assert clock.info.flags == STABLE


def test_without_a_clock_nobody_is_told(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_KVMCLOCK_CTRL)
    vcpu.set_msrs([(SYSTEM_TIME_NEW, DATA)])
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_KVMCLOCK_CTRL)


def test_only_a_vcpu_is_told(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_KVMCLOCK_CTRL)
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_KVMCLOCK_CTRL)


def test_with_controllers_it_is_the_same(system: System) -> None:
    machine = Machine.of(system, controllers=True)
    machine.load(f"spin: mov rax, [{DATA} + 16]; shr rax, 52; jz spin; out 0x55, al", Mode.LONG)
    machine.vcpu.set_msrs([(SYSTEM_TIME_NEW, DATA | ENABLED)])
    machine.vm.ioctl(KVM_SET_CLOCK, kvm_clock_data(clock=YEAR_NS))
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    machine.load("wrmsr; out 0x55, al", Mode.LONG)
    machine.vcpu.change_regs(rcx=SYSTEM_TIME_NEW, rax=DATA + 0x100 | ENABLED, rdx=0)
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    assert machine.peek(DATA + 0x110, 8) >> 52
