"""KVM_SET_MEMORY_ATTRIBUTES: private pages, what is behind them, KVM_EXIT_MEMORY_FAULT."""

import ctypes
import errno
import threading

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_CHECK_EXTENSION, KVM_RUN, KVM_SET_MEMORY_ATTRIBUTES
from kvmshim.abi.structs_gen import kvm_memory_attributes
from tests.ioctl.private_memory import GuestMemfd, set_private, set_region2
from tests.ioctl.test_guest_memfd import KEEP_SIZE, PUNCH_HOLE, fallocate
from tests.kvm import PAGE_SIZE, Region, System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

PAGES = 4
GPA = 0x100000
SIZE = PAGES * PAGE_SIZE
PAGE = GPA + PAGE_SIZE

# Adds 1 to the dword at RBX, then halts, for ever.
COUNT = """
again:
    add dword ptr [ebx], 1
    mov eax, [ebx]
    hlt
    jmp again
"""


@pytest.fixture
def machine(system: System) -> Machine:
    """A vCPU of a VM that can have private memory."""
    return Machine.of(system, kvm.KVM_X86_SW_PROTECTED_VM)


@pytest.fixture
def shared(machine: Machine) -> Region:
    """The client's memory of the slot at GPA."""
    region = Region(SIZE)
    machine.vm.owned.callback(region.close)
    return region


@pytest.fixture
def memfd(machine: Machine, shared: Region) -> GuestMemfd:
    """The guest_memfd of the slot at GPA."""
    memory = GuestMemfd(machine.vm, SIZE)
    set_region2(machine.vm, shared, memory.fd, gpa=GPA)
    return memory


def load(machine: Machine, address: int = PAGE, source: str = COUNT) -> None:
    machine.load(source, Mode.PROTECTED)
    machine.vcpu.change_regs(rbx=address)


def counted(vcpu: Vcpu) -> int:
    """Runs the guest to its next HLT; what it has read."""
    assert vcpu.run() == kvm.KVM_EXIT_HLT
    return vcpu.regs().rax


def faults(vcpu: Vcpu, gpa: int = PAGE) -> None:
    """Runs the guest into private memory that is not there."""
    before = vcpu.regs().rip
    with refused(errno.EFAULT):
        vcpu.ioctl(KVM_RUN)
    assert vcpu.state.exit_reason == kvm.KVM_EXIT_MEMORY_FAULT
    fault = vcpu.memory_fault
    assert (fault.flags, fault.gpa, fault.size) == (
        kvm.KVM_MEMORY_EXIT_FLAG_PRIVATE,
        gpa,
        PAGE_SIZE,
    )
    assert vcpu.regs().rip == before


def test_capabilities_are_those_of_the_vm(system: System, vm: Vm) -> None:
    assert system.check_extension(kvm.KVM_CAP_MEMORY_FAULT_INFO) == 1
    assert system.check_extension(kvm.KVM_CAP_VM_TYPES) == 0b11
    capability = kvm.KVM_CAP_MEMORY_ATTRIBUTES
    assert system.check_extension(capability) == kvm.KVM_MEMORY_ATTRIBUTE_PRIVATE
    assert vm.ioctl(KVM_CHECK_EXTENSION, capability) == 0


@pytest.mark.usefixtures("memfd")
def test_private_and_shared_pages_are_different_memory(machine: Machine, shared: Region) -> None:
    load(machine)
    shared.write(PAGE_SIZE, b"\x10")
    assert counted(machine.vcpu) == 0x11
    set_private(machine.vm, PAGE, PAGE_SIZE)
    assert [counted(machine.vcpu) for _ in range(2)] == [1, 2]
    assert shared.read(PAGE_SIZE, 1) == b"\x11"
    set_private(machine.vm, PAGE, PAGE_SIZE, private=False)
    assert counted(machine.vcpu) == 0x12
    set_private(machine.vm, GPA, SIZE)
    assert counted(machine.vcpu) == 3


def test_page_of_a_hole_is_zero_again(machine: Machine, memfd: GuestMemfd) -> None:
    load(machine)
    set_private(machine.vm, GPA, SIZE)
    assert counted(machine.vcpu) == 1
    fallocate(memfd, KEEP_SIZE | PUNCH_HOLE, PAGE_SIZE, PAGE_SIZE)
    assert counted(machine.vcpu) == 1


@pytest.mark.usefixtures("memfd")
def test_neighbours_stay_as_they_are(machine: Machine, shared: Region) -> None:
    set_private(machine.vm, PAGE, PAGE_SIZE)
    for page in (0, 2):
        load(machine, GPA + page * PAGE_SIZE)
        assert counted(machine.vcpu) == 1
        assert shared.read(page * PAGE_SIZE, 1) == b"\x01"


def test_page_may_become_private_before_there_is_a_slot(machine: Machine, shared: Region) -> None:
    set_private(machine.vm, GPA, SIZE)
    load(machine)
    faults(machine.vcpu)
    memory = GuestMemfd(machine.vm, 2 * SIZE)
    set_region2(machine.vm, shared, memory.fd, gpa=GPA, offset=SIZE)
    assert counted(machine.vcpu) == 1
    assert shared.read(PAGE_SIZE, 1) == b"\0"


