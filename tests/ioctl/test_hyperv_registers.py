"""HvCallGetVpRegisters, HvCallSetVpRegisters: a guest's own registers, by their names.

TLFS, "HV_REGISTER_NAME", "HV_REGISTER_VALUE". No kernel has them.
"""

import random
import struct

import pytest

from kvmshim.abi.structs_gen import kvm_segment
from tests import hyperv as hv
from tests.hyperv import OWN_PARTITION, OWN_PROCESSOR, Guest
from tests.ioctl.test_msr_filter import READ, WRITE, set_filter
from tests.kvm import System
from tests.machine import CODE, DATA, RAM_SIZE

GET, SET = hv.GET_VP_REGISTERS, hv.SET_VP_REGISTERS
OUT = DATA + 0x1000

R12, R15, RIP, RFLAGS = 0x2_000C, 0x2_000F, 0x2_0010, 0x2_0011
XMM3 = 0x3_0003
CR0, CR2, CR3, CR4, CR8 = 0x4_0000, 0x4_0001, 0x4_0002, 0x4_0003, 0x4_0004
DR7 = 0x5_0005
ES, CS, TR = 0x6_0000, 0x6_0001, 0x6_0007
IDTR, GDTR = 0x7_0000, 0x7_0001
EFER, APIC_BASE, PAT, LSTAR, MTRR_CAP = 0x8_0001, 0x8_0003, 0x8_0004, 0x8_0009, 0x8_000D
GUEST_OS_ID, VP_INDEX = 0x9_0002, 0x9_0003
FEATURES = 0x200
NO_NAME = 0x9_FFFF
MSR_PAT, MSR_LSTAR = 0x277, 0xC000_0082


@pytest.fixture
def guest(system: System) -> Guest:
    return Guest.introduced(system)


def head(partition: int = OWN_PARTITION, processor: int = OWN_PROCESSOR, level: int = 0) -> bytes:
    return struct.pack("<QII", partition, processor, level)


def get(guest: Guest, *names: int, before: bytes = head(), first: int = 0) -> int:
    """The result of the hypercall."""
    guest.machine.ram.write(DATA, before + struct.pack(f"<{len(names)}I", *names))
    guest.machine.ram.write(OUT, b"\xee" * 16 * (len(names) + 1))
    return guest.call(GET | len(names) << 32 | first << 48, DATA, OUT)


def value(guest: Guest, name: int) -> int:
    """128 bits."""
    assert get(guest, name) == hv.SUCCESS | 1 << 32
    return int.from_bytes(guest.machine.ram.read(OUT, 16), "little")


def put(guest: Guest, *values: tuple[int, int], before: bytes = head(), reserved: int = 0) -> int:
    """The result of the hypercall."""
    elements = [
        struct.pack("<IIQ", name, reserved, 0) + wanted.to_bytes(16, "little")
        for name, wanted in values
    ]
    guest.machine.ram.write(DATA, before + b"".join(elements))
    return guest.call(SET | len(values) << 32, DATA)


def segment(selected: kvm_segment) -> int:
    rights = selected.type_ | selected.s << 4 | selected.dpl << 5 | selected.present << 7
    rights |= selected.avl << 12 | selected.l << 13 | selected.db << 14 | selected.g << 15
    return selected.base | (selected.limit | selected.selector << 32 | rights << 48) << 64


def test_hv_47_registers_are_those_that_the_client_sees(guest: Guest) -> None:
    guest.vcpu.change_regs(r12=0x1122_3344_5566_7788, r15=1 << 63)
    hv.set_vectors(guest.vcpu, [*bytes(6), 0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908])
    sregs = guest.vcpu.sregs()
    wanted = {
        R12: 0x1122_3344_5566_7788,
        R15: 1 << 63,
        RFLAGS: 2,
        XMM3: int.from_bytes(bytes(range(16)), "little"),
        CR0: sregs.cr0,
        CR3: sregs.cr3,
        CR4: sregs.cr4,
        CR8: 0,
        DR7: 0x400,
        ES: segment(sregs.es),
        CS: segment(sregs.cs),
        TR: segment(sregs.tr),
        IDTR: sregs.idt.limit << 48 | sregs.idt.base << 64,
        GDTR: sregs.gdt.limit << 48 | sregs.gdt.base << 64,
        EFER: sregs.efer,
        PAT: guest.vcpu.msrs([MSR_PAT])[0],
        GUEST_OS_ID: hv.LINUX,
        VP_INDEX: 0,
    }
    told = {name: value(guest, name) for name in wanted}
    assert {hex(name): hex(told[name]) for name in told} == {
        hex(name): hex(wanted[name]) for name in wanted
    }


def test_hv_47_registers_have_leaves_of_cpuid_among_them(guest: Guest) -> None:
    leaf = hv.leaf(hv.supported(guest.vcpu), hv.FEATURES)
    words = struct.pack("<4I", leaf.eax, leaf.ebx, leaf.ecx, leaf.edx)
    assert value(guest, FEATURES) == int.from_bytes(words, "little")


