"""What slots mean to a running guest: whose memory it sees, and when."""

import errno
import mmap
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT, KVM_EXIT_MMIO, KVM_MEM_READONLY
from kvmshim.client.maps import MappingState, parse_maps, parse_smaps
from kvmshim.client.ram_file import LARGE_PAGE, NAME
from kvmshim.device.mount import mount_large_pages
from tests.kvm import PAGE_SIZE, Region, System, Vm
from tests.leftovers import wait_until
from tests.machine import CODE, DATA, PDPT, RAM_SIZE, Machine, Mode

ABOVE = 0x100000  # where these tests add a second slot
HIGH_DIRECTORY = 0x73000  # page directory of the second GiB

READ_ABOVE = f"mov eax, [{ABOVE:#x}]; hlt"
WRITE_ABOVE = f"mov dword ptr [{ABOVE:#x}], 0x600df00d; hlt"


def test_guest_sees_what_the_client_wrote_before(machine: Machine) -> None:
    machine.ram.write(DATA, b"\x0d\xf0\x0d\x60")
    machine.load(f"mov eax, [{DATA}]; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 0x600DF00D


def test_guest_sees_what_the_client_writes_between_runs(machine: Machine) -> None:
    machine.load(f"again: mov eax, [{DATA}]; hlt; jmp again", Mode.PROTECTED)
    seen = []
    for value in (1, 2, 3):
        machine.ram.write(DATA, bytes([value]))
        assert machine.vcpu.run() == KVM_EXIT_HLT
        seen.append(machine.vcpu.regs().rax)
    assert seen == [1, 2, 3]


def test_guest_runs_code_that_the_client_replaced(machine: Machine) -> None:
    machine.load("mov eax, 1; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    machine.load("mov eax, 2; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 2


def test_client_sees_what_the_guest_wrote(machine: Machine) -> None:
    machine.load(f"mov dword ptr [{DATA}], 0x600df00d; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.peek(DATA) == 0x600DF00D


def test_slot_added_after_the_first_run_is_seen(machine: Machine) -> None:
    machine.load(f"{READ_ABOVE}; {READ_ABOVE}", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    machine.vcpu.mmio_data = b"\1\0\0\0"
    assert machine.vcpu.run() == KVM_EXIT_HLT
    machine.vm.add_region(slot=1, gpa=ABOVE, size=PAGE_SIZE).write(0, b"\2")
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 2


def test_deleted_slot_is_gone_for_the_guest(machine: Machine, memory: Region) -> None:
    machine.vm.set_region(slot=1, gpa=ABOVE, size=PAGE_SIZE, address=memory.address)
    machine.load(f"{READ_ABOVE}; {READ_ABOVE}", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    machine.vm.set_region(slot=1, size=0, address=0)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert machine.vcpu.mmio.phys_addr == ABOVE


def test_moved_slot_is_found_at_its_new_place(machine: Machine, memory: Region) -> None:
    memory.write(0, b"\7")
    machine.vm.set_region(slot=1, gpa=2 * ABOVE, size=PAGE_SIZE, address=memory.address)
    machine.vm.set_region(slot=1, gpa=ABOVE, size=PAGE_SIZE, address=memory.address)
    machine.load(READ_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 7


def test_two_slots_over_one_memory_show_the_same(machine: Machine) -> None:
    address = machine.ram.address + DATA
    machine.vm.set_region(slot=1, gpa=ABOVE, size=PAGE_SIZE, address=address)
    machine.load(WRITE_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.peek(DATA) == 0x600DF00D


def test_slot_may_begin_inside_a_mapping(machine: Machine, memory: Region) -> None:
    address = memory.address + 3 * PAGE_SIZE
    machine.vm.set_region(slot=1, gpa=ABOVE, size=PAGE_SIZE, address=address)
    machine.load(WRITE_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert memory.read(3 * PAGE_SIZE, 4) == b"\x0d\xf0\x0d\x60"


def test_slot_may_span_several_mappings(machine: Machine, memory: Region) -> None:
    memory.protect(mmap.PROT_READ, offset=PAGE_SIZE, size=PAGE_SIZE)
    memory.protect(mmap.PROT_READ | mmap.PROT_WRITE, offset=PAGE_SIZE, size=PAGE_SIZE)
    machine.vm.set_region(slot=1, gpa=ABOVE, size=memory.size, address=memory.address)
    last = ABOVE + memory.size - 4
    machine.load(f"mov dword ptr [{last:#x}], 0x600df00d; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert memory.read(memory.size - 4, 4) == b"\x0d\xf0\x0d\x60"


def test_memory_above_4_gib_is_reached(system: System) -> None:
    machine = Machine.of(system)
    high = machine.vm.add_region(slot=1, gpa=5 << 32, size=PAGE_SIZE)
    # The second GiB of virtual memory shows the guest-physical memory at 20 GiB.
    machine.load("mov ebx, 0x40000000; mov dword ptr [rbx], 0x600df00d; hlt", Mode.LONG)
    machine.ram.write(PDPT + 8, (HIGH_DIRECTORY | 3).to_bytes(8, "little"))
    machine.ram.write(HIGH_DIRECTORY, (5 << 32 | 0x83).to_bytes(8, "little"))
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert high.read(0, 4) == b"\x0d\xf0\x0d\x60"


def test_memfd_shows_the_guest_to_every_mapping_of_it(machine: Machine) -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, PAGE_SIZE)
    first = Region(PAGE_SIZE, flags=mmap.MAP_SHARED, fd=fd)
    second = Region(PAGE_SIZE, flags=mmap.MAP_SHARED, fd=fd)
    os.close(fd)
    machine.vm.set_region(slot=1, gpa=ABOVE, size=PAGE_SIZE, address=first.address)
    machine.load(WRITE_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert second.read(0, 4) == first.read(0, 4) == b"\x0d\xf0\x0d\x60"
    first.close()
    second.close()


def test_read_only_slot_is_read_without_an_exit(machine: Machine, memory: Region) -> None:
    memory.write(0, b"\5")
    machine.vm.set_region(
        slot=1, gpa=ABOVE, size=PAGE_SIZE, address=memory.address, flags=KVM_MEM_READONLY
    )
    machine.load(READ_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 5


def test_write_to_a_read_only_slot_is_an_mmio_exit(machine: Machine, memory: Region) -> None:
    machine.vm.set_region(
        slot=1, gpa=ABOVE, size=PAGE_SIZE, address=memory.address, flags=KVM_MEM_READONLY
    )
    machine.load(WRITE_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert (machine.vcpu.mmio.phys_addr, machine.vcpu.mmio_data) == (ABOVE, b"\x0d\xf0\x0d\x60")
    assert memory.read(0, 4) == bytes(4)


@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED], ids=["private", "shared"])
def test_anonymous_memory_of_either_kind_is_shared_with_the_guest(
    machine: Machine, flags: int
) -> None:
    region = Region(PAGE_SIZE, flags=flags | mmap.MAP_ANONYMOUS)
    machine.vm.set_region(slot=1, gpa=ABOVE, size=PAGE_SIZE, address=region.address)
    machine.load(WRITE_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert region.read(0, 4) == b"\x0d\xf0\x0d\x60"
    region.close()


def mounted_with_number(number: int, mounts: ExitStack) -> int:
    """An empty directory of a new file system whose st_dev is `number`, as soon as that is free."""
    while True:
        mount = mount_large_pages()
        mounts.callback(os.close, mount)
        if os.fstat(mount).st_dev == number:
            return mount


def test_a_file_system_may_have_the_number_of_a_vm_that_ended(system: System, vm: Vm) -> None:
    ended = system.create_vm()
    number = os.fstat(ended.fd).st_dev
    ended.close()
    with ExitStack() as mounts:
        directory = mounted_with_number(number, mounts)
        fd = os.open("memory", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=directory)
        mounts.callback(os.close, fd)
        os.ftruncate(fd, PAGE_SIZE)
        region = Region(PAGE_SIZE, flags=mmap.MAP_SHARED, fd=fd)

        def is_memory() -> bool:
            try:
                vm.set_region(size=PAGE_SIZE, address=region.address)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                return False
            return True

        wait_until(is_memory)
        region.close()


def mapping_of(address: int) -> tuple[str, MappingState]:
    """The name of the file that is mapped there, and what smaps says."""
    maps = parse_maps(Path("/proc/self/maps").read_text(), address, address + 1)
    smaps = parse_smaps(Path("/proc/self/smaps").read_text(), address, address + 1)
    return maps[0].name, smaps[maps[0].start]


def test_memory_that_asked_for_large_pages_is_in_a_file_that_has_them(machine: Machine) -> None:
    region = Region(4 * LARGE_PAGE)
    region.advise(mmap.MADV_HUGEPAGE)
    _, before = mapping_of(region.address)
    if not before.large_pages:
        pytest.skip("this system has no large pages")
    machine.vm.set_region(slot=1, gpa=ABOVE, size=region.size, address=region.address)
    machine.load(WRITE_ABOVE, Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert region.read(0, 4) == b"\x0d\xf0\x0d\x60"
    name, after = mapping_of(region.address)
    assert name == f"/{NAME} (deleted)"
    assert after.large_pages
    region.close()


def test_memory_ends_where_its_slot_ends(machine: Machine) -> None:
    machine.load(f"mov al, [{RAM_SIZE - 1:#x}]; mov al, [{RAM_SIZE:#x}]; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_MMIO
    assert machine.vcpu.mmio.phys_addr == RAM_SIZE
    assert machine.vcpu.regs().rip > CODE
