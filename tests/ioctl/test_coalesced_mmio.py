"""KVM_REGISTER_COALESCED_MMIO: writes that wait in a ring, of memory and of ports."""

import ctypes
import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO
from kvmshim.abi.structs_gen import kvm_coalesced_mmio, kvm_coalesced_mmio_zone
from tests.kvm import PAGE_SIZE, System, Vcpu, Vm, refused
from tests.machine import MMIO, Machine, Mode

HEAD = 8
ENTRY = ctypes.sizeof(kvm_coalesced_mmio)
MAX = (PAGE_SIZE - HEAD) // ENTRY
PORT = 0x80

# Writes of each size to both, then HLT.
WRITES = f"""
    mov byte ptr [{MMIO:#x}], 0x11
    mov dword ptr [{MMIO:#x} + 4], 0x44332211
    mov al, 0x5a
    out {PORT:#x}, al
    mov eax, 0xddccbbaa
    out {PORT:#x}, eax
    hlt
"""
FOREVER = f"""
again:
    mov byte ptr [{MMIO:#x}], bl
    inc ebx
    jmp again
"""


class Ring:
    """The ring as a client finds it, in the mapping of a vCPU."""

    def __init__(self, vcpu: Vcpu) -> None:
        address = vcpu.run_address + kvm.KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE
        self.first = ctypes.c_uint32.from_address(address)
        self.last = ctypes.c_uint32.from_address(address + 4)
        self.entries = (kvm_coalesced_mmio * MAX).from_address(address + HEAD)

    def take(self) -> list[tuple[int, bytes, int]]:
        """Address, bytes and `pio` of what waits, which is gone then."""
        found = []
        while self.first.value != self.last.value:
            entry = self.entries[self.first.value]
            found.append((entry.phys_addr, bytes(entry.data)[: entry.len], entry.pio))
            self.first.value = (self.first.value + 1) % MAX
        return found


def register(vm: Vm, address: int, size: int, *, pio: int = 0) -> None:
    zone = kvm_coalesced_mmio_zone(addr=address, size=size, pio=pio)
    vm.ioctl(KVM_REGISTER_COALESCED_MMIO, zone)


def unregister(vm: Vm, address: int, size: int, *, pio: int = 0) -> None:
    zone = kvm_coalesced_mmio_zone(addr=address, size=size, pio=pio)
    vm.ioctl(KVM_UNREGISTER_COALESCED_MMIO, zone)


def test_capabilities_are_announced(system: System) -> None:
    page = kvm.KVM_COALESCED_MMIO_PAGE_OFFSET
    assert system.check_extension(kvm.KVM_CAP_COALESCED_MMIO) == page == 2
    assert system.check_extension(kvm.KVM_CAP_COALESCED_PIO) == 1


