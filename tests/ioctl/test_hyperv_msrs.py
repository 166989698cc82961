"""Hyper-V's synthetic MSRs: who may access which, what they hold, save and restore."""

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ
from tests import hyperv as hv
from tests.hyperv import GP, Guest, faults
from tests.ioctl.test_hypercalls import has_pending, switch_on
from tests.ioctl.test_msr_filter import INVALID, UNKNOWN, leave_for
from tests.kvm import System, Vcpu
from tests.machine import DATA, RAM_SIZE, Machine, Mode

# What announces an MSR, a value the guest may write, and whether it may read.
ACCESS = [
    (hv.GUEST_OS_ID, "eax", 5),
    (hv.HYPERCALL, "eax", 5),
    (hv.VP_INDEX, "eax", 6),
    (hv.RESET, "eax", 7),
    (hv.VP_RUNTIME, "eax", 0),
    (hv.TIME_REF_COUNT, "eax", 1),
    (hv.REFERENCE_TSC, "eax", 9),
    (hv.TSC_FREQUENCY, "eax", 11),
    (hv.APIC_FREQUENCY, "eax", 11),
    (hv.VP_ASSIST_PAGE, "eax", 4),
    (hv.REENLIGHTENMENT_CONTROL, "eax", 13),
    (hv.TSC_EMULATION_CONTROL, "eax", 13),
    (hv.TSC_EMULATION_STATUS, "eax", 13),
    (hv.TSC_INVARIANT_CONTROL, "eax", 15),
    (hv.NPIEP_CONFIG, "edx", 12),
    (hv.CRASH_P0, "edx", 10),
    (hv.CRASH_P0 + 4, "edx", 10),
    (hv.CRASH_CTL, "edx", 10),
    (hv.SYNDBG_STATUS, "edx", 11),
    (hv.SYNDBG_OPTIONS, "edx", 11),
]
READ_ONLY = [
    hv.VP_INDEX,
    hv.VP_RUNTIME,
    hv.TIME_REF_COUNT,
    hv.TSC_FREQUENCY,
    hv.APIC_FREQUENCY,
]
NOT_THERE = [0x4000_0004, 0x4000_000F, 0x4000_0041, 0x4000_006F, 0x4000_0074, 0x4000_00B8]
NOT_THERE += range(hv.STATS_PARTITION_RETAIL_PAGE, hv.STATS_PARTITION_RETAIL_PAGE + 4)


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.of(system)


@pytest.mark.parametrize(("index", "register", "bit"), ACCESS)
def test_hv_24_enforced_an_msr_needs_its_bit(
    system: System, index: int, register: str, bit: int
) -> None:
    all_but = {register: 0xFFFF_FFFF & ~(1 << bit)}
    assert faults(Guest.of(system, {hv.FEATURES: all_but}, enforce=True).rdmsr, index) == GP
    only = {"eax": 0, "edx": 0, register: 1 << bit}
    assert faults(Guest.of(system, {hv.FEATURES: only}, enforce=True).rdmsr, index) is None


def test_hv_25_without_enforcement_all_are_there(system: System) -> None:
    guest = Guest.of(system, {hv.FEATURES: {"eax": 0, "ebx": 0, "edx": 0}})
    for index, _, _ in ACCESS:
        assert faults(guest.rdmsr, index) is None, hex(index)


def test_hv_24_enforcement_goes_on_and_off(system: System) -> None:
    guest = Guest.of(system, {hv.FEATURES: {"eax": 0}}, enforce=True)
    assert faults(guest.rdmsr, hv.VP_INDEX) == GP
    hv.enable(guest.vcpu, kvm.KVM_CAP_HYPERV_ENFORCE_CPUID, 0)
    assert faults(guest.rdmsr, hv.VP_INDEX) is None


def test_hv_00a_without_the_interface_there_is_none(system: System) -> None:
    guest = Guest.of(system, {hv.INTERFACE: {"eax": 0}})
    for index, _, _ in ACCESS:
        assert faults(guest.rdmsr, index) == GP, hex(index)


