"""KVM's hypercalls, by VMCALL or VMMCALL; KVM_CAP_EXIT_HYPERCALL."""

import ctypes
import errno
import struct
import time

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_ENABLE_CAP, KVM_GET_LAPIC, KVM_SET_LAPIC
from kvmshim.abi.structs_gen import kvm_enable_cap, kvm_lapic_state
from tests.kvm import System, Vcpu, refused
from tests.machine import CODE, DATA, RAM_SIZE, Machine, Mode

VAPIC_POLL_IRQ = 1
KICK_CPU = 5
CLOCK_PAIRING = 9
SEND_IPI = 10
SCHED_YIELD = 11
MAP_GPA_RANGE = 12
EPERM, EFAULT, EINVAL, EOPNOTSUPP, ENOSYS = -1, -14, -22, -95, -1000
LEAVES = 1 << MAP_GPA_RANGE
ASSERT = 1 << 14
IRR = 0x200
MMIO_OF_KVM_RUN = 32


class Caller:
    """A guest that makes one hypercall at each run; with controllers it leaves by OUT."""

    def __init__(self, system: System, *, controllers: bool = False, mode: Mode = Mode.LONG):
        self.machine = Machine.of(system, controllers=controllers)
        self.machine.vcpu.set_cpuid(system.supported_cpuid())
        is_amd = system.supported_cpuid()[0].ebx == int.from_bytes(b"Auth", "little")
        call = "vmmcall" if is_amd else "vmcall"
        self.machine.load(f"again: {call}; out 0x55, al; jmp again", mode)
        self.long = mode is Mode.LONG

    def begin(self, number: int, *args: int) -> int:
        a0, a1, a2, a3 = (*args, *(0,) * 4)[:4]
        self.machine.vcpu.change_regs(rax=number, rbx=a0, rcx=a1, rdx=a2, rsi=a3)
        return self.machine.vcpu.run()

    def end(self) -> int:
        rax = self.machine.vcpu.regs().rax
        return ctypes.c_int64(rax).value if self.long else ctypes.c_int32(rax).value

    def __call__(self, number: int, *args: int) -> int:
        assert self.begin(number, *args) == kvm.KVM_EXIT_IO
        return self.end()


@pytest.fixture
def call(system: System) -> Caller:
    return Caller(system)


@pytest.fixture
def call_32(system: System) -> Caller:
    return Caller(system, mode=Mode.PROTECTED)


@pytest.fixture
def call_with_apic(system: System) -> Caller:
    return Caller(system, controllers=True)


def let_leave(machine: Machine, hypercalls: int = LEAVES) -> None:
    wanted = kvm_enable_cap(cap=kvm.KVM_CAP_EXIT_HYPERCALL)
    wanted.args[0] = hypercalls
    machine.vm.ioctl(KVM_ENABLE_CAP, wanted)


