"""Hyper-V's hypercalls: who may make them, input word and result, what leaves to the client."""

import random
import struct

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import GP, UD, Guest, faults
from tests.kvm import System
from tests.machine import CODE, DATA, RAM_SIZE, Mode

QUERY_CAPABILITIES, MEMORY_HEAT_HINT = 0x8001, 0x8003
RESERVED_BITS = [*range(27, 32), *range(44, 48), *range(60, 64)]


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.introduced(system)


def enforced(system: System, changes: dict[int, dict[str, int]]) -> Guest:
    return Guest.introduced(system, changes, enforce=True)


def test_hv_00j_an_unknown_code_is_told(guest: Guest) -> None:
    for code in (0, 1, 4, 7, 0xBEEF, 0xFFFF):
        assert guest.call(code) == hv.INVALID_CODE


def test_hv_00j_outside_64_bit_mode_words_are_pairs(system: System) -> None:
    guest = Guest.introduced(system, mode=Mode.PROTECTED)
    assert guest.call(hv.LONG_SPIN_WAIT) == hv.SUCCESS
    assert guest.call(hv.LONG_SPIN_WAIT | 1 << 32) == hv.INVALID_INPUT
    assert guest.call(0xBEEF) == hv.INVALID_CODE
    assert guest.call(hv.FLUSH_LIST | hv.FAST | 3 << 32) == hv.SUCCESS | 3 << 32
    assert guest.call(hv.FLUSH_SPACE, RAM_SIZE) == hv.INVALID_INPUT


@pytest.mark.parametrize("bit", RESERVED_BITS)
def test_hv_00j_every_reserved_bit_is_refused(guest: Guest, bit: int) -> None:
    assert guest.call(hv.LONG_SPIN_WAIT | 1 << bit) == hv.INVALID_INPUT
    assert guest.call(0xBEEF | 1 << bit) == hv.INVALID_INPUT


def test_hv_00l_access_comes_before_the_shape(system: System) -> None:
    guest = enforced(system, {hv.RECOMMENDATIONS: {"ebx": 0}})
    assert guest.call(hv.LONG_SPIN_WAIT | 1 << 63) == hv.ACCESS_DENIED
    assert guest.call(0xBEEF | 1 << 63) == hv.INVALID_INPUT


def test_hv_00j_real_mode_is_undefined(system: System) -> None:
    guest = Guest.introduced(system, mode=Mode.REAL)
    assert faults(guest.call, hv.LONG_SPIN_WAIT) == UD


@pytest.mark.parametrize("ring", [1, 2, 3])
def test_hv_00j_rings_but_0_are_undefined(guest: Guest, ring: int) -> None:
    """Before anything else is looked at."""
    for control in (hv.LONG_SPIN_WAIT, 0xBEEF, (1 << 64) - 1, hv.FLUSH_SPACE):
        hv.enter_ring(guest, ring)
        assert faults(guest.call, control, DATA) == UD


def test_hv_00i_without_an_identity_they_are_kvms(system: System) -> None:
    guest = Guest.of(system)
    assert guest.call(hv.LONG_SPIN_WAIT) == (1 << 64) - 1000


def test_hv_00a_without_the_interface_they_are_kvms(system: System) -> None:
    guest = Guest.of(system, {hv.INTERFACE: {"eax": 0}})
    guest.vcpu.set_msrs([(hv.GUEST_OS_ID, hv.LINUX)])
    assert guest.call(hv.LONG_SPIN_WAIT) == (1 << 64) - 1000


def test_hv_00i_the_page_is_code_that_calls(guest: Guest) -> None:
    guest.wrmsr(hv.HYPERCALL, DATA | hv.ENABLED)
    source = f"mov rbx, {DATA}; call rbx; out {hv.DONE_PORT:#x}, al; hlt"
    guest.machine.ram.write(CODE + 0x80, assemble(source, bits=64, origin=CODE + 0x80))
    assert guest.call(hv.LONG_SPIN_WAIT) == hv.SUCCESS
    assert guest.call(0xBEEF) == hv.INVALID_CODE


@pytest.mark.parametrize("retries", [0, 0xFFFF_FFFF])
def test_hv_03_spin_waits_need_a_number_of_retries(system: System, retries: int) -> None:
    guest = enforced(system, {hv.RECOMMENDATIONS: {"ebx": retries}})
    assert guest.call(hv.LONG_SPIN_WAIT) == hv.ACCESS_DENIED
    other = enforced(system, {hv.RECOMMENDATIONS: {"ebx": 1}})
    assert other.call(hv.LONG_SPIN_WAIT) == hv.SUCCESS


