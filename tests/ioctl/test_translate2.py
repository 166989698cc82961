"""KVM_TRANSLATE2: what an access would find, why there is no translation, and the bits it sets."""

import ctypes
import errno
import itertools
import random
import struct

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_IO, KVM_MEM_READONLY
from kvmshim.abi.ioctls_gen import KVM_TRANSLATE, KVM_TRANSLATE2
from kvmshim.abi.profiles import KVM_CAP_TRANSLATE2
from kvmshim.abi.structs_gen import kvm_translation, kvm_translation2
from tests.kvm import System, Vcpu, refused
from tests.machine import CODE, PDPT, Machine, Mode
from tests.server import serving

SET_ACCESSED, SET_DIRTY, FORCE_SET_ACCESSED = 1, 2, 4
WRITE, USER, EXEC = 1, 2, 4
NOT_PRESENT, PRIVILEGE_VIOLATION, RESERVED_BITS, INVALID_GVA, INVALID_GPA = range(1, 6)

P, RW, US, A, D, NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 63
ADDRESS = (1 << 52) - 0x1000
TABLES = (0x60000, 0x61000, 0x62000, 0x63000)
PAGE = 0x64000
LINEAR = 0x1234
FAR = 0x4000_1234
DONE, PAGE_FAULT = 0x55, 14
CR0_WP = 1 << 16
EFER_NXE = 1 << 11
NOWHERE = 0x10_0000
ACCESSES = range(8)


class Paged:
    """A vCPU in 64-bit mode, whose page at LINEAR is reached by one entry of each level."""

    def __init__(self, system: System) -> None:
        self.machine = Machine.of(system)
        self.machine.load("hlt", Mode.LONG)
        self.vcpu = self.machine.vcpu
        targets = (*TABLES[1:], PAGE)
        for place, target in enumerate(targets):
            self.write(place, target | P | RW | US)
        sregs = self.vcpu.sregs()
        sregs.cr3 = TABLES[0]
        sregs.cr0 |= CR0_WP
        sregs.efer |= EFER_NXE
        self.vcpu.set_sregs(sregs)

    def entry_at(self, place: int) -> int:
        """Where the entry of a level is; the last level's index is 1."""
        return TABLES[place] + (8 if place == 3 else 0)

    def read(self, place: int) -> int:
        return self.machine.peek(self.entry_at(place), 8)

    def write(self, place: int, entry: int) -> None:
        self.machine.ram.write(self.entry_at(place), struct.pack("<Q", entry))

    def bits(self) -> list[int]:
        return [self.read(place) & (A | D) for place in range(4)]


@pytest.fixture
def paged(system: System) -> Paged:
    return Paged(system)


def translate(vcpu: Vcpu, linear: int, flags: int = 0, access: int = 0) -> kvm_translation2:
    found = kvm_translation2(linear_address=linear, flags=flags, access=access)
    vcpu.ioctl(KVM_TRANSLATE2, found)
    return found


def failure(vcpu: Vcpu, linear: int, flags: int = 0, access: int = 0) -> tuple[int, int]:
    """Error code and address of what cannot be translated."""
    found = translate(vcpu, linear, flags, access)
    assert not found.valid
    return found.error_code, found.physical_address


def test_tr_01_the_capability_and_the_number(system: System) -> None:
    assert KVM_CAP_TRANSLATE2 == 239
    assert system.check_extension(KVM_CAP_TRANSLATE2) == 1
    assert KVM_TRANSLATE2 == 0xC028_AE87
    assert ctypes.sizeof(kvm_translation2) == 40
    fields = ("physical_address", "valid", "error_code", "set_bits_succeeded")
    offsets = [getattr(kvm_translation2, field).offset for field in fields]
    assert offsets == [16, 24, 26, 28]


@pytest.mark.parametrize("flags", range(16))
def test_tr_03_flags_go_together_or_are_refused(paged: Paged, flags: int) -> None:
    for access in ACCESSES:
        needs_accessed = flags & (SET_DIRTY | FORCE_SET_ACCESSED) and not flags & SET_ACCESSED
        needs_write = flags & SET_DIRTY and not access & WRITE
        if flags > 7 or needs_accessed or needs_write:
            with refused(errno.EINVAL):
                translate(paged.vcpu, LINEAR, flags, access)
        else:
            assert translate(paged.vcpu, LINEAR, flags, access).valid


