"""KVM_CAP_DIRTY_LOG_RING, KVM_RESET_DIRTY_RINGS: written pages in a ring of each vCPU."""

import ctypes
import errno
import mmap

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_CLEAR_DIRTY_LOG,
    KVM_ENABLE_CAP,
    KVM_GET_DIRTY_LOG,
    KVM_RESET_DIRTY_RINGS,
)
from kvmshim.abi.structs_gen import (
    kvm_clear_dirty_log,
    kvm_dirty_gfn,
    kvm_dirty_log,
    kvm_enable_cap,
)
from tests.kvm import PAGE_SIZE, Region, System, Vcpu, Vm, libc, refused
from tests.machine import RAM_SIZE, Machine, Mode

ENTRY = ctypes.sizeof(kvm_dirty_gfn)
SMALLEST = 0x4000
LARGEST = 0x100000
SOFT_LIMIT = SMALLEST // ENTRY - 64 - 512
DIRTY, RESET = 1, 2
SLOT = 7
GPA = 0x100000
PAGES = 1000
RINGS = [kvm.KVM_CAP_DIRTY_LOG_RING, kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL]

# Writes a byte of each of ECX pages from EBX on, then HLT; anew when run again.
TOUCH = """
again:
    mov edi, ebx
    mov edx, ecx
next:
    inc byte ptr [edi]
    add edi, 0x1000
    dec edx
    jnz next
    hlt
    jmp again
"""


def enable(vm: Vm, size: int = SMALLEST, capability: int = RINGS[0]) -> None:
    wanted = kvm_enable_cap(cap=capability)
    wanted.args[0] = size
    vm.ioctl(KVM_ENABLE_CAP, wanted)


