"""KVM_TRANSLATE2 in each paging mode: how many levels, and how long addresses are."""

import struct
from itertools import pairwise

import pytest

from kvmshim.abi import constants_gen as kvm
from tests.ioctl.test_translate2 import (
    EFER_NXE,
    FAR,
    INVALID_GVA,
    LINEAR,
    NOT_PRESENT,
    PAGE,
    RW,
    SET_ACCESSED,
    SET_DIRTY,
    TABLES,
    US,
    WRITE,
    A,
    D,
    P,
    failure,
    translate,
)
from tests.kvm import Vcpu
from tests.machine import CODE, PML4, Machine, Mode

PML5 = 0x65000
CR4_LA57 = 1 << 12
HIGHEST = (1 << 56) - 1
DONE = 0x55


def five_levels(machine: Machine, source: str = "hlt") -> Vcpu:
    """A vCPU with five levels; the first 256 TiB are those of four levels, above them is PAGE."""
    machine.load(source, Mode.LONG)
    entries = [(PML5, PML4), (PML5 + 8, TABLES[0]), *pairwise(TABLES)]
    entries.append((TABLES[3] + 8, PAGE))
    for address, target in entries:
        machine.ram.write(address, struct.pack("<Q", target | P | RW | US))
    sregs = machine.vcpu.sregs()
    sregs.cr3, sregs.cr4 = PML5, sregs.cr4 | CR4_LA57
    sregs.efer |= EFER_NXE
    machine.vcpu.set_sregs(sregs)
    return machine.vcpu


ABOVE = 1 << 48 | LINEAR
"""Reached by the second entry of the fifth level."""


def test_tr_07_modes_32_bit_paging(machine: Machine) -> None:
    machine.load("hlt", Mode.PROTECTED)
    machine.ram.write(TABLES[0], struct.pack("<I", TABLES[1] | P | RW | US))
    machine.ram.write(TABLES[1] + 4, struct.pack("<I", PAGE | P | RW | US))
    sregs = machine.vcpu.sregs()
    sregs.cr3, sregs.cr0 = TABLES[0], sregs.cr0 | 1 << 31
    machine.vcpu.set_sregs(sregs)
    every = SET_ACCESSED | SET_DIRTY
    found = translate(machine.vcpu, LINEAR, every, WRITE)
    assert (found.valid, found.physical_address) == (1, PAGE | LINEAR & 0xFFF)
    assert machine.peek(TABLES[0]) & (A | D) == A
    assert machine.peek(TABLES[1] + 4) & (A | D) == A | D
    assert failure(machine.vcpu, 0x40_0000) == (NOT_PRESENT, TABLES[0] + 4)
    assert failure(machine.vcpu, 1 << 32) == (INVALID_GVA, 0)


def test_tr_07_modes_pae_paging(machine: Machine) -> None:
    machine.load("hlt", Mode.PROTECTED)
    machine.ram.write(TABLES[0], struct.pack("<2Q", TABLES[1] | P, 0))
    machine.ram.write(TABLES[1], struct.pack("<Q", TABLES[2] | P | RW | US))
    machine.ram.write(TABLES[2] + 8, struct.pack("<Q", PAGE | P | RW | US))
    sregs = machine.vcpu.sregs()
    sregs.cr3, sregs.cr4, sregs.cr0 = TABLES[0], sregs.cr4 | 1 << 5, sregs.cr0 | 1 << 31
    machine.vcpu.set_sregs(sregs)
    found = translate(machine.vcpu, LINEAR, SET_ACCESSED, WRITE)
    assert (found.valid, found.physical_address) == (1, PAGE | LINEAR & 0xFFF)
    assert failure(machine.vcpu, 1 << 30) == (NOT_PRESENT, TABLES[0] + 8)


def test_tr_07_modes_five_levels(machine: Machine) -> None:
    vcpu = five_levels(machine)
    assert translate(vcpu, CODE).physical_address == CODE
    found = translate(vcpu, ABOVE, SET_ACCESSED | SET_DIRTY, WRITE)
    assert (found.valid, found.physical_address) == (1, PAGE | LINEAR & 0xFFF)
    assert machine.peek(PML5 + 8, 8) & (A | D) == A
    assert [machine.peek(table, 8) & (A | D) for table in TABLES[:3]] == [A] * 3
    assert machine.peek(TABLES[3] + 8, 8) & (A | D) == A | D


def test_tr_07_modes_the_fifth_level_is_where_a_walk_begins(machine: Machine) -> None:
    vcpu = five_levels(machine)
    assert failure(vcpu, 2 << 48) == (NOT_PRESENT, PML5 + 16)
    assert failure(vcpu, HIGHEST) == (NOT_PRESENT, PML5 + 255 * 8)
    assert failure(vcpu, 1 << 48 | FAR) == (NOT_PRESENT, TABLES[1] + 8)


@pytest.mark.parametrize("linear", [1 << 56, HIGHEST | 1 << 57, (1 << 64) - (1 << 56) - 1])
def test_tr_07_modes_five_levels_have_addresses_of_57_bits(machine: Machine, linear: int) -> None:
    vcpu = five_levels(machine)
    assert failure(vcpu, linear) == (INVALID_GVA, 0)
    assert failure(vcpu, (1 << 64) - (1 << 56)) == (NOT_PRESENT, PML5 + 256 * 8)


def test_tr_07_modes_an_access_finds_what_the_walk_with_five_levels_found(machine: Machine) -> None:
    vcpu = five_levels(machine, f"mov [rbx], al; out {DONE}, al; hlt")
    vcpu.change_regs(rbx=ABOVE, rax=0x5A)
    assert (vcpu.run(), vcpu.io.port) == (kvm.KVM_EXIT_IO, DONE)
    found = translate(vcpu, ABOVE, access=WRITE)
    assert machine.peek(found.physical_address, 1) == 0x5A
