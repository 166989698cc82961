"""HvCallStartVirtualProcessor: a processor that waits begins with the registers that it is given.

TLFS, "HvCallStartVirtualProcessor", "HV_INITIAL_VP_CONTEXT". No kernel has it.
"""

import struct
import threading

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_dtable, kvm_regs, kvm_segment, kvm_sregs
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import OWN_PARTITION, Guest
from tests.kvm import System, Vcpu
from tests.machine import CODE, DATA, RAM_SIZE, STACK, Mode

CALL = hv.START_VIRTUAL_PROCESSOR
TARGET = 1
STARTED = CODE + 0x400
STARTED_PORT = 0x56
FLAGS = 2 | 1 << 14
PAT = 0x0007_0406_0007_0401
HEAD, CONTEXT = 16, 224
PAGING, PROTECTION, LONG_MODE_ACTIVE = 1 << 31, 1, 1 << 10


class Pair:
    """A guest, and a second processor that waits to be started."""

    def __init__(self, system: System) -> None:
        self.guest = Guest.introduced(system, controllers=True)
        self.target: Vcpu = self.guest.machine.vm.create_vcpu(TARGET)
        self.target.set_cpuid(hv.cpuid_of_guest(system, self.target))
        source = f"out {STARTED_PORT:#x}, al; again: jmp again"
        self.guest.machine.ram.write(STARTED, assemble(source, bits=64, origin=STARTED))
        self.regs, self.sregs, self.pat = self.guest.vcpu.regs(), self.guest.vcpu.sregs(), PAT
        self.regs.rip, self.regs.rsp, self.regs.rflags = STARTED, STACK - 0x100, FLAGS
        self.partition, self.number, self.level = OWN_PARTITION, TARGET, 0

    def input(self) -> bytes:
        head = struct.pack("<QIB3x", self.partition, self.number, self.level)
        return head + context(self.regs, self.sregs, self.pat)

    def start(self, control: int = CALL, address: int = DATA) -> int:
        """The status of a start with what stands here."""
        if address + HEAD + CONTEXT <= RAM_SIZE:
            self.guest.machine.ram.write(address, self.input())
        return self.guest.call(control, address)


def segment(value: kvm_segment) -> bytes:
    rights = value.type_ | value.s << 4 | value.dpl << 5 | value.present << 7
    rights |= value.avl << 12 | value.l << 13 | value.db << 14 | value.g << 15
    return struct.pack("<QIHH", value.base, value.limit, value.selector, rights)


def table(value: kvm_dtable) -> bytes:
    return struct.pack("<6xHQ", value.limit, value.base)


def context(regs: kvm_regs, sregs: kvm_sregs, pat: int) -> bytes:
    """HV_INITIAL_VP_CONTEXT."""
    order = (sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss, sregs.tr, sregs.ldt)
    parts = [struct.pack("<3Q", regs.rip, regs.rsp, regs.rflags), *map(segment, order)]
    parts += [table(sregs.idt), table(sregs.gdt)]
    parts.append(struct.pack("<5Q", sregs.efer, sregs.cr0, sregs.cr3, sregs.cr4, pat))
    return b"".join(parts)


@pytest.fixture
def pair(system: System) -> Pair:
    return Pair(system)


def test_hv_47_start_begins_with_the_registers_that_are_given(pair: Pair) -> None:
    pair.sregs.gs.base = 0x1234_5678_9ABC
    assert pair.target.mp_state() == kvm.KVM_MP_STATE_UNINITIALIZED
    assert pair.start() == hv.SUCCESS
    assert pair.target.run() == kvm.KVM_EXIT_IO
    assert pair.target.io.port == STARTED_PORT
    assert pair.target.mp_state() == kvm.KVM_MP_STATE_RUNNABLE
    regs, sregs = pair.target.regs(), pair.target.sregs()
    assert (regs.rsp, regs.rflags) == (pair.regs.rsp, FLAGS)
    assert context(regs, sregs, 0)[24:216] == context(pair.regs, pair.sregs, 0)[24:216]
    assert pair.target.msrs([0x277]) == [PAT]


def test_hv_47_start_wakes_a_processor_that_sleeps(pair: Pair) -> None:
    runs = threading.Thread(target=pair.target.run)
    runs.start()
    assert pair.start() == hv.SUCCESS
    runs.join()
    assert pair.target.io.port == STARTED_PORT


def test_hv_47_start_is_for_who_waits(pair: Pair) -> None:
    assert pair.start() == hv.SUCCESS
    assert pair.start() == hv.INVALID_VP_STATE
    assert pair.target.run() == kvm.KVM_EXIT_IO
    assert pair.start() == hv.INVALID_VP_STATE
    for number in (0, hv.OWN_PROCESSOR):
        pair.number = number
        assert pair.start() == hv.INVALID_VP_STATE


