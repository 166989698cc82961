"""KVM_SET_USER_MEMORY_REGION: what makes, moves and deletes a slot, and every way to be refused."""

import errno
import mmap

import pytest

from kvmshim.abi.constants_gen import KVM_CAP_NR_MEMSLOTS, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY
from kvmshim.abi.ioctls_gen import KVM_SET_USER_MEMORY_REGION
from kvmshim.abi.structs_gen import kvm_userspace_memory_region
from tests.kvm import PAGE_SIZE, Region, System, Vcpu, Vm, refused

SIZE = 0x4000
SECOND_SPACE = 1 << 16


@pytest.fixture
def slot(vm: Vm, memory: Region) -> Vm:
    """The VM with slot 0: SIZE bytes at 0x10000."""
    vm.set_region(gpa=0x10000, size=SIZE, address=memory.address)
    return vm


def test_slots_may_touch_each_other(slot: Vm, memory: Region) -> None:
    slot.set_region(slot=1, gpa=0x10000 + SIZE, size=SIZE, address=memory.address)
    slot.set_region(slot=2, gpa=0x10000 - SIZE, size=SIZE, address=memory.address)
    with refused(errno.EEXIST):
        slot.set_region(slot=3, gpa=0x10000 + SIZE, size=SIZE, address=memory.address)


def test_highest_slot_is_accepted(system: System, vm: Vm, memory: Region) -> None:
    highest = system.check_extension(KVM_CAP_NR_MEMSLOTS) - 1
    vm.set_region(slot=highest, size=SIZE, address=memory.address)
    vm.set_region(slot=highest, size=0, address=memory.address)


def test_setting_a_slot_to_what_it_is_changes_nothing(slot: Vm, memory: Region) -> None:
    slot.set_region(gpa=0x10000, size=SIZE, address=memory.address)
    with refused(errno.EEXIST):
        slot.set_region(slot=1, gpa=0x10000, size=SIZE, address=memory.address)


def test_moved_slot_leaves_its_place(slot: Vm, memory: Region) -> None:
    slot.set_region(gpa=0x40000, size=SIZE, address=memory.address)
    slot.set_region(slot=1, gpa=0x10000, size=SIZE, address=memory.address)
    with refused(errno.EEXIST):
        slot.set_region(slot=2, gpa=0x40000, size=SIZE, address=memory.address)


def test_slot_may_move_over_its_own_place(slot: Vm, memory: Region) -> None:
    slot.set_region(gpa=0x10000 + PAGE_SIZE, size=SIZE, address=memory.address)
    slot.set_region(slot=1, gpa=0x10000, size=PAGE_SIZE, address=memory.address)


def test_deleted_slot_leaves_its_place(slot: Vm, memory: Region) -> None:
    slot.set_region(size=0, address=0)
    slot.set_region(slot=1, gpa=0x10000, size=SIZE, address=memory.address)


def test_deleted_slot_may_come_back_in_another_size(slot: Vm, memory: Region) -> None:
    slot.set_region(size=0, address=0)
    slot.set_region(gpa=0x10000, size=2 * SIZE, address=memory.address)


def test_dirty_log_flag_may_change(slot: Vm, memory: Region) -> None:
    flags = KVM_MEM_LOG_DIRTY_PAGES
    slot.set_region(gpa=0x10000, size=SIZE, address=memory.address, flags=flags)
    slot.set_region(gpa=0x10000, size=SIZE, address=memory.address)


