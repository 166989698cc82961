"""KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG: which pages of a slot the guest has written."""

import ctypes
import errno
import threading
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_CLEAR_DIRTY_LOG,
    KVM_ENABLE_CAP,
    KVM_GET_DIRTY_LOG,
    KVM_SMI,
)
from kvmshim.abi.structs_gen import kvm_clear_dirty_log, kvm_dirty_log, kvm_enable_cap
from tests.assembler import assemble
from tests.kvm import PAGE_SIZE, System, Vcpu, Vm, refused
from tests.machine import PAGE_DIRECTORY, PDPT, PML4, Machine, Mode

LOG: Final = kvm.KVM_MEM_LOG_DIRTY_PAGES
SLOT: Final = 1
GPA: Final = 0x10_0000
PAGES: Final = 100


@pytest.fixture
def logged(machine: Machine) -> Machine:
    """A slot of 100 pages at 1 MiB whose writes are logged, but not from its beginning."""
    region = machine.vm.add_region(slot=SLOT, gpa=GPA, size=PAGES * PAGE_SIZE)
    machine.vm.set_region(slot=SLOT, gpa=GPA, size=region.size, address=region.address, flags=LOG)
    return machine


def dirty(vm: Vm, slot: int = SLOT, pages: int = PAGES) -> list[int]:
    """The pages of KVM_GET_DIRTY_LOG."""
    bitmap = (ctypes.c_uint64 * (-(-pages // 64)))()
    vm.ioctl(KVM_GET_DIRTY_LOG, kvm_dirty_log(slot=slot, dirty_bitmap=ctypes.addressof(bitmap)))
    return [page for page in range(64 * len(bitmap)) if bitmap[page // 64] >> page % 64 & 1]


def clear(vm: Vm, pages: list[int], *, first: int = 0, count: int = PAGES) -> None:
    """KVM_CLEAR_DIRTY_LOG of pages counted from `first`."""
    bitmap = (ctypes.c_uint64 * (-(-count // 64)))()
    for page in pages:
        bitmap[page // 64] |= 1 << page % 64
    vm.ioctl(
        KVM_CLEAR_DIRTY_LOG,
        kvm_clear_dirty_log(
            slot=SLOT,
            num_pages=count,
            first_page=first,
            dirty_bitmap=ctypes.addressof(bitmap),
        ),
    )


def enable_manual(vm: Vm, options: int) -> None:
    wanted = kvm_enable_cap(cap=kvm.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
    wanted.args[0] = options
    vm.ioctl(KVM_ENABLE_CAP, wanted)


def write_pages(machine: Machine, *pages: int) -> None:
    """Lets the guest write a byte of these pages, and read one of page 99."""
    writes = "".join(f"mov byte ptr [{GPA + page * PAGE_SIZE:#x}], 1;" for page in pages)
    machine.load(f"{writes} mov al, [{GPA + 99 * PAGE_SIZE:#x}]; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT


def test_nothing_is_written_at_first(logged: Machine) -> None:
    assert dirty(logged.vm) == []


def test_written_pages_are_told_once(logged: Machine) -> None:
    write_pages(logged, 0, 3, 63, 64, 98)
    assert dirty(logged.vm) == [0, 3, 63, 64, 98]
    assert dirty(logged.vm) == []


def test_page_is_told_again_when_it_is_written_again(logged: Machine) -> None:
    write_pages(logged, 5, 6)
    dirty(logged.vm)
    write_pages(logged, 6)
    assert dirty(logged.vm) == [6]


def test_guest_that_goes_on_writing_is_seen_again(logged: Machine) -> None:
    store = f"mov byte ptr [{GPA + 7 * PAGE_SIZE:#x}], 1; hlt;"
    logged.load(3 * store, Mode.PROTECTED)
    for _ in range(3):
        assert logged.vcpu.run() == kvm.KVM_EXIT_HLT
        assert dirty(logged.vm) == [7]


def test_write_across_a_page_end_is_in_both(logged: Machine) -> None:
    logged.load(f"mov dword ptr [{GPA + 9 * PAGE_SIZE - 2:#x}], 1; hlt", Mode.PROTECTED)
    logged.vcpu.run()
    assert dirty(logged.vm) == [8, 9]


@pytest.mark.parametrize(
    "instruction",
    [
        "add dword ptr [edi], 1",
        "lock add dword ptr [edi], 1",
        "xchg [edi], eax",
        "lock cmpxchg [edi], ecx",
        "stosd",
        "push ss; pop es; mov ecx, 4; rep stosb",
        "mov esp, edi; add esp, 8; push eax",
        "movups [edi], xmm0",
    ],
)
def test_every_kind_of_write_counts(logged: Machine, instruction: str) -> None:
    start = f"mov eax, 0x600; mov cr4, eax; mov edi, {GPA + 0x5000:#x};"
    logged.load(f"{start} {instruction}; hlt", Mode.PROTECTED)
    assert logged.vcpu.run() == kvm.KVM_EXIT_HLT
    assert dirty(logged.vm) == [5]


def test_first_touch_counts_in_a_slot_that_begins_with_a_log(machine: Machine) -> None:
    """As in KVM, which makes the page writable for the guest then."""
    machine.vm.add_region(slot=2, gpa=0x80_0000, size=4 * PAGE_SIZE, flags=LOG)
    machine.load("again: mov al, [0x802000]; hlt; jmp again", Mode.PROTECTED)
    machine.vcpu.run()
    assert dirty(machine.vm, slot=2, pages=4) == [2]
    machine.vcpu.run()
    assert dirty(machine.vm, slot=2, pages=4) == []


def test_clients_writes_do_not_count(logged: Machine) -> None:
    region = logged.vm.add_region(slot=2, gpa=0x80_0000, size=PAGE_SIZE, flags=LOG)
    region.write(0, b"x" * PAGE_SIZE)
    assert dirty(logged.vm, slot=2, pages=1) == []


def test_accessed_and_dirty_bits_are_writes(machine: Machine) -> None:
    machine.load("hlt", Mode.LONG)
    slot0 = {"size": machine.ram.size, "address": machine.ram.address}
    machine.vm.set_region(flags=LOG, **slot0)
    machine.vcpu.run()
    tables = [table // PAGE_SIZE for table in (PML4, PDPT, PAGE_DIRECTORY)]
    assert dirty(machine.vm, slot=0, pages=machine.ram.size // PAGE_SIZE) == tables


def test_data_of_port_input_is_a_write(logged: Machine) -> None:
    logged.load(f"mov edi, {GPA + 0x2000:#x}; mov dx, 0x10; insb; hlt", Mode.PROTECTED)
    assert logged.vcpu.run() == kvm.KVM_EXIT_IO
    logged.vcpu.io_data = b"\7"
    assert logged.vcpu.run() == kvm.KVM_EXIT_HLT
    assert dirty(logged.vm) == [2]


def region_of(machine: Machine) -> tuple[int, int]:
    region = machine.vm.add_region(slot=3, gpa=0x80_0000, size=4 * PAGE_SIZE)
    return region.size, region.address


def test_logging_begins_with_its_flag(machine: Machine) -> None:
    size, address = region_of(machine)
    store = "mov byte ptr [0x800000], 1; hlt;"
    machine.load(2 * store, Mode.PROTECTED)
    machine.vcpu.run()
    machine.vm.set_region(slot=3, gpa=0x80_0000, size=size, address=address, flags=LOG)
    assert dirty(machine.vm, slot=3, pages=4) == []
    machine.vcpu.run()
    assert dirty(machine.vm, slot=3, pages=4) == [0]


def test_logging_ends_with_its_flag(machine: Machine) -> None:
    size, address = region_of(machine)
    machine.vm.set_region(slot=3, gpa=0x80_0000, size=size, address=address, flags=LOG)
    machine.vm.set_region(slot=3, gpa=0x80_0000, size=size, address=address)
    with refused(errno.ENOENT):
        dirty(machine.vm, slot=3, pages=4)


def test_moved_slot_has_a_new_log(machine: Machine) -> None:
    size, address = region_of(machine)
    machine.vm.set_region(slot=3, gpa=0x80_0000, size=size, address=address, flags=LOG)
    machine.load("mov byte ptr [0x800000], 1; hlt; mov byte ptr [0x901000], 2; hlt", Mode.PROTECTED)
    machine.vcpu.run()
    machine.vm.set_region(slot=3, gpa=0x90_0000, size=size, address=address, flags=LOG)
    assert dirty(machine.vm, slot=3, pages=4) == []
    machine.vcpu.run()
    assert dirty(machine.vm, slot=3, pages=4) == [1]


def test_unchanged_slot_keeps_its_log(logged: Machine) -> None:
    region = logged.vm.add_region(slot=2, gpa=0x80_0000, size=PAGE_SIZE, flags=LOG)
    logged.load("mov byte ptr [0x800000], 1; hlt", Mode.PROTECTED)
    logged.vcpu.run()
    logged.vm.set_region(slot=2, gpa=0x80_0000, size=PAGE_SIZE, address=region.address, flags=LOG)
    assert dirty(logged.vm, slot=2, pages=1) == [0]


def test_read_only_slot_is_never_written(machine: Machine) -> None:
    flags = LOG | kvm.KVM_MEM_READONLY
    machine.vm.add_region(slot=3, gpa=0x80_0000, size=PAGE_SIZE, flags=flags)
    machine.load("mov byte ptr [0x800000], 1; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_MMIO
    assert dirty(machine.vm, slot=3, pages=1) == []


def test_capability_tells_the_options(system: System) -> None:
    options = kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | kvm.KVM_DIRTY_LOG_INITIALLY_SET
    assert system.check_extension(kvm.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) == options


@pytest.mark.parametrize("options", [kvm.KVM_DIRTY_LOG_INITIALLY_SET, 4, 1 << 63], ids=hex)
def test_unknown_options_are_refused(vm: Vm, options: int) -> None:
    with refused(errno.EINVAL):
        enable_manual(vm, options)


def test_manual_log_is_cleared_by_the_client_alone(logged: Machine) -> None:
    enable_manual(logged.vm, kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
    write_pages(logged, 1, 2, 70)
    assert dirty(logged.vm) == dirty(logged.vm) == [1, 2, 70]
    clear(logged.vm, [2, 50])
    assert dirty(logged.vm) == [1, 70]
    clear(logged.vm, [6], first=64, count=36)
    assert dirty(logged.vm) == [1]


def test_cleared_page_is_told_when_it_is_written_again(logged: Machine) -> None:
    enable_manual(logged.vm, kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
    write_pages(logged, 1)
    clear(logged.vm, [1])
    assert dirty(logged.vm) == []
    write_pages(logged, 1)
    assert dirty(logged.vm) == [1]


def test_bits_beyond_the_pages_mean_nothing(logged: Machine) -> None:
    enable_manual(logged.vm, kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
    write_pages(logged, 64)
    clear(logged.vm, [0, 63], count=64)
    clear(logged.vm, [36, 37, 63], first=64, count=36)
    assert dirty(logged.vm) == [64]


def test_log_may_begin_with_every_page(logged: Machine) -> None:
    enable_manual(
        logged.vm,
        kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | kvm.KVM_DIRTY_LOG_INITIALLY_SET,
    )
    logged.vm.add_region(slot=2, gpa=0x80_0000, size=70 * PAGE_SIZE, flags=LOG)
    assert dirty(logged.vm, slot=2, pages=70) == list(range(70))
    assert dirty(logged.vm) == []


RANGES = {
    "first page inside a word": (1, 64),
    "first page beyond the slot": (128, 0),
    "too many pages": (64, 37),
    "not up to the end": (0, 65),
}


@pytest.mark.parametrize(("first", "count"), RANGES.values(), ids=RANGES)
def test_ranges_that_cannot_be_cleared(logged: Machine, first: int, count: int) -> None:
    with refused(errno.EINVAL):
        clear(logged.vm, [], first=first, count=count)


@pytest.mark.parametrize(
    ("slot", "error"),
    [
        (2, errno.ENOENT),
        (0, errno.ENOENT),
        (0x7FFF, errno.EINVAL),
        (0x10001, errno.ENOENT),
        (0x20000, errno.EINVAL),
    ],
)
@pytest.mark.parametrize("number", [KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG], ids=hex)
def test_slots_without_a_log(logged: Machine, number: int, slot: int, error: int) -> None:
    bitmap = (ctypes.c_uint64 * 2)()
    log = kvm_clear_dirty_log if number == KVM_CLEAR_DIRTY_LOG else kvm_dirty_log
    with refused(error):
        logged.vm.ioctl(number, log(slot=slot, dirty_bitmap=ctypes.addressof(bitmap)))


def test_bitmap_that_leads_nowhere_loses_nothing(logged: Machine) -> None:
    write_pages(logged, 4)
    with refused(errno.EFAULT):
        logged.vm.ioctl(KVM_GET_DIRTY_LOG, kvm_dirty_log(slot=SLOT, dirty_bitmap=8))
    with refused(errno.EFAULT):
        wrong = kvm_clear_dirty_log(slot=SLOT, num_pages=PAGES, dirty_bitmap=8)
        logged.vm.ioctl(KVM_CLEAR_DIRTY_LOG, wrong)
    assert dirty(logged.vm) == [4]


def test_each_address_space_has_its_log(logged: Machine) -> None:
    """The handler of an SMI writes where the guest does, in the other address space."""
    space = 1 << 16
    smram = logged.vm.add_region(slot=space, gpa=0x30000, size=0x10000)
    logged.vm.add_region(slot=space | SLOT, gpa=GPA, size=PAGES * PAGE_SIZE, flags=LOG)
    handler = f"mov edi, {GPA + 7 * PAGE_SIZE:#x}; mov byte ptr [edi], 1; rsm"
    smram.write(0x8000, assemble(handler, bits=16, origin=0x8000))
    logged.vcpu.ioctl(KVM_SMI)
    write_pages(logged, 5)
    assert dirty(logged.vm, space | SLOT) == [7]
    assert dirty(logged.vm) == [5]
    assert dirty(logged.vm, space | SLOT) == []


@pytest.mark.parametrize("manual", [False, True])
def test_copy_by_the_log_alone_is_exact(logged: Machine, manual: bool) -> None:
    """What live migration does: copy what is told until the guest has stopped."""
    if manual:
        enable_manual(logged.vm, kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
    region = logged.vm.add_region(slot=2, gpa=0x80_0000, size=64 * PAGE_SIZE)
    logged.vm.set_region(slot=SLOT, gpa=GPA, size=0, address=0)
    logged.vm.set_region(slot=SLOT, gpa=GPA, size=region.size, address=region.address, flags=LOG)
    logged.load(
        f"""
        mov esi, 200000
        again:
        imul eax, eax, 1103515245
        add eax, 12345
        mov edi, eax
        shr edi, 8
        and edi, {(region.size - 1) & ~3:#x}
        mov [edi + {GPA:#x}], esi
        dec esi
        jnz again
        hlt
        """,
        Mode.PROTECTED,
    )
    copy = bytearray(region.size)
    guest = threading.Thread(target=logged.vcpu.run)
    guest.start()
    rounds = 0
    while True:
        stopped = not guest.is_alive()
        pages = dirty(logged.vm, pages=64)
        if manual:
            clear(logged.vm, pages, count=64)
        for page in pages:
            start = page * PAGE_SIZE
            copy[start : start + PAGE_SIZE] = region.read(start, PAGE_SIZE)
        rounds += 1
        if stopped:
            break
    guest.join()
    assert copy == region.read(0, region.size)
    assert rounds > 1


@pytest.mark.parametrize("number", [KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG], ids=hex)
def test_only_a_vm_has_logs(system: System, vcpu: Vcpu, number: int) -> None:
    for other in (system, vcpu):
        with refused(errno.EINVAL):
            other.ioctl(number, kvm_clear_dirty_log())