def test_hv_00a_kvms_own_interface_is_behind_it(system: System) -> None:
    machine = Machine.of(system)
    own = [entry for entry in system.supported_cpuid() if entry.function >> 28 == 4]
    entries = hv.cpuid_of_guest(system, machine.vcpu)
    for entry in own:
        entry.function += 0x100
    machine.vcpu.set_cpuid(entries + own)
    hv.enable(machine.vcpu, kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1)
    guest = Guest(machine, Mode.LONG)
    guest.load(machine.vcpu, hv.call_instruction(system))
    assert faults(guest.rdmsr, 0x4B56_4D01) is None
    assert faults(guest.rdmsr, hv.VP_INDEX) is None


@pytest.mark.parametrize("index", READ_ONLY, ids=hex)
def test_hv_00m_a_read_only_msr_refuses_the_guest(guest: Guest, index: int) -> None:
    assert faults(guest.wrmsr, index, 1) == GP
    assert faults(guest.rdmsr, index) is None


@pytest.mark.parametrize("index", NOT_THERE, ids=hex)
def test_hv_00m_what_is_no_msr_refuses_everybody(guest: Guest, index: int) -> None:
    assert faults(guest.rdmsr, index) == GP
    assert faults(guest.wrmsr, index, 0) == GP
    assert guest.vcpu.msrs([hv.GUEST_OS_ID, index]) == [0]
    assert guest.vcpu.set_msrs([(hv.GUEST_OS_ID, 0), (index, 0)]) == 1


@pytest.mark.parametrize(
    ("index", "reason"), [(hv.VP_INDEX, INVALID), (0x4000_0074, INVALID), (0x4000_00B8, UNKNOWN)]
)
def test_hv_00m_what_the_guest_is_refused_may_be_the_clients(
    system: System, index: int, reason: int
) -> None:
    guest = Guest.of(system, {hv.FEATURES: {"eax": 0}}, enforce=True)
    leave_for(guest.machine.vm, INVALID | UNKNOWN)
    assert guest.begin("rdmsr", rcx=index) == kvm.KVM_EXIT_X86_RDMSR
    assert (guest.vcpu.msr.index, guest.vcpu.msr.reason) == (index, reason)
    guest.vcpu.msr.data = 0x1234
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    guest.check()
    assert guest.vcpu.regs().rax == 0x1234


def test_hv_00i_the_hypercall_page_calls_and_returns(system: System, guest: Guest) -> None:
    guest.introduce()
    before = guest.machine.ram.read(DATA, 4096)
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    call = b"\x0f\x01\xd9" if hv.call_instruction(system) == "vmmcall" else b"\x0f\x01\xc1"
    assert guest.machine.ram.read(DATA, 4096) == call + b"\xc3" + before[4:]
    assert guest.rdmsr(hv.HYPERCALL) == DATA | hv.ENABLED


def test_hv_00i_without_an_identity_there_is_no_page(guest: Guest) -> None:
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    assert guest.rdmsr(hv.HYPERCALL) == 0
    assert guest.machine.ram.read(DATA, 4) == bytes(4)


def test_hv_00i_no_identity_disables_the_page(guest: Guest) -> None:
    guest.introduce()
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    guest.wrmsr(hv.GUEST_OS_ID, 0)
    assert guest.rdmsr(hv.HYPERCALL) == DATA


@pytest.mark.parametrize("index", [hv.HYPERCALL, hv.VP_ASSIST_PAGE], ids=hex)
def test_hv_00i_a_page_outside_memory_is_refused(guest: Guest, index: int) -> None:
    guest.introduce()
    assert faults(guest.wrmsr, index, RAM_SIZE | hv.ENABLED) == GP
    assert faults(guest.wrmsr, index, 0xFFFF_FFFF_FFFF_F001) == GP
    assert guest.rdmsr(index) == 0
    guest.wrmsr(index, RAM_SIZE)
    assert guest.rdmsr(index) == RAM_SIZE


def test_hv_00i_both_are_the_partitions(guest: Guest) -> None:
    guest.introduce()
    other = guest.machine.vm.create_vcpu(1)
    assert other.msrs([hv.GUEST_OS_ID]) == [hv.LINUX]


def test_hv_00n_numbers_are_those_of_creation_whatever_the_ids(system: System) -> None:
    guest = Guest.of(system)
    others = [guest.machine.vm.create_vcpu(vcpu_id) for vcpu_id in (65, 2)]
    assert guest.rdmsr(hv.VP_INDEX) == 0
    assert [vcpu.msrs([hv.VP_INDEX]) for vcpu in others] == [[1], [2]]