def enforce(vcpu: Vcpu) -> None:
    wanted = kvm_enable_cap(cap=kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
    wanted.args[0] = 1
    vcpu.ioctl(KVM_ENABLE_CAP, wanted)


def has_pending(vcpu: Vcpu, vector: int) -> bool:
    state = kvm_lapic_state()
    vcpu.ioctl(KVM_GET_LAPIC, state)
    return bool(bytes(state)[IRR + vector // 32 * 16 + vector % 32 // 8] >> vector % 8 & 1)


@pytest.mark.parametrize("number", [VAPIC_POLL_IRQ, SCHED_YIELD, KICK_CPU])
def test_answer_is_0(call: Caller, number: int) -> None:
    assert call(number) == 0


@pytest.mark.parametrize("number", [0, 2, 3, 4, 6, 7, 8, 13, 1 << 31, (1 << 32) + 1, (1 << 64) - 1])
def test_unknown_number_is_none(call: Caller, number: int) -> None:
    assert call(number) == ENOSYS


def test_outside_64_bit_mode_registers_have_32_bits(call_32: Caller) -> None:
    assert call_32(VAPIC_POLL_IRQ) == 0
    assert call_32(77) == ENOSYS
    assert call_32.machine.vcpu.regs().rax == ENOSYS % (1 << 32)


@pytest.mark.parametrize("number", [KICK_CPU, SEND_IPI, SCHED_YIELD])
def test_enforced_what_is_not_announced_is_none(system: System, number: int) -> None:
    call = Caller(system)
    enforce(call.machine.vcpu)
    assert call(number) != ENOSYS
    call.machine.vcpu.close()
    other = Caller(system)
    other.machine.vcpu.set_cpuid([e for e in system.supported_cpuid() if e.function >> 28 != 4])
    enforce(other.machine.vcpu)
    assert other(number) == ENOSYS
    assert other(VAPIC_POLL_IRQ) == 0


def test_clocks_are_paired(call: Caller) -> None:
    before = time.time_ns()
    assert call(CLOCK_PAIRING, DATA, 0) == 0
    raw = call.machine.ram.read(DATA, 64)
    sec, nsec, tsc = struct.unpack_from("<qqQ", raw)
    assert before <= sec * 10**9 + nsec <= time.time_ns()
    assert 0 < tsc < call.machine.vcpu.msrs([0x10])[0]
    assert raw[24:] == bytes(40)


def test_pairing_may_cross_a_page(call: Caller) -> None:
    assert call(CLOCK_PAIRING, DATA + 0xFFB, 0) == 0
    assert struct.unpack_from("<q", call.machine.ram.read(DATA + 0xFFB, 8))[0] > 10**9


@pytest.mark.parametrize(
    ("gpa", "clock", "error"),
    [(DATA, 1, EOPNOTSUPP), (RAM_SIZE, 0, EFAULT), (1 << 60, 0, EFAULT), (RAM_SIZE, 9, EOPNOTSUPP)],
)
def test_clocks_are_not_paired(call: Caller, gpa: int, clock: int, error: int) -> None:
    assert call(CLOCK_PAIRING, gpa, clock) == error


def test_ipis_need_local_apics(call: Caller) -> None:
    assert call(SEND_IPI, 1, 0, 0, 0x40) == EOPNOTSUPP


@pytest.mark.parametrize(
    ("bits", "first", "reached"),
    [
        ((0b10, 0), 0, [1]),
        ((0b110, 0), 0, [1, 2]),
        ((0b11, 0), 1, [1, 2]),
        ((1, 0), 70, [70]),
        ((0b10, 1 << 6), 0, [1, 70]),
        ((1 << 63, 1 << 63), 0, []),
        ((1, 0), 500, []),
    ],
)
def test_ipis_reach_the_processors_of_the_bitmap(
    call_with_apic: Caller, bits: tuple[int, int], first: int, reached: list[int]
) -> None:
    others = {number: call_with_apic.machine.vm.create_vcpu(number) for number in (1, 2, 70)}
    for vcpu in others.values():
        switch_on(vcpu)
    assert call_with_apic(SEND_IPI, *bits, first, 0x41) == len(reached)
    assert [number for number, vcpu in others.items() if has_pending(vcpu, 0x41)] == reached


def switch_on(vcpu: Vcpu) -> None:
    """The software-enable bit of the spurious-interrupt register."""
    state = kvm_lapic_state()
    vcpu.ioctl(KVM_GET_LAPIC, state)
    state.regs[0xF1] = 1
    vcpu.ioctl(KVM_SET_LAPIC, state)


@pytest.mark.parametrize("command", [0x40 | 1 << 11, 0x40 | 1 << 18, 0x40 | 3 << 18], ids=hex)
def test_ipis_have_no_other_destination(call_with_apic: Caller, command: int) -> None:
    assert call_with_apic(SEND_IPI, 1, 0, 0, command) == EINVAL


def test_outside_64_bit_mode_a_bitmap_has_two_words_of_32(system: System) -> None:
    call = Caller(system, controllers=True, mode=Mode.PROTECTED)
    other = call.machine.vm.create_vcpu(32)
    switch_on(other)
    assert call(SEND_IPI, 0, 1, 0, 0x42) == 1
    assert has_pending(other, 0x42)


@pytest.fixture
def halted(call_with_apic: Caller) -> Vcpu:
    """vCPU 1, before a HLT with interrupts disabled and OUT behind it."""
    vcpu = call_with_apic.machine.vm.create_vcpu(1)
    vcpu.set_sregs(call_with_apic.machine.vcpu.sregs())
    call_with_apic.machine.ram.write(0x3000, bytes.fromhex("f4e656"))
    vcpu.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    vcpu.change_regs(rip=0x3000, rflags=2)
    return vcpu


def test_a_kick_ends_a_halt(call_with_apic: Caller, halted: Vcpu) -> None:
    """Also one that comes first."""
    assert call_with_apic(KICK_CPU, 0, 1) == 0
    assert halted.run() == kvm.KVM_EXIT_IO
    assert halted.io.port == 0x56


def test_a_kicked_processor_is_not_halted(call_with_apic: Caller, halted: Vcpu) -> None:
    halted.set_mp_state(kvm.KVM_MP_STATE_HALTED)
    assert call_with_apic(KICK_CPU, 0, 1) == 0
    assert halted.mp_state() == kvm.KVM_MP_STATE_RUNNABLE


def test_a_kick_for_nobody_is_no_error(call_with_apic: Caller, halted: Vcpu) -> None:
    halted.set_mp_state(kvm.KVM_MP_STATE_HALTED)
    assert call_with_apic(KICK_CPU, 0, 7) == 0
    assert halted.mp_state() == kvm.KVM_MP_STATE_HALTED


def test_capability_tells_what_can_leave(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_EXIT_HYPERCALL) == LEAVES


@pytest.mark.parametrize("hypercalls", [1, LEAVES | 2, 1 << 63], ids=hex)
def test_others_cannot_leave(machine: Machine, hypercalls: int) -> None:
    with refused(errno.EINVAL):
        let_leave(machine, hypercalls)


def test_pages_are_the_clients_only_when_it_wants_them(call: Caller) -> None:
    assert call(MAP_GPA_RANGE, 0x1000, 1, 0) == ENOSYS
    let_leave(call.machine)
    assert call.begin(MAP_GPA_RANGE, 0x1000, 1, 0) == kvm.KVM_EXIT_HYPERCALL
    assert call.machine.vcpu.run() == kvm.KVM_EXIT_IO
    let_leave(call.machine, 0)
    assert call(MAP_GPA_RANGE, 0x1000, 1, 0) == ENOSYS


@pytest.mark.parametrize("controllers", [False, True])
def test_the_client_answers(system: System, *, controllers: bool) -> None:
    call = Caller(system, controllers=controllers)
    let_leave(call.machine)
    assert call.begin(MAP_GPA_RANGE, 0x5000, 3, 0x12) == kvm.KVM_EXIT_HYPERCALL
    at = call.machine.vcpu.map_run() + MMIO_OF_KVM_RUN
    words = (ctypes.c_uint64 * 9).from_address(at)
    assert list(words[:7]) == [MAP_GPA_RANGE, 0x5000, 3, 0x12, 0, 0, 0]
    assert words[8] & 0xFFFF_FFFF == 1
    assert call.machine.vcpu.regs().rip == CODE
    words[7] = 0x1234_5678_9ABC
    assert call.machine.vcpu.run() == kvm.KVM_EXIT_IO
    assert call.end() == 0x1234_5678_9ABC


@pytest.mark.parametrize(
    ("gpa", "pages"), [(0x1001, 1), (0x1000, 0), (1 << 63, (1 << 64) - 1), (0x1000, (1 << 64) - 1)]
)
def test_ranges_that_are_none_do_not_leave(call: Caller, gpa: int, pages: int) -> None:
    let_leave(call.machine)
    assert call(MAP_GPA_RANGE, gpa, pages, 0) == EINVAL


@pytest.mark.parametrize("number", [VAPIC_POLL_IRQ, MAP_GPA_RANGE, 77])
def test_user_code_may_not(call_32: Caller, number: int) -> None:
    let_leave(call_32.machine)
    sregs = call_32.machine.vcpu.sregs()
    for name in ("cs", "ds", "es", "ss"):
        segment = getattr(sregs, name)
        segment.selector, segment.dpl = segment.selector | 3, 3
    call_32.machine.vcpu.set_sregs(sregs)
    call_32.machine.vcpu.change_regs(rflags=0x3002)
    assert call_32(number) == EPERM
