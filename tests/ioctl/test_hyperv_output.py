"""Output of fast hypercalls, in the registers that input leaves.

TLFS, "XMM Fast Hypercall Output": RDX, R8 and XMM0 to XMM5 are a block of 112 bytes. No kernel
has it.
"""

import struct

import pytest

from tests import hyperv as hv
from tests.hyperv import OWN_PARTITION, OWN_PROCESSOR, UD, Guest, faults
from tests.kvm import System
from tests.machine import DATA, Mode

GET = hv.GET_VP_REGISTERS | hv.FAST
R12, R13, R14, R15, VP_INDEX = 0x2_000C, 0x2_000D, 0x2_000E, 0x2_000F, 0x9_0003
OSFXSR = 1 << 9
XMM_OUTPUT = 1 << 15
FILLED = bytes(range(0x40, 0x40 + 96))
MARK = 0xEEEE_EEEE


def with_vectors(guest: Guest) -> Guest:
    sregs = guest.vcpu.sregs()
    sregs.cr4 |= OSFXSR
    guest.vcpu.set_sregs(sregs)
    hv.set_vectors(guest.vcpu, struct.unpack("<12Q", FILLED))
    return guest


@pytest.fixture
def guest(system: System) -> Guest:
    made = with_vectors(Guest.introduced(system))
    made.vcpu.change_regs(r12=12, r13=13, r14=14, r15=15)
    return made


def block(guest: Guest) -> bytes:
    """RDX, R8 and XMM0 to XMM5."""
    regs, fpu = guest.vcpu.regs(), guest.vcpu.fpu()
    return struct.pack("<QQ", regs.rdx, regs.r8) + b"".join(bytes(fpu.xmm[n]) for n in range(6))


def get(guest: Guest, *names: int, first: int = 0) -> int:
    """HvCallGetVpRegisters, all of it in registers."""
    data = struct.pack(f"<{len(names)}I", *names)
    hv.set_vectors(guest.vcpu, struct.unpack("<12Q", data + FILLED[len(data) :]))
    return guest.call(GET | len(names) << 32 | first << 48, OWN_PARTITION, OWN_PROCESSOR)


def test_hv_47_output_without_input_begins_in_rdx(guest: Guest) -> None:
    assert guest.call(hv.GET_PARTITION_ID, 0, DATA) == hv.SUCCESS
    number = guest.machine.peek(DATA, 8)
    assert guest.call(hv.GET_PARTITION_ID | hv.FAST, MARK, MARK) == hv.SUCCESS
    assert block(guest) == struct.pack("<QQ", number, MARK) + FILLED


@pytest.mark.parametrize(
    ("names", "begins", "values"),
    [
        ((R12,), 32, (12,)),
        ((R12, R13, R14, R15), 32, (12, 13, 14, 15)),
        ((R12, R13, VP_INDEX), 32, (12, 13, 0)),
    ],
)
def test_hv_47_output_begins_at_the_next_16_bytes_behind_input(
    guest: Guest, names: tuple[int, ...], begins: int, values: tuple[int, ...]
) -> None:
    """And leaves the rest as it was: input, and what is behind output."""
    assert get(guest, *names) == hv.SUCCESS | len(names) << 32
    told = block(guest)
    ends = begins + 16 * len(names)
    data = struct.pack(f"<QQ{len(names)}I", OWN_PARTITION, OWN_PROCESSOR, *names)
    assert told[: len(data)] == data
    assert told[begins:ends] == b"".join(struct.pack("<QQ", value, 0) for value in values)
    assert told[ends:] == FILLED[ends - 16 :]


def test_hv_47_output_of_a_list_that_goes_on_is_at_its_place(guest: Guest) -> None:
    assert get(guest, R12, R13, first=1) == hv.SUCCESS | 2 << 32
    assert block(guest)[32:64] == FILLED[16:32] + struct.pack("<QQ", 13, 0)


@pytest.mark.parametrize("count", [5, 6, 24, 4095])
def test_hv_47_output_that_registers_do_not_hold_is_refused(guest: Guest, count: int) -> None:
    status = guest.call(GET | count << 32, OWN_PARTITION, OWN_PROCESSOR)
    assert status == hv.INVALID_INPUT
    assert block(guest) == struct.pack("<QQ", OWN_PARTITION, OWN_PROCESSOR) + FILLED


def test_hv_47_output_in_registers_is_for_64_bit_code(system: System) -> None:
    guest = Guest.introduced(system, mode=Mode.PROTECTED)
    assert faults(guest.call, hv.GET_PARTITION_ID | hv.FAST) == UD
    assert faults(guest.call, GET | 1 << 32) == UD
    assert guest.call(hv.GET_PARTITION_ID, 0, DATA) == hv.SUCCESS


@pytest.mark.parametrize("there", [False, True])
def test_hv_47_output_in_registers_enforced_needs_its_bit(system: System, there: bool) -> None:
    features = hv.leaf(hv.supported(system), hv.FEATURES).edx & ~XMM_OUTPUT
    announced = {hv.FEATURES: {"edx": features | there << 15}}
    guest = Guest.introduced(system, announced, enforce=True)
    got = faults(guest.call, hv.GET_PARTITION_ID | hv.FAST)
    assert got == (None if there else UD)
    assert guest.call(hv.GET_PARTITION_ID, 0, DATA) == hv.SUCCESS


def test_hv_47_output_in_registers_is_announced(system: System) -> None:
    assert hv.leaf(hv.supported(system), hv.FEATURES).edx & XMM_OUTPUT