def test_hv_00n_the_client_sets_numbers_below_1024(guest: Guest) -> None:
    assert guest.vcpu.set_msrs([(hv.VP_INDEX, 1023)]) == 1
    assert guest.rdmsr(hv.VP_INDEX) == 1023
    assert guest.vcpu.set_msrs([(hv.VP_INDEX, 1024)]) == 0
    assert guest.rdmsr(hv.VP_INDEX) == 1023


def test_hv_05_run_time_is_that_of_the_guest(guest: Guest) -> None:
    assert guest.vcpu.set_msrs([(hv.VP_RUNTIME, 1 << 40)]) == 1
    first = guest.rdmsr(hv.VP_RUNTIME)
    assert first >= 1 << 40
    assert guest.rdmsr(hv.VP_RUNTIME) >= first
    outside = guest.vcpu.msrs([hv.VP_RUNTIME])
    assert outside == guest.vcpu.msrs([hv.VP_RUNTIME])


def test_hv_12_frequencies_are_told(guest: Guest) -> None:
    khz = guest.vcpu.ioctl(KVM_GET_TSC_KHZ)
    assert guest.rdmsr(hv.TSC_FREQUENCY) == khz * 1000
    assert guest.rdmsr(hv.APIC_FREQUENCY) == 10**9


def test_hv_12_a_frequency_that_the_client_changes_is_told(guest: Guest) -> None:
    khz = guest.vcpu.ioctl(KVM_GET_TSC_KHZ) // 2
    guest.vcpu.ioctl(KVM_SET_TSC_KHZ, khz)
    assert guest.rdmsr(hv.TSC_FREQUENCY) == khz * 1000


def test_hv_11_a_reset_leaves(guest: Guest) -> None:
    assert guest.rdmsr(hv.RESET) == 0
    guest.wrmsr(hv.RESET, 0)
    guest.wrmsr(hv.RESET, 2)
    assert guest.begin_wrmsr(hv.RESET, 1) == kvm.KVM_EXIT_SYSTEM_EVENT
    assert guest.vcpu.exit_words[0] == kvm.KVM_SYSTEM_EVENT_RESET
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    guest.check()
    assert guest.rdmsr(hv.RESET) == 0


def test_hv_17_a_crash_leaves_and_the_client_reads_it(guest: Guest) -> None:
    for number in range(5):
        guest.wrmsr(hv.CRASH_P0 + number, 0x1111 * number)
    guest.wrmsr(hv.CRASH_CTL, 1 << 62)
    assert guest.begin_wrmsr(hv.CRASH_CTL, 1 << 63) == kvm.KVM_EXIT_SYSTEM_EVENT
    assert guest.vcpu.exit_words[0] == kvm.KVM_SYSTEM_EVENT_CRASH
    told = guest.vcpu.msrs(range(hv.CRASH_P0, hv.CRASH_P0 + 5))
    assert told == [0x1111 * number for number in range(5)]
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    guest.check()


def test_hv_17_the_client_says_that_crashes_are_heard(guest: Guest) -> None:
    assert guest.rdmsr(hv.CRASH_CTL) == 0
    assert guest.vcpu.set_msrs([(hv.CRASH_CTL, (1 << 64) - 1)]) == 1
    assert guest.rdmsr(hv.CRASH_CTL) == 1 << 63


def test_hv_13_reenlightenment_is_the_clients(guest: Guest) -> None:
    guest.wrmsr(hv.REENLIGHTENMENT_CONTROL, 1 << 16 | 0xFF)
    guest.wrmsr(hv.TSC_EMULATION_CONTROL, 1)
    assert faults(guest.wrmsr, hv.TSC_EMULATION_STATUS, 1) == GP
    guest.wrmsr(hv.TSC_EMULATION_STATUS, 0)
    assert guest.vcpu.set_msrs([(hv.TSC_EMULATION_STATUS, 1)]) == 1
    told = [
        guest.rdmsr(index)
        for index in (
            hv.REENLIGHTENMENT_CONTROL,
            hv.TSC_EMULATION_CONTROL,
            hv.TSC_EMULATION_STATUS,
        )
    ]
    assert told == [1 << 16 | 0xFF, 1, 1]


def test_hv_23_the_debuggers_are_there_only_where_announced(system: System) -> None:
    guest = Guest.of(system, {hv.DEBUG_CAPABILITIES: {"eax": 0}})
    assert faults(guest.rdmsr, hv.SYNDBG_STATUS) == GP
    assert guest.vcpu.msrs([hv.SYNDBG_STATUS]) == [0]


