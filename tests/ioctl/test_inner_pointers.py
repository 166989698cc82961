"""Pointers inside of structures that lead nowhere: EFAULT, and nothing is changed."""

import ctypes
import errno
from collections.abc import Callable, Iterator

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import structs_gen as abi
from tests.ioctl.rows import STRUCTURES, Row, Targets
from tests.kvm import PAGE_SIZE, Region, System, refused
from tests.machine import Machine

LOGGED = 1
LOGGED_GPA = 1 << 30
LOGGED_PAGES = 64
WORD = 8


def memory_region(address: int) -> ctypes.Structure:
    return abi.kvm_userspace_memory_region(
        slot=2, guest_phys_addr=2 * LOGGED_GPA, memory_size=PAGE_SIZE, userspace_addr=address
    )


def memory_region2(address: int) -> ctypes.Structure:
    return abi.kvm_userspace_memory_region2.from_buffer_copy(
        bytes(memory_region(address)).ljust(ctypes.sizeof(abi.kvm_userspace_memory_region2), b"\0")
    )


def dirty_log(address: int) -> ctypes.Structure:
    return abi.kvm_dirty_log(slot=LOGGED, dirty_bitmap=address)


def clear_dirty_log(address: int) -> ctypes.Structure:
    return abi.kvm_clear_dirty_log(slot=LOGGED, num_pages=LOGGED_PAGES, dirty_bitmap=address)


def msr_filter(address: int) -> ctypes.Structure:
    filter_ = abi.kvm_msr_filter()
    filter_.ranges[0].flags = kvm.KVM_MSR_FILTER_READ
    filter_.ranges[0].nmsrs = 1
    filter_.ranges[1].flags = kvm.KVM_MSR_FILTER_READ
    filter_.ranges[1].nmsrs = 64
    filter_.ranges[0].bitmap = ctypes.addressof(GOOD_WORD)
    filter_.ranges[1].bitmap = address
    return filter_


def device_attribute(address: int) -> ctypes.Structure:
    return abi.kvm_device_attr(addr=address)


GOOD_WORD = ctypes.c_uint64(0)

INNER: dict[str, Callable[[int], ctypes.Structure]] = {
    "KVM_SET_USER_MEMORY_REGION": memory_region,
    "KVM_SET_USER_MEMORY_REGION2": memory_region2,
    "KVM_GET_DIRTY_LOG": dirty_log,
    "KVM_CLEAR_DIRTY_LOG": clear_dirty_log,
    "KVM_X86_SET_MSR_FILTER": msr_filter,
    "KVM_GET_DEVICE_ATTR": device_attribute,
    "KVM_SET_DEVICE_ATTR": device_attribute,
}
"""A structure, right but for where its pointer leads."""

NOT_FOLLOWED = {
    "KVM_HAS_DEVICE_ATTR": "only looks at the attribute's number",
    "KVM_IRQFD": "names descriptors, not memory",
    "KVM_IOEVENTFD": "names descriptors, not memory",
    "KVM_HYPERV_EVENTFD": "names descriptors, not memory",
}
"""Ioctls that leave the pointer alone, and why."""

WITH_MEMORY = [row for row in STRUCTURES if row.shape_name == "takes_memory"]
ROWS = [row for row in WITH_MEMORY if row.name not in NOT_FOLLOWED]
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
every_buffer = pytest.mark.parametrize(
    "row",
    [row for row in ROWS if not row.name.startswith("KVM_SET_USER_MEMORY_REGION")],
    ids=lambda row: row.label,
)


@pytest.fixture
def own_targets(system: System) -> Targets:
    """A machine with a slot that has a dirty log."""
    machine = Machine.of(system)
    size = LOGGED_PAGES * PAGE_SIZE
    machine.vm.add_region(slot=LOGGED, gpa=LOGGED_GPA, size=size, flags=kvm.KVM_MEM_LOG_DIRTY_PAGES)
    return Targets(system, machine)


@pytest.fixture(autouse=True)
def own_unchanged(own_targets: Targets) -> Iterator[None]:
    """The VM and the vCPU are after each test what they were."""
    before = own_targets.state()
    yield
    assert own_targets.state() == before


def call(targets: Targets, row: Row, address: int) -> int:
    return targets.of(row.kind).ioctl(row.number, INNER[row.name](address))


@every_row
def test_it_leads_nowhere(own_targets: Targets, row: Row) -> None:
    with refused(errno.EFAULT):
        call(own_targets, row, PAGE_SIZE)


@every_row
def test_it_leads_to_a_page_that_is_not_mapped(own_targets: Targets, row: Row) -> None:
    region = Region(16 * PAGE_SIZE)
    region.close()
    with refused(errno.EFAULT):
        call(own_targets, row, region.address)


@every_buffer
def test_it_leads_to_a_page_that_may_not_be_touched(
    own_targets: Targets, hole: Region, row: Row
) -> None:
    with refused(errno.EFAULT):
        call(own_targets, row, hole.address + hole.size // 2)


@every_buffer
def test_half_of_what_it_leads_to_is_mapped(own_targets: Targets, hole: Region, row: Row) -> None:
    with refused(errno.EFAULT):
        call(own_targets, row, hole.address + hole.size // 2 - WORD // 2)


@every_buffer
def test_it_is_beyond_user_memory(own_targets: Targets, row: Row) -> None:
    with refused(errno.EFAULT):
        call(own_targets, row, 1 << 63)


def test_every_inner_pointer_is_known() -> None:
    assert {row.name for row in WITH_MEMORY} == INNER.keys() | NOT_FOLLOWED.keys()