def test_writes_wait_until_something_else_leaves(machine: Machine) -> None:
    register(machine.vm, MMIO, 8)
    register(machine.vm, PORT, 8, pio=1)
    machine.load(WRITES, Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert Ring(machine.vcpu).take() == [
        (MMIO, b"\x11", 0),
        (MMIO + 4, b"\x11\x22\x33\x44", 0),
        (PORT, b"\x5a", 1),
        (PORT, b"\xaa\xbb\xcc\xdd", 1),
    ]


def test_writes_that_reach_over_a_zone_leave(machine: Machine) -> None:
    register(machine.vm, MMIO, 7)
    register(machine.vm, PORT, 3, pio=1)
    machine.load(WRITES, Mode.PROTECTED)
    exits = [machine.vcpu.run() for _ in range(3)]
    assert exits == [kvm.KVM_EXIT_MMIO, kvm.KVM_EXIT_IO, kvm.KVM_EXIT_HLT]
    assert Ring(machine.vcpu).take() == [(MMIO, b"\x11", 0), (PORT, b"\x5a", 1)]


def test_ports_and_memory_are_apart(machine: Machine) -> None:
    register(machine.vm, MMIO, 8, pio=1)
    register(machine.vm, PORT, 8)
    machine.load(WRITES, Mode.PROTECTED)
    exits = [machine.vcpu.run() for _ in range(4)]
    assert exits == [kvm.KVM_EXIT_MMIO] * 2 + [kvm.KVM_EXIT_IO] * 2
    assert Ring(machine.vcpu).take() == []


def test_reads_leave(machine: Machine) -> None:
    register(machine.vm, MMIO, 8)
    register(machine.vm, PORT, 8, pio=1)
    machine.load(f"mov eax, [{MMIO:#x}]\n in al, {PORT:#x}\n hlt", Mode.PROTECTED)
    assert [machine.vcpu.run() for _ in range(2)] == [kvm.KVM_EXIT_MMIO, kvm.KVM_EXIT_IO]


@pytest.mark.parametrize("start", [0, 1, MAX - 1])
def test_full_ring_lets_a_write_leave(machine: Machine, start: int) -> None:
    register(machine.vm, MMIO, 8)
    machine.load(FOREVER, Mode.PROTECTED)
    machine.vcpu.change_regs(rbx=0)
    ring = Ring(machine.vcpu)
    ring.first.value = ring.last.value = start
    for left in (MAX - 1, 2 * MAX - 1):
        assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO
        assert machine.vcpu.mmio_data == bytes([left & 0xFF])
        waiting = ring.take()
        assert len(waiting) == MAX - 1
        assert waiting[-1][1] == bytes([(left - 1) & 0xFF])


@pytest.mark.parametrize("last", [MAX, MAX + 1, 0xFFFF_FFFF])
def test_nonsense_in_the_ring_lets_writes_leave(machine: Machine, last: int) -> None:
    register(machine.vm, MMIO, 8)
    machine.load(FOREVER, Mode.PROTECTED)
    ring = Ring(machine.vcpu)
    ring.last.value = last
    assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO
    assert ring.last.value == last


def test_vcpus_share_the_ring(machine: Machine) -> None:
    register(machine.vm, MMIO, 8)
    other = machine.vm.create_vcpu(1)
    machine.load(WRITES, Mode.PROTECTED)
    machine.vcpu.run()
    first, second = Ring(machine.vcpu), Ring(other)
    assert second.last.value == first.last.value == 2
    second.first.value = 1
    assert first.first.value == 1
    assert first.take() == [(MMIO + 4, b"\x11\x22\x33\x44", 0)]


def test_vms_do_not(system: System, machine: Machine) -> None:
    register(machine.vm, MMIO, 8)
    machine.load(WRITES, Mode.PROTECTED)
    machine.vcpu.run()
    assert Ring(Machine.of(system).vcpu).last.value == 0


def test_unregistered_zone_is_there_no_more(machine: Machine) -> None:
    register(machine.vm, MMIO, 8)
    unregister(machine.vm, MMIO, 4, pio=1)
    unregister(machine.vm, MMIO, 9)
    machine.load(FOREVER, Mode.PROTECTED)
    machine.vcpu.run()
    assert len(Ring(machine.vcpu).take()) == MAX - 1
    unregister(machine.vm, MMIO + 2, 4)
    machine.vcpu.run()
    assert Ring(machine.vcpu).take() == []


def test_zones_may_overlap(machine: Machine) -> None:
    register(machine.vm, MMIO, 8)
    register(machine.vm, MMIO, 2)
    unregister(machine.vm, MMIO, 8)
    machine.load(WRITES, Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO
    assert machine.vcpu.mmio.phys_addr == MMIO + 4
    assert Ring(machine.vcpu).take() == [(MMIO, b"\x11", 0)]


@pytest.mark.parametrize("pio", [2, 0x8000_0000, 0xFFFF_FFFF])
def test_zone_is_of_ports_or_memory(vm: Vm, pio: int) -> None:
    for call in (register, unregister):
        with refused(errno.EINVAL):
            call(vm, MMIO, 8, pio=pio)


def test_zones_may_be_anywhere_and_many(vm: Vm) -> None:
    register(vm, (1 << 64) - 1, 0xFFFF_FFFF)
    register(vm, 0, 0)
    for zone in range(998):
        register(vm, zone << 12, 8)
    with refused(errno.ENOSPC):
        register(vm, 0, 8)
    register(vm, 0, 8, pio=1)
    unregister(vm, 5 << 12, 8)
    register(vm, 0, 8)


def test_nothing_to_unregister_is_no_error(vm: Vm) -> None:
    unregister(vm, MMIO, 8)
    unregister(vm, (1 << 64) - 1, 8)
