"""Slots that are deleted, moved or made again while vCPUs use them; READONLY slots under writes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvmshim.abi import constants_gen as kvm
from tests.kvm import PAGE_SIZE, Region, System, Vcpu
from tests.machine import Machine, Mode

GPA = 0x100000
ELSEWHERE = 0x200000
SIZE = 16 * PAGE_SIZE
SLOT = 1

# Tells that it runs, then accesses the slot for ever.
WRITES = f"out 0x10, al\n again: mov byte ptr [{GPA:#x}], 0x55\n jmp again"
READS = f"out 0x10, al\n again: mov eax, [{GPA:#x}]\n jmp again"
JUMPS = f"out 0x10, al\n mov eax, {GPA:#x}\n jmp eax"
STAYS = b"\xeb\xfe"


@contextmanager
def running(*vcpus: Vcpu) -> Iterator[list[int]]:
    """vCPUs run meanwhile, from their OUT on; the exits that they come to, which end them."""
    for vcpu in vcpus:
        assert vcpu.run() == kvm.KVM_EXIT_IO
    exits: list[int] = []
    threads = [
        threading.Thread(target=lambda vcpu=vcpu: exits.append(vcpu.run())) for vcpu in vcpus
    ]
    for thread in threads:
        thread.start()
    yield exits
    for thread in threads:
        thread.join()


def place(machine: Machine, memory: Region, gpa: int, size: int = SIZE) -> None:
    machine.vm.set_region(slot=SLOT, gpa=gpa, size=size, address=memory.address)


def until_written(memory: Region) -> None:
    while memory.read(0, 1) != b"\x55":
        pass


def test_no_write_lands_after_a_delete(machine: Machine, memory: Region) -> None:
    place(machine, memory, GPA)
    machine.load(WRITES, Mode.PROTECTED)
    with running(machine.vcpu) as exits:
        until_written(memory)
        place(machine, memory, GPA, size=0)
        memory.write(0, b"\xee")
    assert exits == [kvm.KVM_EXIT_MMIO]
    assert machine.vcpu.mmio.is_write
    assert memory.read(0, 1) == b"\xee"


def test_no_write_lands_after_a_move(machine: Machine, memory: Region) -> None:
    place(machine, memory, GPA)
    machine.load(WRITES, Mode.PROTECTED)
    with running(machine.vcpu) as exits:
        until_written(memory)
        place(machine, memory, ELSEWHERE)
        memory.write(0, b"\xee")
    assert exits == [kvm.KVM_EXIT_MMIO]
    assert memory.read(0, 1) == b"\xee"


def test_code_of_a_deleted_slot_is_not_executed(machine: Machine, memory: Region) -> None:
    memory.write(0, STAYS)
    place(machine, memory, GPA)
    machine.load(JUMPS, Mode.PROTECTED)
    with running(machine.vcpu) as exits:
        place(machine, memory, GPA, size=0)
    assert exits == [kvm.KVM_EXIT_INTERNAL_ERROR]


def test_moved_slot_is_found_by_who_waits_for_it(machine: Machine, memory: Region) -> None:
    memory.write(0, b"\x2a")
    place(machine, memory, GPA)
    source = f"out 0x10, al\n again: cmp byte ptr [{ELSEWHERE:#x}], 0x2a\n jne again\n hlt"
    machine.load(source, Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO
    machine.vcpu.mmio_data = b"\0"
    place(machine, memory, ELSEWHERE)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT


@pytest.mark.slow
def test_slot_comes_and_goes_under_two_vcpus(system: System, memory: Region) -> None:
    machine = Machine.of(system)
    other = Machine(machine.vm, machine.vm.create_vcpu(1), machine.ram)
    for each in (machine, other):
        each.load(READS, Mode.PROTECTED)
    left = [0, 0]
    end = threading.Event()

    def run(number: int, vcpu: Vcpu) -> None:
        while not end.is_set():
            if vcpu.run() == kvm.KVM_EXIT_MMIO:
                left[number] += 1
                vcpu.mmio_data = b"\0\0\0\0"

    vcpus = enumerate((machine.vcpu, other.vcpu))
    threads = [threading.Thread(target=run, args=pair) for pair in vcpus]
    for thread in threads:
        thread.start()
    for gpa in [GPA, ELSEWHERE] * 100:
        place(machine, memory, gpa)
        place(machine, memory, gpa, size=0)
    while not all(left):
        pass
    end.set()
    for thread in threads:
        thread.join()
    assert memory.read(0, SIZE) == bytes(SIZE)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        (f"mov dword ptr [{GPA:#x}], 7", b"\7\0\0\0"),
        (f"add dword ptr [{GPA:#x}], 7", b"\x0c\0\0\0"),
        (f"lock inc word ptr [{GPA:#x}]", b"\6\0"),
        (f"mov ebx, 1\n xchg [{GPA:#x}], bl", b"\1"),
        (f"push dword ptr [{GPA:#x}]\n pop dword ptr [{GPA + 4:#x}]", b"\5\0\0\0"),
    ],
)
def test_write_to_a_read_only_slot_leaves_with_the_result(
    machine: Machine, memory: Region, source: str, written: bytes
) -> None:
    memory.write(0, b"\5")
    machine.vm.set_region(
        slot=SLOT, gpa=GPA, size=SIZE, address=memory.address, flags=kvm.KVM_MEM_READONLY
    )
    machine.load(f"{source}\n hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO
    assert machine.vcpu.mmio.is_write
    assert machine.vcpu.mmio_data == written
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert memory.read(0, 8) == b"\5" + bytes(7)


def test_read_only_slot_may_be_replaced_while_it_is_read(machine: Machine, memory: Region) -> None:
    source = f"out 0x10, al\n again: cmp byte ptr [{GPA:#x}], 0\n je again\n hlt"
    machine.vm.set_region(
        slot=SLOT, gpa=GPA, size=SIZE, address=memory.address, flags=kvm.KVM_MEM_READONLY
    )
    machine.load(source, Mode.PROTECTED)
    with running(machine.vcpu) as exits:
        memory.write(0, b"\1")
    assert exits == [kvm.KVM_EXIT_HLT]