def test_hv_47_registers_come_in_the_order_of_their_names(guest: Guest) -> None:
    guest.vcpu.change_regs(r12=12, r15=15)
    assert get(guest, R15, CR8, R12) == hv.SUCCESS | 3 << 32
    words = struct.unpack("<8Q", guest.machine.ram.read(OUT, 64))
    assert words == (15, 0, 0, 0, 12, 0, *(int.from_bytes(b"\xee" * 8, "little"),) * 2)


def test_hv_47_registers_before_the_first_that_is_wanted_are_left_out(guest: Guest) -> None:
    guest.vcpu.change_regs(r12=12, r15=15)
    assert get(guest, R15, R12, first=1) == hv.SUCCESS | 2 << 32
    assert guest.machine.ram.read(OUT, 16) == b"\xee" * 16
    assert guest.machine.peek(OUT + 16, 16) == 12


def test_hv_47_registers_end_at_a_name_that_is_none(guest: Guest) -> None:
    guest.vcpu.change_regs(r12=12)
    assert get(guest, R12, NO_NAME, R12) == hv.INVALID_PARAMETER | 1 << 32
    assert guest.machine.peek(OUT, 16) == 12
    assert guest.machine.ram.read(OUT + 16, 32) == b"\xee" * 32


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (head(partition=0), hv.INVALID_PARTITION_ID),
        (head(processor=1), hv.INVALID_VP_INDEX),
        (head(level=1 << 4 | 1), hv.INVALID_VTL_STATE),
        (head(level=1 << 5), hv.INVALID_PARAMETER),
        (head(level=1 << 8), hv.INVALID_PARAMETER),
        (head(level=1 << 4), hv.SUCCESS | 1 << 32),
        (head(level=1), hv.SUCCESS | 1 << 32),
        (head(processor=0), hv.SUCCESS | 1 << 32),
    ],
)
def test_hv_47_registers_of_nobody_are_refused(guest: Guest, before: bytes, status: int) -> None:
    assert get(guest, R12, before=before) == status
    assert put(guest, (R12, 0), before=before) == status


def test_hv_47_registers_of_others_wait_for_a_state_that_they_never_have(guest: Guest) -> None:
    guest.machine.vm.create_vcpu(1)
    assert get(guest, R12, before=head(processor=1)) == hv.INVALID_VP_STATE
    assert put(guest, (R12, 0), before=head(processor=1)) == hv.INVALID_VP_STATE


@pytest.mark.parametrize(
    ("control", "source", "target", "status"),
    [
        (GET, DATA, OUT, hv.INVALID_INPUT),
        (GET | 1 << 32 | 1 << 48, DATA, OUT, hv.INVALID_INPUT),
        (GET | 1 << 32 | 2 << 48, DATA, OUT, hv.INVALID_INPUT),
        (GET | 1 << 32 | 1 << 17, DATA, OUT, hv.INVALID_INPUT),
        (GET | 1 << 32, DATA + 4, OUT, hv.INVALID_ALIGNMENT),
        (GET | 1 << 32, DATA, OUT + 4, hv.INVALID_ALIGNMENT),
        (GET | 1 << 32, DATA + 0xFF0, OUT, hv.INVALID_ALIGNMENT),
        (GET | 1 << 32, DATA, OUT + 0xFF8, hv.INVALID_ALIGNMENT),
        (GET | 1 << 32, RAM_SIZE, OUT, hv.INVALID_ALIGNMENT),
        (GET | 1 << 32, DATA, RAM_SIZE, hv.INVALID_ALIGNMENT),
        (GET | 4095 << 32, DATA, OUT, hv.INVALID_ALIGNMENT),
        (SET, DATA, 0, hv.INVALID_INPUT),
        (SET | 1 << 32, DATA + 4, 0, hv.INVALID_ALIGNMENT),
        (SET | 1 << 32, DATA + 0xFD8, 0, hv.INVALID_ALIGNMENT),
        (SET | 1 << 32, (1 << 64) - 64, 0, hv.INVALID_ALIGNMENT),
    ],
)
def test_hv_47_registers_in_lists_that_are_not_there_are_refused(
    guest: Guest, control: int, source: int, target: int, status: int
) -> None:
    guest.machine.ram.write(DATA, head() + struct.pack("<I", R12))
    assert guest.call(control, source, target) == status


def test_hv_47_registers_are_set(guest: Guest) -> None:
    sregs = guest.vcpu.sregs()
    es = segment(sregs.es) + 0x5000
    values = [(R12, 0xABC), (XMM3, 1 << 127 | 5), (CR2, 0x7000), (LSTAR, 0x8000), (ES, es)]
    assert put(guest, *values) == hv.SUCCESS | len(values) << 32
    assert guest.vcpu.regs().r12 == 0xABC
    assert bytes(guest.vcpu.fpu().xmm[3]) == (1 << 127 | 5).to_bytes(16, "little")
    assert guest.vcpu.sregs().cr2 == 0x7000
    assert guest.vcpu.sregs().es.base == sregs.es.base + 0x5000
    assert guest.vcpu.msrs([MSR_LSTAR]) == [0x8000]
    assert [value(guest, name) for name, _ in values] == [wanted for _, wanted in values]