@pytest.mark.parametrize("bit", range(3, 16))
def test_tr_03_unknown_accesses_and_flags_are_refused(paged: Paged, bit: int) -> None:
    with refused(errno.EINVAL):
        translate(paged.vcpu, LINEAR, access=1 << bit)
    with refused(errno.EINVAL):
        translate(paged.vcpu, LINEAR, flags=1 << bit)


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_tr_03_strictly_nobody_writes_and_executes_at_once() -> None:
    with serving("--strict") as server:
        system = System(server.path)
        paged = Paged(system)
        with refused(errno.EINVAL):
            translate(paged.vcpu, LINEAR, access=WRITE | EXEC)
        assert translate(paged.vcpu, LINEAR, access=WRITE | USER).valid
        system.close()


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    ("profile", "there"), [("mainline", False), ("tlb-inhibit", False), ("translate2", True)]
)
def test_tr_01_a_profile_has_it_or_not(profile: str, there: bool) -> None:
    with serving("--profile", profile) as server:
        system = System(server.path)
        vcpu = Machine.of(system).vcpu
        if there:
            assert translate(vcpu, CODE).valid
        else:
            with refused(errno.EINVAL):
                translate(vcpu, CODE)
        assert system.check_extension(KVM_CAP_TRANSLATE2) == (profile != "mainline")
        system.close()


@pytest.mark.parametrize("given", ACCESSES)
def test_tr_06_what_the_entries_give_is_had_and_no_more(paged: Paged, given: int) -> None:
    rights = (RW if given & WRITE else 0) | (US if given & USER else 0)
    rights |= 0 if given & EXEC else NX
    for place in range(4):
        paged.write(place, paged.read(place) & ~(RW | US | NX) | rights)
    for wanted in ACCESSES:
        found = translate(paged.vcpu, LINEAR, access=wanted)
        if wanted & ~given:
            assert (found.valid, found.error_code) == (0, PRIVILEGE_VIOLATION)
            assert found.physical_address == TABLES[0]
        else:
            assert (found.valid, found.physical_address) == (1, PAGE | LINEAR & 0xFFF)
    assert paged.bits() == [0] * 4


@pytest.mark.parametrize("place", range(4))
def test_tr_06_the_entry_that_denies_is_told(paged: Paged, place: int) -> None:
    paged.write(place, paged.read(place) & ~RW)
    expected = (PRIVILEGE_VIOLATION, paged.entry_at(place))
    assert failure(paged.vcpu, LINEAR, access=WRITE) == expected


@pytest.mark.parametrize(
    ("register", "bit", "access"),
    [("cr4", 1 << 20, EXEC), ("cr4", 1 << 21, 0), ("cr4", 1 << 21, WRITE)],
    ids=["SMEP", "SMAP read", "SMAP write"],
)
def test_tr_06_supervisors_are_kept_from_users_pages(
    paged: Paged, register: str, bit: int, access: int
) -> None:
    sregs = paged.vcpu.sregs()
    setattr(sregs, register, getattr(sregs, register) | bit)
    paged.vcpu.set_sregs(sregs)
    expected = (PRIVILEGE_VIOLATION, paged.entry_at(3))
    assert failure(paged.vcpu, LINEAR, access=access) == expected
    assert translate(paged.vcpu, LINEAR, access=access | USER).valid
    paged.vcpu.change_regs(rflags=1 << 18 | 2)
    assert translate(paged.vcpu, LINEAR, access=access).valid == (access != EXEC)


def test_tr_06_without_wp_supervisors_write_everywhere(paged: Paged) -> None:
    sregs = paged.vcpu.sregs()
    sregs.cr0 &= ~CR0_WP
    paged.vcpu.set_sregs(sregs)
    paged.write(3, paged.read(3) & ~RW)
    assert translate(paged.vcpu, LINEAR, access=WRITE).valid
    assert failure(paged.vcpu, LINEAR, access=WRITE | USER)[0] == PRIVILEGE_VIOLATION


def test_tr_05_bits_are_set_when_they_are_wanted(paged: Paged) -> None:
    assert not translate(paged.vcpu, LINEAR, access=WRITE).set_bits_succeeded
    assert paged.bits() == [0] * 4
    assert translate(paged.vcpu, LINEAR, SET_ACCESSED).set_bits_succeeded
    assert paged.bits() == [A] * 4
    assert translate(paged.vcpu, LINEAR, SET_ACCESSED | SET_DIRTY, WRITE).set_bits_succeeded
    assert paged.bits() == [A, A, A, A | D]


@pytest.mark.parametrize("place", range(4))
def test_tr_05_a_failed_walk_sets_bits_if_it_is_forced(paged: Paged, place: int) -> None:
    paged.write(place, paged.read(place) & ~P)
    found = translate(paged.vcpu, LINEAR, SET_ACCESSED)
    assert (found.valid, found.set_bits_succeeded) == (0, 0)
    assert paged.bits() == [0] * 4
    found = translate(paged.vcpu, LINEAR, SET_ACCESSED | FORCE_SET_ACCESSED)
    assert (found.valid, found.error_code) == (0, NOT_PRESENT)
    assert (found.physical_address, found.set_bits_succeeded) == (paged.entry_at(place), 1)
    assert paged.bits() == [A] * place + [0] * (4 - place)


