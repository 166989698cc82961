"""KVM_PRE_FAULT_MEMORY: memory of the guest made present before it is touched."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_PRE_FAULT_MEMORY
from kvmshim.abi.structs_gen import kvm_pre_fault_memory
from tests.ioctl.private_memory import GuestMemfd, set_private, set_region2
from tests.kvm import PAGE_SIZE, Region, System, Vcpu, refused
from tests.machine import RAM_SIZE, Machine

GPA = 0x10_0000


def left(vcpu: Vcpu, gpa: int, size: int) -> tuple[int, int]:
    """Calls it once; address and size of what is left."""
    wanted = kvm_pre_fault_memory(gpa=gpa, size=size)
    assert vcpu.ioctl(KVM_PRE_FAULT_MEMORY, wanted) == 0
    return wanted.gpa, wanted.size


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_PRE_FAULT_MEMORY) == 1


def test_memory_is_done_and_keeps_its_contents(machine: Machine) -> None:
    machine.ram.write(PAGE_SIZE, b"kept")
    assert left(machine.vcpu, 0, RAM_SIZE) == (RAM_SIZE, 0)
    assert machine.ram.read(PAGE_SIZE, 4) == b"kept"


def test_it_ends_with_the_slots(machine: Machine) -> None:
    start = RAM_SIZE - PAGE_SIZE
    assert left(machine.vcpu, start, 3 * PAGE_SIZE) == (RAM_SIZE, 2 * PAGE_SIZE)
    with refused(errno.ENOENT):
        left(machine.vcpu, RAM_SIZE, 2 * PAGE_SIZE)


def test_slots_that_continue_each_other_are_done_together(machine: Machine) -> None:
    machine.vm.add_region(slot=1, gpa=RAM_SIZE, size=PAGE_SIZE)
    assert left(machine.vcpu, 0, RAM_SIZE + PAGE_SIZE) == (RAM_SIZE + PAGE_SIZE, 0)


@pytest.mark.parametrize("gpa", [1 << 40, 1 << 52, (1 << 63) - PAGE_SIZE])
def test_no_memory_beyond_what_there_can_be(machine: Machine, gpa: int) -> None:
    with refused(errno.ENOENT):
        left(machine.vcpu, gpa, PAGE_SIZE)


@pytest.mark.parametrize(
    "wanted",
    [
        kvm_pre_fault_memory(gpa=0, size=PAGE_SIZE, flags=1),
        kvm_pre_fault_memory(gpa=0, size=PAGE_SIZE, flags=1 << 63),
        kvm_pre_fault_memory(gpa=1, size=PAGE_SIZE),
        kvm_pre_fault_memory(gpa=0, size=1),
        kvm_pre_fault_memory(gpa=0, size=0),
        kvm_pre_fault_memory(gpa=(1 << 64) - PAGE_SIZE, size=PAGE_SIZE),
        kvm_pre_fault_memory(gpa=(1 << 64) - PAGE_SIZE, size=2 * PAGE_SIZE),
    ],
)
def test_bad_ranges(vcpu: Vcpu, wanted: kvm_pre_fault_memory) -> None:
    before = bytes(wanted)
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_PRE_FAULT_MEMORY, wanted)
    assert bytes(wanted) == before


def test_private_memory_must_be_there(system: System) -> None:
    machine = Machine.of(system, kvm.KVM_X86_SW_PROTECTED_VM)
    set_private(machine.vm, GPA, 2 * PAGE_SIZE)
    with refused(errno.EFAULT):
        left(machine.vcpu, GPA, PAGE_SIZE)
    region = Region(2 * PAGE_SIZE)
    machine.vm.owned.callback(region.close)
    memory = GuestMemfd(machine.vm, 2 * PAGE_SIZE)
    set_region2(machine.vm, region, memory.fd, gpa=GPA)
    assert left(machine.vcpu, GPA, 2 * PAGE_SIZE) == (GPA + 2 * PAGE_SIZE, 0)