@pytest.mark.parametrize("shape", [1 << 17, 1 << 32, 1 << 48], ids=["header", "reps", "first"])
def test_hv_00l_a_shape_that_the_call_has_not_is_refused(guest: Guest, shape: int) -> None:
    for code in (hv.LONG_SPIN_WAIT, hv.FLUSH_SPACE, hv.SEND_IPI, hv.POST_MESSAGE, hv.SIGNAL_EVENT):
        assert guest.call(code | shape, DATA) == hv.INVALID_INPUT


def test_hv_22_enforced_input_in_vector_registers_needs_its_bit(system: System) -> None:
    without = enforced(system, {hv.FEATURES: {"edx": 0}})
    assert faults(without.call, hv.FLUSH_SPACE | hv.FAST) == UD
    assert without.call(hv.FLUSH_SPACE, DATA) == hv.SUCCESS
    assert enforced(system, {}).call(hv.FLUSH_SPACE | hv.FAST) == hv.SUCCESS


def test_hv_00l_vector_registers_come_between_reserved_bits_and_the_shape(system: System) -> None:
    without = enforced(system, {hv.FEATURES: {"edx": 0}})
    fast = hv.FLUSH_SPACE | hv.FAST
    assert without.call(fast | 1 << 63) == hv.INVALID_INPUT
    assert faults(without.call, fast | 1 << 32) == UD
    none = enforced(system, {hv.FEATURES: {"edx": 0}, hv.RECOMMENDATIONS: {"eax": 0}})
    assert none.call(fast | 1 << 63) == hv.ACCESS_DENIED


SETS = (hv.FLUSH_SPACE_EX, hv.FLUSH_LIST_EX | 1 << 32, hv.SEND_IPI_EX)
WITHOUT_HEADERS = (
    hv.FLUSH_SPACE,
    hv.FLUSH_LIST | 1 << 32,
    hv.SEND_IPI,
    hv.LONG_SPIN_WAIT,
    hv.GET_PARTITION_ID,
    hv.POST_MESSAGE,
    hv.SIGNAL_EVENT,
    hv.GET_VP_REGISTERS | 1 << 32,
    hv.SET_VP_REGISTERS | 1 << 32,
    hv.START_VIRTUAL_PROCESSOR,
    hv.GET_VP_INDEX_FROM_APIC_ID | 1 << 32,
)


@pytest.mark.slow
@pytest.mark.parametrize("fast", [0, hv.FAST], ids=["memory", "fast"])
@pytest.mark.parametrize("code", [*SETS, *WITHOUT_HEADERS], ids=hex)
def test_hv_00l_headers_of_all_lengths_but_the_right_one_are_refused(
    system: System, code: int, fast: int
) -> None:
    """The input says that two words of a set follow."""
    guest = Guest.introduced(system, controllers=True)
    ipi = code == hv.SEND_IPI_EX
    words = [0x40, 0, 0b11, 1, 0] if ipi else [0, 2, 0, 0b11, 1, 0]
    guest.machine.ram.write(DATA, struct.pack(f"<{len(words)}Q", *words))
    hv.set_vectors(guest.vcpu, words[2:])
    first, second = words[:2] if fast else (DATA, 0)
    right = 2 if code in SETS else 0
    taken = [
        count
        for count in range(1024)
        if guest.call(code | fast | count << 17, first, second) != hv.INVALID_INPUT
    ]
    assert set(taken) <= {right}
    assert taken == [right] or code not in SETS


@pytest.mark.parametrize(
    "code",
    [
        hv.FLUSH_SPACE,
        hv.FLUSH_LIST | 1 << 32,
        hv.FLUSH_SPACE_EX | 1 << 17,
        hv.SEND_IPI_EX | 1 << 17,
    ],
    ids=hex,
)
def test_hv_00j_input_that_ends_behind_memory_is_refused(system: System, code: int) -> None:
    """Be it with its head, or with the set or list that follows: nobody hears of it."""
    guest = Guest.introduced(system, controllers=True)
    words = [0x40, 0, 1, 1] if code & 0xFFFF == hv.SEND_IPI_EX else [0, 2, 1, 0x1000]
    if code & 0xFFFF == hv.FLUSH_SPACE_EX:
        words = [0, 2, 0, 1, 1]
    whole = 3 if code == hv.FLUSH_SPACE else len(words)
    for there in range(1, whole):
        at = RAM_SIZE - 8 * there
        guest.machine.ram.write(at, struct.pack(f"<{there}Q", *words[:there]))
        assert guest.call(code, at) == hv.INVALID_INPUT
    at = RAM_SIZE - 8 * whole
    guest.machine.ram.write(at, struct.pack(f"<{whole}Q", *words[:whole]))
    assert guest.call(code, at) & 0xFFFF == hv.SUCCESS


