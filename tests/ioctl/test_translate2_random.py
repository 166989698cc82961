"""KVM_TRANSLATE2 against the guest's own accesses: random entries of page tables and control bits.

The guest reads, writes or executes, in ring 0 or 3. What it may do the ioctl translates, and where
it faults the ioctl does not.
"""

import random
import struct

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_IO
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import Guest
from tests.ioctl.test_translate2 import (
    CR0_WP,
    DONE,
    EFER_NXE,
    EXEC,
    NX,
    PAGE,
    PAGE_FAULT,
    RW,
    TABLES,
    US,
    USER,
    WRITE,
    P,
    translate,
)
from tests.kvm import System
from tests.machine import CODE, PAGE_DIRECTORY, PDPT, PML4, STACK, Machine, Mode

ROUNDS = 400
FAR = 0x4000_1000
"""Its page begins with a RET, which a write does not touch."""
CR4_SMEP, CR4_SMAP = 1 << 20, 1 << 21
IOPL_3 = 3 << 12
STEPS = {
    0: ("mov al, [rbx + 8]", CODE),
    WRITE: ("mov [rbx + 8], al", CODE + 0x40),
    EXEC: ("call rbx", CODE + 0x80),
}
ENTRIES = ((PDPT + 8, TABLES[1]), (TABLES[1], TABLES[2]), (TABLES[2] + 8, PAGE))


def prepared(system: System, ring: int) -> Machine:
    machine = Machine.of(system)
    machine.vcpu.set_cpuid(system.supported_cpuid())
    machine.load("hlt", Mode.LONG)
    for source, address in STEPS.values():
        code = assemble(f"{source}; out {DONE}, al; hlt", bits=64, origin=address)
        machine.ram.write(address, code)
    machine.handle(PAGE_FAULT, f"out {PAGE_FAULT}, al; hlt", Mode.LONG)
    machine.ram.write(PAGE, b"\xc3")
    hv.enter_ring(Guest(machine, Mode.LONG), ring)
    if ring == 0:
        # Its own code must be the supervisor's alone, for SMEP.
        for table in (PDPT, PAGE_DIRECTORY):
            machine.ram.write(table, (machine.peek(table, 8) & ~US).to_bytes(8, "little"))
    assert machine.peek(PML4, 8) & US
    return machine


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_tr_08_what_a_guest_may_do_is_what_is_translated(
    system: System, ring: int, seed: int
) -> None:
    chance = random.Random(seed * 4 + ring)
    machine = prepared(system, ring)
    vcpu = machine.vcpu
    sregs = vcpu.sregs()
    cr0, cr4, efer = sregs.cr0, sregs.cr4, sregs.efer
    seen = set()
    for _ in range(ROUNDS):
        for address, target in ENTRIES:
            rights = [P if chance.random() < 0.9 else 0]
            rights += [bit for bit in (RW, US, NX) if chance.random() < (0.2 if bit == NX else 0.7)]
            machine.ram.write(address, struct.pack("<Q", target | sum(rights)))
        if ring:
            hv.enter_ring(Guest(machine, Mode.LONG), ring)
        sregs = vcpu.sregs()
        sregs.cr0 = cr0 & ~CR0_WP | chance.choice((0, CR0_WP))
        # The handler of a fault of ring 3 has its code and stack in the user's pages.
        kept = () if ring else (CR4_SMEP, CR4_SMAP)
        sregs.cr4 = cr4 | sum(chance.choice((0, bit)) for bit in kept)
        sregs.efer = efer | EFER_NXE
        vcpu.set_sregs(sregs)
        access = chance.choice(tuple(STEPS))
        found = translate(vcpu, FAR, access=access | (USER if ring else 0))
        vcpu.change_regs(rip=STEPS[access][1], rbx=FAR, rsp=STACK, rflags=2 | IOPL_3)
        assert vcpu.run() == KVM_EXIT_IO
        allowed = vcpu.io.port == DONE
        assert bool(found.valid) == allowed, (access, hex(sregs.cr0), hex(sregs.cr4))
        assert not allowed or found.physical_address == PAGE
        seen.add((access, allowed))
    assert seen == {(access, allowed) for access in STEPS for allowed in (False, True)}
