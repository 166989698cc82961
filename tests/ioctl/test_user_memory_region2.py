"""KVM_SET_USER_MEMORY_REGION2: slots as before, and with a guest_memfd."""

import errno
import os

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_CHECK_EXTENSION
from tests.ioctl.private_memory import GuestMemfd, set_private, set_region2
from tests.kvm import PAGE_SIZE, Region, System, Vm, refused
from tests.machine import Machine, Mode

GPA = 0x100000
SIZE = 4 * PAGE_SIZE


@pytest.fixture
def protected(system: System) -> Vm:
    """A VM that can have private memory."""
    return system.create_vm(kvm.KVM_X86_SW_PROTECTED_VM)


@pytest.fixture
def memfd(protected: Vm) -> GuestMemfd:
    """A guest_memfd of twice SIZE."""
    return GuestMemfd(protected, 2 * SIZE)


@pytest.fixture
def shared(protected: Vm) -> Region:
    """Memory of the client."""
    region = Region(SIZE)
    protected.owned.callback(region.close)
    return region


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_USER_MEMORY2) == 1


def test_slot_without_guest_memfd_is_one_as_before(machine: Machine, memory: Region) -> None:
    machine.load("mov eax, [0x100000]\n hlt", Mode.PROTECTED)
    memory.write(0, b"\x2a")
    set_region2(machine.vm, memory, gpa=GPA, flags=0)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 0x2A
    set_region2(machine.vm, memory, gpa=GPA, size=0, flags=0)


def test_first_ioctl_does_not_know_the_flag(protected: Vm, shared: Region) -> None:
    with refused(errno.EINVAL):
        protected.set_region(
            gpa=GPA, size=SIZE, address=shared.address, flags=kvm.KVM_MEM_GUEST_MEMFD
        )


def test_vm_without_private_memory_takes_no_guest_memfd(vm: Vm, memory: Region) -> None:
    with refused(errno.EINVAL):
        set_region2(vm, memory, GuestMemfd(vm, memory.size).fd, gpa=GPA)


@pytest.mark.parametrize("flag", [kvm.KVM_MEM_LOG_DIRTY_PAGES, kvm.KVM_MEM_READONLY, 8])
def test_guest_memfd_stands_alone(
    protected: Vm, shared: Region, memfd: GuestMemfd, flag: int
) -> None:
    with refused(errno.EINVAL):
        set_region2(protected, shared, memfd.fd, gpa=GPA, flags=kvm.KVM_MEM_GUEST_MEMFD | flag)


@pytest.mark.parametrize("offset", [1, SIZE + PAGE_SIZE, 2 * SIZE, (1 << 64) - PAGE_SIZE])
def test_part_must_be_inside(protected: Vm, shared: Region, memfd: GuestMemfd, offset: int) -> None:
    with refused(errno.EINVAL):
        set_region2(protected, shared, memfd.fd, gpa=GPA, offset=offset)


def test_descriptor_must_be_a_guest_memfd_of_the_vm(
    system: System, protected: Vm, shared: Region
) -> None:
    other = GuestMemfd(system.create_vm(kvm.KVM_X86_SW_PROTECTED_VM), SIZE)
    plain = os.memfd_create("plain")
    os.ftruncate(plain, SIZE)
    for fd in (other.fd, plain, protected.fd, system.fd):
        with refused(errno.EINVAL):
            set_region2(protected, shared, fd, gpa=GPA)
    os.close(plain)
    for fd in (plain, 0xFFFF_FFFF, 0x7FFF_FFFF):
        with refused(errno.EBADF):
            set_region2(protected, shared, fd, gpa=GPA)


def test_a_part_is_one_slots(protected: Vm, shared: Region, memfd: GuestMemfd) -> None:
    set_region2(protected, shared, memfd.fd, gpa=GPA, offset=PAGE_SIZE)
    for offset in (0, PAGE_SIZE, SIZE):
        with refused(errno.EINVAL):
            set_region2(protected, shared, memfd.fd, slot=2, gpa=2 * GPA, offset=offset)
    set_region2(protected, shared, memfd.fd, slot=1, gpa=GPA, size=0, flags=0)
    set_region2(protected, shared, memfd.fd, slot=2, gpa=2 * GPA, offset=SIZE)
    set_region2(protected, shared, memfd.fd, slot=1, gpa=GPA, offset=0)


def test_such_a_slot_can_only_be_deleted(protected: Vm, shared: Region, memfd: GuestMemfd) -> None:
    set_region2(protected, shared, memfd.fd, gpa=GPA)
    for gpa, flags in ((GPA, 0), (GPA, kvm.KVM_MEM_GUEST_MEMFD), (2 * GPA, 0)):
        with refused(errno.EINVAL):
            set_region2(protected, shared, memfd.fd, gpa=gpa, flags=flags)
    set_region2(protected, shared, memfd.fd, gpa=GPA, size=0)


def test_memory_of_the_client_may_be_missing(system: System) -> None:
    machine = Machine.of(system, kvm.KVM_X86_SW_PROTECTED_VM)
    nowhere = Region(SIZE)
    nowhere.close()
    with refused(errno.EFAULT):
        set_region2(machine.vm, nowhere, gpa=GPA, flags=0)
    set_region2(machine.vm, nowhere, GuestMemfd(machine.vm, SIZE).fd, gpa=GPA)
    set_private(machine.vm, GPA, SIZE)
    machine.load("inc dword ptr [0x100000]\n mov eax, [0x100000]\n hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 1


def test_slot_cannot_get_a_guest_memfd_later(
    protected: Vm, shared: Region, memfd: GuestMemfd
) -> None:
    set_region2(protected, shared, gpa=GPA, flags=0)
    with refused(errno.EINVAL):
        set_region2(protected, shared, memfd.fd, gpa=GPA)


def test_there_is_one_address_space(protected: Vm, shared: Region) -> None:
    assert protected.ioctl(KVM_CHECK_EXTENSION, kvm.KVM_CAP_MULTI_ADDRESS_SPACE) == 1
    with refused(errno.EINVAL):
        set_region2(protected, shared, slot=1 << 16, gpa=GPA, flags=0)


def test_slots_overlap_as_others(protected: Vm, shared: Region, memfd: GuestMemfd) -> None:
    set_region2(protected, shared, memfd.fd, gpa=GPA)
    with refused(errno.EEXIST):
        set_region2(protected, shared, memfd.fd, slot=2, gpa=GPA + PAGE_SIZE, offset=SIZE)