def test_tr_05_tables_in_read_only_memory_keep_their_bits(paged: Paged) -> None:
    rom = paged.machine.vm.add_region(slot=1, gpa=NOWHERE, size=0x1000, flags=KVM_MEM_READONLY)
    rom.write(8, struct.pack("<Q", PAGE | P | RW | US))
    paged.write(2, NOWHERE | P | RW | US)
    every = SET_ACCESSED | SET_DIRTY | FORCE_SET_ACCESSED
    found = translate(paged.vcpu, LINEAR, every, WRITE)
    assert (found.valid, found.physical_address) == (1, PAGE | LINEAR & 0xFFF)
    assert not found.set_bits_succeeded
    assert paged.bits()[:3] == [A] * 3
    assert rom.read(8, 1)[0] & (A | D) == 0


@pytest.mark.parametrize("linear", [0b101 << 60, 1 << 47, (1 << 64) - (1 << 47) - 1, 1 << 63])
def test_tr_04_an_address_that_is_not_canonical_is_none(paged: Paged, linear: int) -> None:
    assert failure(paged.vcpu, linear, SET_ACCESSED) == (INVALID_GVA, 0)


@pytest.mark.parametrize("mode", [Mode.REAL, Mode.PROTECTED])
def test_tr_04_outside_long_mode_addresses_have_32_bits(machine: Machine, mode: Mode) -> None:
    machine.load("hlt", mode)
    assert translate(machine.vcpu, CODE).physical_address == CODE
    assert failure(machine.vcpu, 1 << 32 | CODE) == (INVALID_GVA, 0)


@pytest.mark.parametrize("place", range(4))
def test_tr_04_reserved_bits_are_told(paged: Paged, place: int) -> None:
    paged.write(place, paged.read(place) | 1 << 51)
    assert failure(paged.vcpu, LINEAR) == (RESERVED_BITS, paged.entry_at(place))


@pytest.mark.parametrize("place", range(3))
def test_tr_04_a_table_outside_memory_is_told(paged: Paged, place: int) -> None:
    paged.write(place, NOWHERE | P | RW | US)
    offset = 8 if place == 2 else 0
    assert failure(paged.vcpu, LINEAR) == (INVALID_GPA, NOWHERE + offset)


def test_tr_04_a_page_outside_memory_is_told(paged: Paged) -> None:
    paged.write(3, NOWHERE | P | RW | US)
    assert failure(paged.vcpu, LINEAR, SET_ACCESSED) == (INVALID_GPA, NOWHERE | LINEAR & 0xFFF)
    assert paged.bits() == [0] * 4


@pytest.mark.parametrize(("access", "source"), [(0, "mov al, [rbx]"), (WRITE, "mov [rbx], al")])
def test_tr_08_what_is_allowed_is_what_an_access_gets(
    machine: Machine, access: int, source: str
) -> None:
    """The guest reads or writes a page whose entries have all rights or lack some.

    It loads CR3 first: a processor may remember what the entries were.
    """
    machine.load(f"mov rax, cr3; mov cr3, rax; {source}; out {DONE}, al; hlt", Mode.LONG)
    machine.handle(PAGE_FAULT, f"out {PAGE_FAULT}, al; hlt", Mode.LONG)
    sregs = machine.vcpu.sregs()
    sregs.cr0 |= CR0_WP
    machine.vcpu.set_sregs(sregs)
    entries = ((PDPT + 8, TABLES[1]), (TABLES[1], TABLES[2]), (TABLES[2] + 8, PAGE))
    for rights in itertools.product((P | RW, P, RW), repeat=3):
        for (address, target), right in zip(entries, rights, strict=True):
            machine.ram.write(address, struct.pack("<Q", target | right))
        machine.vcpu.change_regs(rip=CODE, rbx=FAR)
        assert machine.vcpu.run() == KVM_EXIT_IO
        allowed = machine.vcpu.io.port == DONE
        assert translate(machine.vcpu, FAR, access=access).valid == allowed


@pytest.mark.parametrize("seed", range(4))
def test_tr_06_garbage_in_the_tables_is_no_harm(paged: Paged, seed: int) -> None:
    """Random addresses, then random entries, at each level."""
    chance = random.Random(seed)
    every = SET_ACCESSED | SET_DIRTY | FORCE_SET_ACCESSED
    sound = [paged.read(place) for place in range(4)]
    for place in range(4):
        for _ in range(100):
            paged.write(place, sound[place] & ~ADDRESS | chance.getrandbits(30) << 12)
            translate(paged.vcpu, LINEAR, every, WRITE)
            paged.write(place, chance.getrandbits(64))
            translate(paged.vcpu, chance.getrandbits(48), every, WRITE)
        paged.write(place, sound[place])
    assert translate(paged.vcpu, LINEAR).valid


def test_tr_09_the_old_one_is_what_it_was(paged: Paged) -> None:
    paged.write(3, paged.read(3) & ~RW)
    found = kvm_translation(linear_address=LINEAR)
    paged.vcpu.ioctl(KVM_TRANSLATE, found)
    assert (found.valid, found.physical_address) == (1, PAGE | LINEAR & 0xFFF)
    assert (found.writeable, found.usermode) == (1, 0)
    assert paged.bits() == [0] * 4