def test_private_page_of_a_slot_without_guest_memfd_faults(
    machine: Machine, shared: Region
) -> None:
    machine.vm.set_region(slot=1, gpa=GPA, size=SIZE, address=shared.address)
    load(machine)
    set_private(machine.vm, PAGE, PAGE_SIZE)
    for _ in range(2):
        faults(machine.vcpu)
    set_private(machine.vm, PAGE, PAGE_SIZE, private=False)
    assert counted(machine.vcpu) == 1


@pytest.mark.parametrize(
    ("source", "rip"), [("mov eax, [ebx]", None), ("mov [ebx], eax", None), ("hlt", PAGE)]
)
def test_each_kind_of_access_faults(machine: Machine, source: str, rip: int | None) -> None:
    set_private(machine.vm, PAGE, PAGE_SIZE)
    load(machine, source=source)
    if rip is not None:
        machine.vcpu.change_regs(rip=rip)
    faults(machine.vcpu)


def test_access_to_two_pages_changes_none(machine: Machine, shared: Region) -> None:
    machine.vm.set_region(slot=1, gpa=GPA, size=SIZE, address=shared.address)
    set_private(machine.vm, PAGE, PAGE_SIZE)
    load(machine, address=PAGE - 2)
    faults(machine.vcpu)
    assert shared.read(0, 2 * PAGE_SIZE) == bytes(2 * PAGE_SIZE)
    set_private(machine.vm, PAGE, PAGE_SIZE, private=False)
    assert counted(machine.vcpu) == 1


def test_page_without_a_slot_that_is_no_longer_private_is_a_device(machine: Machine) -> None:
    load(machine, source="mov [ebx], eax")
    set_private(machine.vm, GPA, 1 << 40)
    faults(machine.vcpu)
    set_private(machine.vm, GPA, 1 << 40, private=False)
    assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO


@pytest.mark.usefixtures("memfd")
def test_deleted_slot_leaves_faults(machine: Machine, shared: Region) -> None:
    load(machine)
    set_private(machine.vm, GPA, SIZE)
    assert counted(machine.vcpu) == 1
    machine.vm.set_region(slot=1, gpa=GPA, size=0, address=shared.address)
    load(machine)
    faults(machine.vcpu)


def test_closed_guest_memfd_leaves_faults(machine: Machine, memfd: GuestMemfd) -> None:
    load(machine, source="again: mov eax, [ebx]\n jmp again")
    set_private(machine.vm, GPA, SIZE)
    runner = threading.Thread(target=faults_at_last, args=(machine.vcpu,))
    runner.start()
    memfd.close()
    runner.join()
    assert machine.vcpu.state.exit_reason == kvm.KVM_EXIT_MEMORY_FAULT


def faults_at_last(vcpu: Vcpu) -> None:
    with refused(errno.EFAULT):
        vcpu.ioctl(KVM_RUN)


@pytest.mark.usefixtures("memfd")
def test_running_guest_finds_the_one_memory_or_the_other(machine: Machine, shared: Region) -> None:
    shared.write(PAGE_SIZE, b"\x01\0\0\0")
    # Leaves with what it has read as soon as that is neither 0 nor 1.
    load(machine, source="again: mov eax, [ebx]\n cmp eax, 1\n jbe again\n hlt")
    exits: list[int] = []
    runner = threading.Thread(target=lambda: exits.append(machine.vcpu.run()))
    runner.start()
    for _ in range(200):
        set_private(machine.vm, GPA, SIZE)
        set_private(machine.vm, GPA, SIZE, private=False)
    assert exits == []
    shared.write(PAGE_SIZE, b"\x02\0\0\0")
    runner.join()
    assert exits == [kvm.KVM_EXIT_HLT]
    assert machine.vcpu.regs().rax == 2


@pytest.mark.parametrize(
    "wanted",
    [
        kvm_memory_attributes(address=GPA, size=PAGE_SIZE, flags=1),
        kvm_memory_attributes(address=GPA, size=PAGE_SIZE, attributes=1),
        kvm_memory_attributes(address=GPA, size=PAGE_SIZE, attributes=1 << 63),
        kvm_memory_attributes(address=GPA, size=0),
        kvm_memory_attributes(address=GPA + 1, size=PAGE_SIZE),
        kvm_memory_attributes(address=GPA, size=PAGE_SIZE - 1),
        kvm_memory_attributes(address=(1 << 64) - PAGE_SIZE, size=PAGE_SIZE),
        kvm_memory_attributes(address=(1 << 64) - PAGE_SIZE, size=2 * PAGE_SIZE),
    ],
)
def test_bad_ranges(machine: Machine, wanted: kvm_memory_attributes) -> None:
    with refused(errno.EINVAL):
        machine.vm.ioctl(KVM_SET_MEMORY_ATTRIBUTES, wanted)


def test_vm_without_private_memory_has_no_attribute(vm: Vm) -> None:
    set_private(vm, GPA, PAGE_SIZE, private=False)
    with refused(errno.EINVAL):
        set_private(vm, GPA, PAGE_SIZE)


@pytest.mark.parametrize("machine_type", [2, 3, 4, 5, 0x8000_0001])
def test_unknown_machine_types(system: System, machine_type: int) -> None:
    with refused(errno.EINVAL):
        system.create_vm(machine_type)


def test_whole_address_space_may_be_private(machine: Machine) -> None:
    set_private(machine.vm, PAGE_SIZE, (1 << 64) - 2 * PAGE_SIZE)
    set_private(machine.vm, 0, 1 << 63, private=False)
    assert ctypes.sizeof(kvm_memory_attributes) == 32
