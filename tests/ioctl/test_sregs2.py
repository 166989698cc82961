"""KVM_GET_SREGS2, KVM_SET_SREGS2: as KVM_GET_SREGS, with the PDPTE registers of PAE paging."""

import errno
import struct

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import kvm_sregs, kvm_sregs2
from tests.kvm import Vcpu, refused
from tests.machine import CODE, CR0_PG, CR4_PAE, PDPT, Machine, Mode

VALID = kvm.KVM_SREGS2_FLAGS_PDPTRS_VALID
COMMON = [name for name, *_ in kvm_sregs._fields_ if name != "interrupt_bitmap"]
PAGE_DIRECTORY = 0x7000
LARGE_PAGE = 0x83
PRESENT = 1


def get(vcpu: Vcpu) -> kvm_sregs2:
    sregs = kvm_sregs2()
    vcpu.ioctl(nr.KVM_GET_SREGS2, sregs)
    return sregs


def set_(vcpu: Vcpu, sregs: kvm_sregs2) -> None:
    vcpu.ioctl(nr.KVM_SET_SREGS2, sregs)


def with_pae_paging(machine: Machine, source: str) -> kvm_sregs2:
    """A guest before PAE paging is on: one large page, one to one; the state that turns it on."""
    machine.load(source, Mode.PROTECTED)
    machine.ram.write(PDPT, struct.pack("<4Q", PAGE_DIRECTORY | PRESENT, 0, 0, 0))
    machine.ram.write(PAGE_DIRECTORY, struct.pack("<Q", LARGE_PAGE))
    sregs = get(machine.vcpu)
    sregs.cr3 = PDPT
    sregs.cr4 |= CR4_PAE
    sregs.cr0 |= CR0_PG
    return sregs


@pytest.mark.parametrize("mode", list(Mode))
def test_it_tells_what_sregs_tell(machine: Machine, mode: Mode) -> None:
    machine.load("hlt", mode)
    old, new = machine.vcpu.sregs(), get(machine.vcpu)
    assert new.flags == 0
    for name in COMMON:
        ours, theirs = getattr(new, name), getattr(old, name)
        assert ours == theirs or bytes(ours) == bytes(theirs), name


@pytest.mark.parametrize("mode", list(Mode))
def test_it_reads_back_as_it_was_set(machine: Machine, mode: Mode) -> None:
    machine.load("hlt", mode)
    before = get(machine.vcpu)
    before.cr2 = 0x1234
    set_(machine.vcpu, before)
    assert bytes(get(machine.vcpu)) == bytes(before)


def test_pdptes_come_from_memory(machine: Machine) -> None:
    set_(machine.vcpu, with_pae_paging(machine, "hlt"))
    sregs = get(machine.vcpu)
    assert sregs.flags == VALID
    assert list(sregs.pdptrs) == [PAGE_DIRECTORY | PRESENT, 0, 0, 0]
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT


def test_pdptes_that_are_given_read_back(machine: Machine) -> None:
    sregs = with_pae_paging(machine, "hlt")
    set_(machine.vcpu, sregs)
    sregs = get(machine.vcpu)
    set_(machine.vcpu, sregs)
    assert bytes(get(machine.vcpu)) == bytes(sregs)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rip == CODE + 1


def test_pdptes_need_pae_paging(machine: Machine) -> None:
    machine.load("hlt", Mode.LONG)
    for mode in Mode:
        machine.load("hlt", mode)
        sregs = get(machine.vcpu)
        sregs.flags = VALID
        with refused(errno.EINVAL):
            set_(machine.vcpu, sregs)


@pytest.mark.parametrize("flags", [2, VALID | 1 << 63])
def test_unknown_flags(machine: Machine, flags: int) -> None:
    sregs = with_pae_paging(machine, "hlt")
    before = bytes(get(machine.vcpu))
    sregs.flags = flags
    with refused(errno.EINVAL):
        set_(machine.vcpu, sregs)
    assert bytes(get(machine.vcpu)) == before


def test_what_sregs_refuse(vcpu: Vcpu) -> None:
    sregs = get(vcpu)
    sregs.cr0 |= CR0_PG
    with refused(errno.EINVAL):
        set_(vcpu, sregs)