def test_hv_23_a_request_of_the_debuggers_leaves_and_is_answered(guest: Guest) -> None:
    for offset in range(1, 4):
        guest.wrmsr(hv.SYNDBG_CONTROL + offset, 0x1000 * offset)
    assert guest.begin_wrmsr(hv.SYNDBG_CONTROL, 0x77) == kvm.KVM_EXIT_HYPERV
    kind, msr, control, status, send, receive, pending = guest.vcpu.exit_words
    assert kind == kvm.KVM_EXIT_HYPERV_SYNDBG
    assert (msr, control, status) == (hv.SYNDBG_CONTROL, 0x77, 0x1000)
    assert (send, receive, pending) == (0x2000, 0x3000, 0)
    guest.vcpu.exit_words[3] = 0xABCD
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    guest.check()
    assert guest.rdmsr(hv.SYNDBG_STATUS) == 0xABCD


def test_hv_00m_those_that_are_saved_are_listed(system: System) -> None:
    listed = system.msr_indexes()
    assert [index for index in hv.SAVED_MSRS if index not in listed] == []


def test_hv_00m_saved_and_restored_they_are_the_same(system: System, guest: Guest) -> None:
    guest.introduce()
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    guest.wrmsr(hv.REFERENCE_TSC, DATA + 0x1000 | hv.ENABLED)
    guest.wrmsr(hv.VP_ASSIST_PAGE, DATA + 0x2000 | hv.ENABLED)
    guest.wrmsr(hv.CRASH_P0, 0xDEAD)
    guest.wrmsr(hv.SYNDBG_OPTIONS, 4)
    guest.wrmsr(hv.REENLIGHTENMENT_CONTROL, 0x1_0030)
    guest.vcpu.set_msrs([(hv.VP_INDEX, 7), (hv.CRASH_CTL, 1 << 63)])
    indexes = [index for index in system.msr_indexes() if index in hv.SAVED_MSRS]
    moving = (hv.TIME_REF_COUNT,)
    saved = guest.vcpu.msrs(indexes)
    other = Guest.of(system)
    assert other.vcpu.set_msrs(list(zip(indexes, saved, strict=True))) == len(indexes)
    restored = other.vcpu.msrs(indexes)
    assert [
        pair
        for pair in zip(indexes, saved, restored, strict=True)
        if pair[1] != pair[2] and pair[0] not in moving
    ] == []
    assert other.machine.ram.read(DATA, 4) == guest.machine.ram.read(DATA, 4)
    other_vcpu: Vcpu = other.vcpu
    assert other_vcpu.msrs(indexes)[0] == hv.LINUX


def test_hv_09_without_a_local_apic_timers_are_read_as_0(guest: Guest) -> None:
    for index in range(hv.STIMER0_CONFIG, hv.STIMER0_CONFIG + 8):
        assert guest.rdmsr(index) == 0
        assert faults(guest.wrmsr, index, 1) == GP


VECTOR = 0x51
ENABLED = 1 << 16


@pytest.mark.parametrize(("target", "told"), [(0, True), (1, False)])
def test_hv_13_another_frequency_is_told_by_an_interrupt(
    system: System, target: int, told: bool
) -> None:
    guest = Guest.of(system, controllers=True)
    switch_on(guest.vcpu)
    guest.wrmsr(hv.REENLIGHTENMENT_CONTROL, target << 32 | ENABLED | VECTOR)
    khz = guest.vcpu.ioctl(KVM_GET_TSC_KHZ)
    guest.vcpu.ioctl(KVM_SET_TSC_KHZ, khz)
    assert not has_pending(guest.vcpu, VECTOR)
    guest.vcpu.ioctl(KVM_SET_TSC_KHZ, khz // 2)
    assert has_pending(guest.vcpu, VECTOR) == told


def test_hv_13_without_the_wish_nobody_is_told(system: System) -> None:
    guest = Guest.of(system, controllers=True)
    switch_on(guest.vcpu)
    guest.wrmsr(hv.REENLIGHTENMENT_CONTROL, VECTOR)
    guest.vcpu.ioctl(KVM_SET_TSC_KHZ, guest.vcpu.ioctl(KVM_GET_TSC_KHZ) // 2)
    assert not has_pending(guest.vcpu, VECTOR)