@pytest.mark.parametrize(
    ("code", "needs"),
    [
        (hv.FLUSH_SPACE, 1 << 2),
        (hv.FLUSH_LIST | 1 << 32, 1 << 2),
        (hv.FLUSH_SPACE_EX, 1 << 2 | 1 << 11),
        (hv.FLUSH_LIST_EX | 1 << 32, 1 << 2 | 1 << 11),
        (hv.SEND_IPI, 1 << 10),
        (hv.SEND_IPI_EX, 1 << 10 | 1 << 11),
    ],
)
def test_hv_24_enforced_a_hypercall_needs_its_bits(system: System, code: int, needs: int) -> None:
    for bit in (2, 10, 11):
        if needs >> bit & 1:
            guest = enforced(system, {hv.RECOMMENDATIONS: {"eax": 0xFFFF_FFFF & ~(1 << bit)}})
            assert guest.call(code, DATA) == hv.ACCESS_DENIED
    guest = enforced(system, {hv.RECOMMENDATIONS: {"eax": needs}})
    assert guest.call(code, DATA) != hv.ACCESS_DENIED


def test_hv_23_the_debuggers_hypercalls_need_debugging(system: System) -> None:
    guest = enforced(system, {hv.DEBUG_CAPABILITIES: {"eax": 0}, hv.FEATURES: {"ebx": 0}})
    assert guest.call(hv.RESET_DEBUG_SESSION) == hv.INVALID_CODE
    guest = enforced(system, {hv.FEATURES: {"ebx": 0}})
    assert guest.call(hv.RESET_DEBUG_SESSION) == hv.ACCESS_DENIED
    guest = enforced(system, {})
    assert guest.call(hv.RESET_DEBUG_SESSION) == hv.OPERATION_DENIED
    assert guest.call(hv.POST_DEBUG_DATA | hv.FAST) == hv.INVALID_PARAMETER


@pytest.mark.parametrize("mode", [Mode.LONG, Mode.PROTECTED])
def test_hv_23_the_debuggers_hypercalls_leave_and_are_answered(system: System, mode: Mode) -> None:
    guest = Guest.introduced(system, mode=mode)
    guest.wrmsr(hv.SYNDBG_OPTIONS, 4)
    words = guest.words(hv.POST_DEBUG_DATA, 0x1_2000, 0x3000)
    assert guest.begin("call", **words) == kvm.KVM_EXIT_HYPERV
    kind, *told = guest.vcpu.exit_words
    assert kind == kvm.KVM_EXIT_HYPERV_HCALL
    assert (told[0], *told[2:4]) == (hv.POST_DEBUG_DATA, 0x1_2000, 0x3000)
    guest.vcpu.exit_words[2] = 0x77 << 32 | 5
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    guest.check()
    assert guest.result() == 0x77 << 32 | 5


def test_hv_07_messages_need_a_synthetic_interrupt_controller(guest: Guest) -> None:
    for code in (hv.POST_MESSAGE, hv.SIGNAL_EVENT):
        assert guest.call(code, DATA) == hv.INVALID_INPUT


def test_hv_00m_the_identity_needs_its_bit_when_enforced(system: System) -> None:
    guest = Guest.of(system, {hv.FEATURES: {"eax": 0}}, enforce=True)
    assert faults(guest.introduce) == GP


@pytest.mark.parametrize("code", [hv.EXTENDED[0], hv.EXTENDED[-1]])
def test_hv_35_extended_hypercalls_leave_and_are_answered(guest: Guest, code: int) -> None:
    """The client puts the output into memory and says how it went."""
    words = guest.words(code, 0, DATA)
    assert guest.begin("call", **words) == kvm.KVM_EXIT_HYPERV
    kind, *told = guest.vcpu.exit_words
    assert kind == kvm.KVM_EXIT_HYPERV_HCALL
    assert (told[0], *told[2:4]) == (code, 0, DATA)
    guest.machine.ram.write(DATA, (0xBADDCAFE).to_bytes(8, "little"))
    guest.vcpu.exit_words[2] = hv.SUCCESS
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    guest.check()
    assert (guest.result(), guest.machine.peek(DATA, 8)) == (hv.SUCCESS, 0xBADDCAFE)