def test_hv_47_registers_set_by_their_own_msrs_follow_the_rules_of_these(guest: Guest) -> None:
    assert put(guest, (GUEST_OS_ID, 7)) == hv.SUCCESS | 1 << 32
    assert guest.rdmsr(hv.GUEST_OS_ID) == 7
    assert put(guest, (VP_INDEX, 7)) == hv.INVALID_REGISTER_VALUE


def test_hv_47_registers_with_the_instructions_address_lead_elsewhere(guest: Guest) -> None:
    """The hypercall is behind the guest then: it goes on at once, without a result."""
    elsewhere = CODE + 0x300
    guest.machine.ram.write(elsewhere, b"\xe6\x57\xf4")
    guest.machine.ram.write(DATA, head() + struct.pack("<IIQQQ", RIP, 0, 0, elsewhere, 0))
    guest.begin("call", **guest.words(SET | 1 << 32, DATA))
    assert guest.vcpu.io.port == 0x57


@pytest.mark.parametrize(
    ("name", "wanted", "status"),
    [
        (NO_NAME, 0, hv.INVALID_PARAMETER),
        (FEATURES, 0, hv.INVALID_PARAMETER),
        (MTRR_CAP, 0, hv.INVALID_PARAMETER),
        (APIC_BASE, 0xFEE0_0900, hv.INVALID_PARAMETER),
        (R12, 1 << 64, hv.INVALID_REGISTER_VALUE),
        (CR0, 1 << 31, hv.INVALID_REGISTER_VALUE),
        (CR0, 1 << 32 | 1, hv.INVALID_REGISTER_VALUE),
        (CR0, 1 << 6 | 1, hv.INVALID_REGISTER_VALUE),
        (RFLAGS, 2 | 1 << 3, hv.INVALID_REGISTER_VALUE),
        (CR4, 1 << 63, hv.INVALID_REGISTER_VALUE),
        (CR4, 0, hv.INVALID_REGISTER_VALUE),
        (CR8, 16, hv.INVALID_REGISTER_VALUE),
        (EFER, 1 << 8, hv.INVALID_REGISTER_VALUE),
        (PAT, 2, hv.INVALID_REGISTER_VALUE),
        (ES, 0x0F00 << 112, hv.INVALID_REGISTER_VALUE),
    ],
)
def test_hv_47_registers_have_values_that_they_refuse(
    guest: Guest, name: int, wanted: int, status: int
) -> None:
    """Those before are set, those behind are not, and the guest goes on."""
    guest.vcpu.change_regs(r12=0, r15=0)
    before = bytes(guest.vcpu.sregs())
    assert put(guest, (R15, 1), (name, wanted), (R15, 2)) == status | 1 << 32
    assert guest.vcpu.regs().r15 == 1
    assert bytes(guest.vcpu.sregs()) == before
    assert put(guest, (R15, 3), reserved=1) == hv.INVALID_PARAMETER
    assert guest.call(hv.LONG_SPIN_WAIT) == hv.SUCCESS


@pytest.mark.parametrize("seed", range(4))
def test_hv_47_registers_of_any_name_have_a_value_or_none(guest: Guest, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        name = chance.choice([0, 0x200, *range(0x1_0000, 0xE_0000, 0x1_0000)])
        name += chance.randrange(0x120) if chance.random() < 0.9 else chance.getrandbits(31)
        assert get(guest, name) in {hv.SUCCESS | 1 << 32, hv.INVALID_PARAMETER}


def test_hv_47_registers_are_no_way_around_the_filter_of_msrs(guest: Guest) -> None:
    set_filter(guest.machine.vm, (READ | WRITE, MSR_LSTAR, 1, 0))
    assert get(guest, R12, LSTAR) == hv.ACCESS_DENIED | 1 << 32
    assert put(guest, (R12, 1), (LSTAR, 1)) == hv.ACCESS_DENIED | 1 << 32
    assert guest.vcpu.msrs([MSR_LSTAR]) == [0]


@pytest.mark.parametrize("there", [False, True])
def test_hv_47_registers_enforced_need_their_bits(system: System, there: bool) -> None:
    announced = {hv.FEATURES: {"eax": 1 << 5, "ebx": there << 17}}
    guest = Guest.introduced(system, announced, enforce=True)
    done = hv.SUCCESS | 1 << 32 if there else hv.ACCESS_DENIED
    assert get(guest, R12) == done
    assert put(guest, (R12, 0)) == done
    if there:
        assert get(guest, VP_INDEX) == hv.ACCESS_DENIED
        assert get(guest, GUEST_OS_ID) == done
