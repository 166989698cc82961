"""A VM with one vCPU and 512 KiB of memory, loaded with an assembled guest in a chosen mode.

Guest-physical layout: the guest's code at CODE, its stack below STACK, descriptor tables, exception
handlers and page tables above. There is no memory from RAM_SIZE on; MMIO is a page there that real
mode reaches too. In long mode the first GiB is mapped one to one.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import kvm_pit_config, kvm_segment, kvm_sregs
from tests.assembler import assemble
from tests.kvm import Region, System, Vcpu, Vm

RAM_SIZE: Final = 0x80000
CODE: Final = 0x1000
DATA: Final = 0x4000
STACK: Final = 0x8000
GDT: Final = 0x9000
IDT: Final = 0xA000
HANDLERS: Final = 0xB000
PML4: Final = 0x70000
PDPT: Final = 0x71000
PAGE_DIRECTORY: Final = 0x72000
MMIO: Final = 0xA0000

CODE_SELECTOR: Final = 0x08
DATA_SELECTOR: Final = 0x10

DESCRIPTOR_L: Final = 1 << 53
DESCRIPTOR_DB: Final = 1 << 54

CR0_PE: Final = 1 << 0
CR0_PG: Final = 1 << 31
CR4_PAE: Final = 1 << 5
EFER_LME: Final = 1 << 8
EFER_LMA: Final = 1 << 10


class Mode(IntEnum):
    """Processor modes, by the width of their code segments."""

    REAL = 16
    PROTECTED = 32
    LONG = 64


@dataclass
class Machine:
    """One vCPU over one memory slot."""

    vm: Vm
    vcpu: Vcpu
    ram: Region

    @classmethod
    def of(cls, system: System, machine_type: int = 0, *, controllers: bool = False) -> "Machine":
        """`controllers`: interrupt controllers and a timer are in the VM."""
        vm = system.create_vm(machine_type)
        if controllers:
            vm.ioctl(nr.KVM_CREATE_IRQCHIP)
            vm.ioctl(nr.KVM_CREATE_PIT2, kvm_pit_config())
        ram = vm.add_region(slot=0, gpa=0, size=RAM_SIZE)
        return cls(vm, vm.create_vcpu(0), ram)

    def load(self, source: str, mode: Mode) -> None:
        """Puts a guest at CODE and the vCPU before its first instruction, flags clear."""
        self.ram.write(CODE, assemble(source, bits=mode, origin=CODE))
        sregs = self.vcpu.sregs()
        enter(sregs, mode)
        self.write_tables(mode)
        self.vcpu.set_sregs(sregs)
        self.vcpu.change_regs(rip=CODE, rsp=STACK, rflags=2)

    def write_tables(self, mode: Mode) -> None:
        """The GDT and the page tables that `enter` points to."""
        width = DESCRIPTOR_L if mode is Mode.LONG else DESCRIPTOR_DB
        code = 0x008F_9B00_0000_FFFF | width
        self.ram.write(GDT, struct.pack("<3Q", 0, code, 0x00CF_9300_0000_FFFF))
        self.ram.write(PML4, struct.pack("<Q", PDPT | 3))
        self.ram.write(PDPT, struct.pack("<Q", PAGE_DIRECTORY | 3))
        large_pages = [index << 21 | 0x83 for index in range(512)]
        self.ram.write(PAGE_DIRECTORY, struct.pack("<512Q", *large_pages))

    def handle(self, vector: int, source: str, mode: Mode) -> None:
        """Makes `source`, at most 64 bytes, the handler of an exception; after `load`."""
        address = HANDLERS + 64 * vector
        self.ram.write(address, assemble(source, bits=mode, origin=address))
        offset, gate = gate_of(vector, address, mode)
        self.ram.write(offset, gate)

    def peek(self, address: int, size: int = 4) -> int:
        """Guest memory as a little-endian number."""
        return int.from_bytes(self.ram.read(address, size), "little")


def gate_of(vector: int, handler: int, mode: Mode) -> tuple[int, bytes]:
    """Where the vector's entry lies, and the entry: IVT in real mode, interrupt gate else."""
    match mode:
        case Mode.REAL:
            return 4 * vector, struct.pack("<2H", handler, 0)
        case Mode.PROTECTED:
            return IDT + 8 * vector, struct.pack("<4H", handler, CODE_SELECTOR, 0x8E00, 0)
        case Mode.LONG:
            return IDT + 16 * vector, struct.pack("<4HQ", handler, CODE_SELECTOR, 0x8E00, 0, 0)


def enter(sregs: kvm_sregs, mode: Mode) -> None:
    """Changes the reset state into `mode` with flat segments, by cached descriptors."""
    if mode is Mode.REAL:
        sregs.cs.selector = 0
        sregs.cs.base = 0
        return
    sregs.cs = flat_segment(
        CODE_SELECTOR, type_=11, db=mode is Mode.PROTECTED, long=mode is Mode.LONG
    )
    data = flat_segment(DATA_SELECTOR, type_=3, db=True, long=False)
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data
    sregs.gdt.base = GDT
    sregs.gdt.limit = 3 * 8 - 1
    sregs.idt.base = IDT
    sregs.idt.limit = 256 * 16 - 1
    sregs.cr0 |= CR0_PE
    if mode is Mode.LONG:
        sregs.cr3 = PML4
        sregs.cr4 |= CR4_PAE
        sregs.cr0 |= CR0_PG
        sregs.efer |= EFER_LME | EFER_LMA


def flat_segment(selector: int, *, type_: int, db: bool, long: bool) -> kvm_segment:
    """A present ring-0 code or data segment of 4 GiB at 0."""
    return kvm_segment(
        limit=0xFFFF_FFFF, selector=selector, type_=type_, present=1, s=1, g=1, db=db, l=long
    )