class Ring:
    """A client's view of a vCPU's ring."""

    def __init__(self, vcpu: Vcpu, size: int = SMALLEST) -> None:
        offset = kvm.KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        address = libc.mmap(None, size, protection, mmap.MAP_SHARED, vcpu.fd, offset)
        vcpu.owned.callback(libc.munmap, address, size)
        self.entries = (kvm_dirty_gfn * (size // ENTRY)).from_address(address)
        self.next = 0

    def harvest(self, most: int = LARGEST) -> list[tuple[int, int]]:
        """Slot and page of what is there, which is to be reset then."""
        found: list[tuple[int, int]] = []
        while len(found) < most:
            entry = self.entries[self.next % len(self.entries)]
            if entry.flags != DIRTY:
                break
            found.append((entry.slot, entry.offset))
            entry.flags = RESET
            self.next += 1
        return found


def reset(vm: Vm) -> int:
    return vm.ioctl(KVM_RESET_DIRTY_RINGS)


@pytest.fixture
def logged(system: System) -> Machine:
    """A vCPU with a ring, and a slot of PAGES pages that are logged."""
    vm = system.create_vm()
    enable(vm)
    ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
    machine = Machine(vm, vm.create_vcpu(0), ram)
    vm.add_region(slot=SLOT, gpa=GPA, size=PAGES * PAGE_SIZE, flags=kvm.KVM_MEM_LOG_DIRTY_PAGES)
    machine.load(TOUCH, Mode.PROTECTED)
    return machine


def touch(machine: Machine, first: int, count: int) -> int:
    """Starts a guest that writes so many pages; the exit reason."""
    machine.vcpu.change_regs(rbx=GPA + first * PAGE_SIZE, rcx=count, rip=0x1000)
    return machine.vcpu.run()


def pages(first: int, count: int) -> list[tuple[int, int]]:
    return [(SLOT, page) for page in range(first, first + count)]


@pytest.mark.parametrize("capability", RINGS)
def test_capability_tells_the_largest_size(system: System, capability: int) -> None:
    assert system.check_extension(capability) == LARGEST
    enable(system.create_vm(), LARGEST, capability)


@pytest.mark.parametrize("size", [0, 1, 0x2000, SMALLEST + ENTRY, 3 * SMALLEST, LARGEST - 1])
def test_sizes_that_are_refused(vm: Vm, size: int) -> None:
    with refused(errno.EINVAL):
        enable(vm, size)


@pytest.mark.parametrize("size", [2 * LARGEST, 1 << 32, 1 << 63])
def test_sizes_that_are_too_much(vm: Vm, size: int) -> None:
    with refused(errno.E2BIG):
        enable(vm, size)


@pytest.mark.parametrize("capability", RINGS)
def test_rings_are_enabled_once(vm: Vm, capability: int) -> None:
    enable(vm)
    with refused(errno.EINVAL):
        enable(vm, SMALLEST, capability)


def test_rings_come_before_vcpus(vm: Vm) -> None:
    vm.create_vcpu(0)
    with refused(errno.EINVAL):
        enable(vm)


def test_written_pages_are_told_once_in_order(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    assert touch(logged, 3, 4) == kvm.KVM_EXIT_HLT
    assert ring.harvest() == pages(3, 4)
    touch(logged, 2, 6)
    assert ring.harvest() == [(SLOT, 2), (SLOT, 7)]


def test_reset_pages_are_told_again(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    touch(logged, 0, 10)
    assert ring.harvest(6) == pages(0, 6)
    assert reset(logged.vm) == 6
    assert all(entry.flags == 0 for entry in ring.entries[:6])
    touch(logged, 0, 10)
    assert ring.harvest() == pages(6, 4) + pages(0, 6)
    assert reset(logged.vm) == 10
    assert reset(logged.vm) == 0


def test_pages_of_other_slots_are_not_told(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    logged.load("mov byte ptr [0x4000], 1\n hlt", Mode.PROTECTED)
    logged.vcpu.run()
    assert ring.harvest() == []


def test_vcpu_stays_out_while_its_ring_is_full(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    assert touch(logged, 0, PAGES) == kvm.KVM_EXIT_DIRTY_RING_FULL
    assert logged.vcpu.run() == kvm.KVM_EXIT_DIRTY_RING_FULL
    first = ring.harvest()
    assert len(first) >= SOFT_LIMIT
    assert reset(logged.vm) == len(first)
    told = first
    while logged.vcpu.run() == kvm.KVM_EXIT_DIRTY_RING_FULL:
        told += ring.harvest()
        reset(logged.vm)
    assert told + ring.harvest() == pages(0, PAGES)


def test_every_page_is_told_whatever_is_reset_meanwhile(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    told: set[tuple[int, int]] = set()
    exits = [touch(logged, 0, 300)]
    while len(exits) < 20:
        told |= set(ring.harvest(37))
        reset(logged.vm)
        exits.append(logged.vcpu.run())
    told |= set(ring.harvest())
    assert told == set(pages(0, 300))
    assert set(exits) <= {kvm.KVM_EXIT_HLT, kvm.KVM_EXIT_DIRTY_RING_FULL}


def test_read_of_a_full_vcpu_is_completed(logged: Machine) -> None:
    touch(logged, 0, 400)
    source = "mov byte ptr [ebx], 1\n add ebx, 0x1000\n in al, 0x10\n jmp $ - 11"
    logged.load(source, Mode.PROTECTED)
    logged.vcpu.change_regs(rbx=GPA + 500 * PAGE_SIZE)
    exits: list[int] = []
    while not exits or exits[-1] != kvm.KVM_EXIT_DIRTY_RING_FULL:
        exits.append(logged.vcpu.run())
        if exits[-1] == kvm.KVM_EXIT_IO:
            logged.vcpu.io_data = b"\x77"
    assert logged.vcpu.regs().rax & 0xFF == 0x77


def test_each_vcpu_tells_its_own(system: System) -> None:
    vm = system.create_vm()
    enable(vm)
    ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
    vm.add_region(slot=SLOT, gpa=GPA, size=64 * PAGE_SIZE, flags=kvm.KVM_MEM_LOG_DIRTY_PAGES)
    machines = [Machine(vm, vm.create_vcpu(number), ram) for number in range(2)]
    rings = [Ring(machine.vcpu) for machine in machines]
    for number, machine in enumerate(machines):
        machine.load(TOUCH, Mode.PROTECTED)
        touch(machine, 10 * number, 5)
    assert [ring.harvest() for ring in rings] == [pages(0, 5), pages(10, 5)]
    assert reset(vm) == 10


def test_deleted_slot_is_told_no_more(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    touch(logged, 0, 4)
    ring.harvest()
    region = Region(PAGE_SIZE)
    logged.vm.set_region(slot=SLOT, gpa=GPA, size=0, address=region.address)
    region.close()
    assert reset(logged.vm) == 4


def test_nonsense_in_the_ring_harms_nobody(logged: Machine) -> None:
    ring = Ring(logged.vcpu)
    touch(logged, 0, 4)
    for entry, (slot, offset) in zip(
        ring.entries[:4],
        [(77, 0), (SLOT, PAGES), (SLOT, (1 << 64) - 1), (0xFFFF_FFFF, 0)],
        strict=True,
    ):
        entry.slot, entry.offset, entry.flags = slot, offset, 0xFFFF_FFFF
    for entry in ring.entries[4:]:
        entry.flags = RESET
    assert reset(logged.vm) == 4
    assert reset(logged.vm) == 0
    assert touch(logged, 4, 1) == kvm.KVM_EXIT_HLT
    ring.next = 4
    assert ring.harvest() == pages(4, 1)


def test_ring_takes_the_place_of_the_log(logged: Machine) -> None:
    with refused(errno.ENXIO):
        logged.vm.ioctl(KVM_GET_DIRTY_LOG, kvm_dirty_log(slot=SLOT))
    with refused(errno.ENXIO):
        logged.vm.ioctl(KVM_CLEAR_DIRTY_LOG, kvm_clear_dirty_log(slot=SLOT))


def test_vm_without_rings_has_none_to_reset(vm: Vm) -> None:
    with refused(errno.EINVAL):
        reset(vm)


def test_ring_cannot_be_executed(logged: Machine) -> None:
    offset = kvm.KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    flags = mmap.MAP_SHARED
    address = libc.mmap(None, SMALLEST, protection, flags, logged.vcpu.fd, offset)
    assert address == (1 << 64) - 1