def test_hv_47_start_may_come_again_after_init(pair: Pair) -> None:
    pair.target.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    assert pair.start() == hv.INVALID_VP_STATE
    pair.target.set_mp_state(kvm.KVM_MP_STATE_INIT_RECEIVED)
    assert pair.start() == hv.SUCCESS
    assert pair.target.run() == kvm.KVM_EXIT_IO
    assert pair.target.io.port == STARTED_PORT


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"partition": 0}, hv.INVALID_PARTITION_ID),
        ({"partition": OWN_PARTITION - 1}, hv.INVALID_PARTITION_ID),
        ({"number": 2}, hv.INVALID_VP_INDEX),
        ({"number": 0xFFFF_FFFF}, hv.INVALID_VP_INDEX),
        ({"level": 1}, hv.INVALID_VTL_STATE),
        ({"pat": 2}, hv.INVALID_REGISTER_VALUE),
    ],
)
def test_hv_47_start_of_nobody_is_refused(pair: Pair, changes: dict[str, int], status: int) -> None:
    for name, value in changes.items():
        setattr(pair, name, value)
    assert pair.start() == status
    assert pair.target.mp_state() == kvm.KVM_MP_STATE_UNINITIALIZED


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("regs", "rflags", 0),
        ("regs", "rflags", 2 | 1 << 3),
        ("regs", "rflags", 2 | 1 << 32),
        ("sregs", "cr0", PAGING),
        ("sregs", "cr0", 1 << 32 | PROTECTION),
        ("sregs", "cr0", 1 << 6 | PROTECTION),
        ("sregs", "cr4", 1 << 63),
        ("sregs", "cr4", 0),
        ("sregs", "efer", LONG_MODE_ACTIVE),
        ("sregs", "efer", 1 << 63),
        ("sregs", "cr3", 1 << 62),
    ],
)
def test_hv_47_start_with_what_no_processor_can_be_in_is_refused(
    pair: Pair, part: str, name: str, value: int
) -> None:
    setattr(getattr(pair, part), name, value)
    assert pair.start() == hv.INVALID_REGISTER_VALUE
    assert pair.target.mp_state() == kvm.KVM_MP_STATE_UNINITIALIZED


@pytest.mark.parametrize(
    ("control", "address", "status"),
    [
        (CALL | hv.FAST, DATA, hv.INVALID_INPUT),
        (CALL | 1 << 17, DATA, hv.INVALID_INPUT),
        (CALL | 1 << 32, DATA, hv.INVALID_INPUT),
        (CALL, DATA + 4, hv.INVALID_ALIGNMENT),
        (CALL, DATA + 0x1000 - HEAD, hv.INVALID_ALIGNMENT),
        (CALL, RAM_SIZE, hv.INVALID_ALIGNMENT),
        (CALL, (1 << 64) - 0x1000, hv.INVALID_ALIGNMENT),
    ],
)
def test_hv_47_start_with_input_that_is_not_there_is_refused(
    pair: Pair, control: int, address: int, status: int
) -> None:
    assert pair.start(control, address) == status


def test_hv_47_start_is_for_processors_with_local_apics(system: System) -> None:
    guest = Guest.introduced(system)
    guest.machine.vm.create_vcpu(TARGET)
    regs, sregs = guest.vcpu.regs(), guest.vcpu.sregs()
    regs.rflags = FLAGS
    head = struct.pack("<QIB3x", OWN_PARTITION, TARGET, 0)
    guest.machine.ram.write(DATA, head + context(regs, sregs, PAT))
    assert guest.call(CALL, DATA) == hv.INVALID_VP_STATE
    assert not hv.leaf(hv.supported(guest.vcpu), hv.FEATURES).ebx >> 21 & 1


@pytest.mark.parametrize("there", [False, True])
def test_hv_47_start_enforced_needs_its_bit(system: System, there: bool) -> None:
    announced = {hv.FEATURES: {"ebx": there << 21}}
    guest = Guest.introduced(system, announced, controllers=True, enforce=True)
    status = guest.call(CALL, DATA + 4)
    assert status == (hv.INVALID_ALIGNMENT if there else hv.ACCESS_DENIED)


def test_hv_47_start_may_be_made_by_32_bit_code(system: System) -> None:
    guest = Guest.introduced(system, controllers=True, mode=Mode.PROTECTED)
    guest.machine.ram.write(DATA, struct.pack("<QIB3x", 0, TARGET, 0) + bytes(CONTEXT))
    assert guest.call(CALL, DATA) == hv.INVALID_PARTITION_ID