def test_memory_of_the_client_keeps_its_contents(vm: Vm, memory: Region) -> None:
    pattern = bytes(range(256)) * (memory.size // 256)
    memory.write(0, pattern)
    vm.set_region(size=memory.size, address=memory.address)
    assert memory.read(0, memory.size) == pattern


@pytest.mark.parametrize("size", [1, PAGE_SIZE - 1, PAGE_SIZE + 1, 0xFFFF_FFFF_FFFF_F001], ids=hex)
def test_size_of_no_whole_pages_is_refused(vm: Vm, memory: Region, size: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=size, address=memory.address)


@pytest.mark.parametrize("gpa", [1, PAGE_SIZE - 1, PAGE_SIZE + 0x800], ids=hex)
def test_guest_address_inside_a_page_is_refused(vm: Vm, memory: Region, gpa: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(gpa=gpa, size=SIZE, address=memory.address)


@pytest.mark.parametrize("offset", [1, 0x800, PAGE_SIZE - 1], ids=hex)
def test_client_address_inside_a_page_is_refused(vm: Vm, memory: Region, offset: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=SIZE, address=memory.address + offset)


@pytest.mark.parametrize(
    "address",
    [0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFFF_F000, 1 << 60],
    ids=["kernel half", "last page", "non-canonical"],
)
def test_address_that_is_not_the_clients_is_refused(vm: Vm, address: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=SIZE, address=address)


def test_slot_beyond_the_last_is_refused(system: System, vm: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        vm.set_region(
            slot=system.check_extension(KVM_CAP_NR_MEMSLOTS), size=SIZE, address=memory.address
        )


@pytest.mark.parametrize("space", [2, 0xFFFF])
def test_unknown_address_space_is_refused(vm: Vm, memory: Region, space: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(slot=space << 16, size=SIZE, address=memory.address)


def test_slots_of_the_two_spaces_do_not_meet(vm: Vm, memory: Region) -> None:
    vm.set_region(slot=0, gpa=0x10000, size=0x4000, address=memory.address)
    vm.set_region(slot=SECOND_SPACE, gpa=0x10000, size=0x4000, address=memory.address)
    with refused(errno.EEXIST):
        vm.set_region(slot=SECOND_SPACE | 1, gpa=0x12000, size=0x4000, address=memory.address)
    vm.set_region(slot=SECOND_SPACE, gpa=0, size=0, address=0)
    vm.set_region(slot=SECOND_SPACE | 1, gpa=0x12000, size=0x4000, address=memory.address)
    with refused(errno.EEXIST):
        vm.set_region(slot=1, gpa=0x12000, size=0x4000, address=memory.address)


@pytest.mark.parametrize("flags", [1 << 2, 1 << 3, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_unknown_flags_are_refused(vm: Vm, memory: Region, flags: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=SIZE, address=memory.address, flags=flags)


def test_guest_range_over_the_end_of_numbers_is_refused(vm: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        vm.set_region(gpa=(1 << 64) - PAGE_SIZE, size=2 * PAGE_SIZE, address=memory.address)


@pytest.mark.parametrize("gpa", [1 << 52, 1 << 62], ids=hex)
def test_guest_address_beyond_the_processor_is_refused(vm: Vm, memory: Region, gpa: int) -> None:
    with refused(errno.EINVAL):
        vm.set_region(gpa=gpa, size=SIZE, address=memory.address)


def test_more_pages_than_a_slot_may_have_are_refused(vm: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=1 << 43, address=memory.address)


@pytest.mark.parametrize("gpa", [0x10000, 0x10000 - PAGE_SIZE, 0x10000 + SIZE - PAGE_SIZE], ids=hex)
def test_overlap_with_another_slot_is_refused(slot: Vm, memory: Region, gpa: int) -> None:
    with refused(errno.EEXIST):
        slot.set_region(slot=1, gpa=gpa, size=2 * PAGE_SIZE, address=memory.address)


def test_slot_that_encloses_another_is_refused(slot: Vm, memory: Region) -> None:
    with refused(errno.EEXIST):
        slot.set_region(slot=1, gpa=0xC000, size=memory.size, address=memory.address)


def test_move_onto_another_slot_is_refused(slot: Vm, memory: Region) -> None:
    slot.set_region(slot=1, gpa=0x40000, size=SIZE, address=memory.address)
    with refused(errno.EEXIST):
        slot.set_region(slot=1, gpa=0x10000, size=SIZE, address=memory.address)


def test_deleting_a_slot_that_is_not_there_is_refused(vm: Vm) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=0, address=0)


def test_deleting_a_slot_twice_is_refused(slot: Vm) -> None:
    slot.set_region(size=0, address=0)
    with refused(errno.EINVAL):
        slot.set_region(size=0, address=0)


@pytest.mark.parametrize("size", [SIZE - PAGE_SIZE, SIZE + PAGE_SIZE], ids=hex)
def test_size_of_a_slot_may_not_change(slot: Vm, memory: Region, size: int) -> None:
    with refused(errno.EINVAL):
        slot.set_region(gpa=0x10000, size=size, address=memory.address)


def test_client_address_of_a_slot_may_not_change(slot: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        slot.set_region(gpa=0x10000, size=SIZE, address=memory.address + PAGE_SIZE)


def test_slot_may_not_become_read_only(slot: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        slot.set_region(gpa=0x10000, size=SIZE, address=memory.address, flags=KVM_MEM_READONLY)


def test_refused_change_leaves_the_slot(slot: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        slot.set_region(gpa=0x10000, size=SIZE + PAGE_SIZE, address=memory.address)
    with refused(errno.EEXIST):
        slot.set_region(slot=1, gpa=0x10000, size=PAGE_SIZE, address=memory.address)


def test_refused_slot_is_not_there(vm: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        vm.set_region(size=SIZE, address=memory.address, flags=1 << 31)
    with refused(errno.EINVAL):
        vm.set_region(size=0, address=0)


def test_slots_may_share_client_memory(vm: Vm, memory: Region) -> None:
    for number in range(8):
        vm.set_region(slot=number, gpa=number << 20, size=SIZE, address=memory.address)
    with refused(errno.EEXIST):
        vm.set_region(slot=8, gpa=7 << 20, size=SIZE, address=memory.address)


def test_read_only_client_memory_makes_a_read_only_slot(vm: Vm, memory: Region) -> None:
    memory.protect(mmap.PROT_READ, offset=0, size=memory.size)
    vm.set_region(size=SIZE, address=memory.address, flags=KVM_MEM_READONLY)
    with refused(errno.EEXIST):
        vm.set_region(slot=1, size=SIZE, address=memory.address)


def test_system_has_no_memory(system: System) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_USER_MEMORY_REGION, kvm_userspace_memory_region())


def test_vcpu_has_no_memory(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_USER_MEMORY_REGION, kvm_userspace_memory_region())