def test_hv_35_they_are_not_fast_and_their_neighbours_are_none(guest: Guest) -> None:
    assert guest.call(hv.EXTENDED[0] | hv.FAST) == hv.INVALID_PARAMETER
    for code in (hv.EXTENDED[0] - 1, hv.EXTENDED[-1] + 1):
        assert guest.call(code) == hv.INVALID_CODE


def test_hv_35_enforced_they_need_their_bit(system: System) -> None:
    without = enforced(system, {hv.FEATURES: {"ebx": 0xFFFF_FFFF & ~(1 << 20)}})
    assert without.call(hv.EXTENDED[0]) == hv.ACCESS_DENIED
    with_it = enforced(system, {hv.FEATURES: {"ebx": 1 << 20}})
    assert with_it.begin("call", **with_it.words(hv.EXTENDED[0])) == kvm.KVM_EXIT_HYPERV


def test_hv_44_the_client_hears_of_memory_that_the_guest_does_not_need(guest: Guest) -> None:
    """What it can take, and a list of ranges: with its length, and with how many it has taken."""
    guest.begin("call", **guest.words(QUERY_CAPABILITIES, 0, DATA))
    assert guest.vcpu.exit_words[1] == QUERY_CAPABILITIES
    guest.machine.ram.write(DATA, (1 << 8).to_bytes(8, "little"))
    guest.vcpu.exit_words[2] = hv.SUCCESS
    assert guest.vcpu.run() == kvm.KVM_EXIT_IO
    assert (guest.result(), guest.machine.peek(DATA, 8)) == (hv.SUCCESS, 1 << 8)
    two_ranges = MEMORY_HEAT_HINT | 2 << 32
    assert guest.begin("call", **guest.words(two_ranges, DATA)) == kvm.KVM_EXIT_HYPERV
    assert (guest.vcpu.exit_words[1], guest.vcpu.exit_words[3]) == (two_ranges, DATA)


STATUSES = {0, 2, 3, 4, 5, 6, 8, 13, 14, 17}
WITH_OUTPUT = (hv.GET_PARTITION_ID, hv.GET_VP_REGISTERS, hv.GET_VP_INDEX_FROM_APIC_ID)


@pytest.mark.parametrize("mode", [Mode.LONG, Mode.PROTECTED])
@pytest.mark.parametrize("seed", range(4))
def test_hv_00k_whatever_a_guest_asks_it_gets_a_status(
    system: System, mode: Mode, seed: int
) -> None:
    """Random input words with codes that there are, and addresses in, across and outside memory."""
    chance = random.Random(seed)
    guest = Guest.introduced(system, mode=mode, controllers=True)
    codes = [2, 3, 8, 0x0B, 0x13, 0x14, 0x15, 0x5C, 0x5D, 0x69, 0x6B, 0x8001, 0xBEEF]
    codes += [*WITH_OUTPUT, hv.SET_VP_REGISTERS, hv.START_VIRTUAL_PROCESSOR]
    places = [0, 1, DATA, DATA + 4, RAM_SIZE - 8, RAM_SIZE, 1 << 40, (1 << 64) - 8]
    for _ in range(300):
        code = chance.choice(codes) | chance.choice([0, hv.FAST])
        shape = (
            chance.choice([0, 1 << 17, 64 << 17, 0x3FF << 17]) | chance.choice([0, 1, 4095]) << 32
        )
        noise = 1 << chance.randrange(64) if chance.random() < 0.3 else 0
        guest.machine.ram.write(DATA, chance.randbytes(64))
        second = chance.choice([*places, chance.getrandbits(64)])
        control = code | shape ^ noise
        reason = guest.begin("call", **guest.words(control, chance.choice(places), second))
        if reason == kvm.KVM_EXIT_HYPERV:
            guest.vcpu.exit_words[2] = 0
            assert guest.vcpu.run() == kvm.KVM_EXIT_IO
        else:
            assert reason == kvm.KVM_EXIT_IO
        if mode is Mode.PROTECTED and control & hv.FAST and control & 0xFFFF in WITH_OUTPUT:
            assert faults(guest.check) == UD or guest.result() == hv.INVALID_INPUT
            continue
        guest.check()
        assert guest.result() & 0xFFFF in STATUSES
    assert guest.call(hv.LONG_SPIN_WAIT) == hv.SUCCESS
