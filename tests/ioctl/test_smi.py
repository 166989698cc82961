"""KVM_SMI and system management mode as a client sees them."""

import errno
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_GET_VCPU_EVENTS,
    KVM_NMI,
    KVM_SET_VCPU_EVENTS,
    KVM_SMI,
)
from kvmshim.abi.structs_gen import kvm_vcpu_events
from tests.assembler import assemble
from tests.kvm import PAGE_SIZE, System, Vcpu, Vm, refused
from tests.machine import CODE, RAM_SIZE, STACK, Machine, Mode

IA32_SMBASE: Final = 0x9E
SMI_COUNT: Final = 0x34
SMBASE: Final = 0x30000
ENTRY: Final = 0x8000
SMM_SLOT: Final = 1 << 16
SMRAM_SIZE: Final = 0x10000


class Smram:
    """A machine with memory at SMBASE that only system management mode sees."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.vm, self.vcpu = machine, machine.vm, machine.vcpu
        self.memory = self.vm.add_region(slot=SMM_SLOT, gpa=SMBASE, size=SMRAM_SIZE)

    def handle(self, source: str) -> None:
        """Makes 16-bit `source` the handler."""
        self.memory.write(ENTRY, assemble(source, bits=16, origin=ENTRY))

    def field(self, offset: int, size: int) -> int:
        """A field of the state-save area, by its offset from SMBASE."""
        return int.from_bytes(self.memory.read(offset, size), "little")

    @property
    def in_smm(self) -> bool:
        """What the last run left in `kvm_run.flags`."""
        return bool(self.vcpu.state.flags & kvm.KVM_RUN_X86_SMM)


@pytest.fixture
def smram(machine: Machine) -> Smram:
    return Smram(machine)


def events(vcpu: Vcpu) -> kvm_vcpu_events:
    found = kvm_vcpu_events()
    vcpu.ioctl(KVM_GET_VCPU_EVENTS, found)
    return found


def smi(vcpu: Vcpu) -> tuple[int, int, int]:
    """smm, pending, smm_inside_nmi."""
    found = events(vcpu).smi
    return found.smm, found.pending, found.smm_inside_nmi


def test_capabilities_are_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_X86_SMM) == 1
    assert system.check_extension(kvm.KVM_CAP_MULTI_ADDRESS_SPACE) == 2


def test_smi_waits_for_the_next_run(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_SMI)
    assert smi(vcpu) == (0, 1, 0)


def test_handler_runs_and_returns(smram: Smram) -> None:
    smram.machine.load("mov ebx, 1; hlt", Mode.PROTECTED)
    smram.handle("out 0x80, al; rsm")
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_IO
    assert smram.in_smm
    assert smi(smram.vcpu) == (1, 0, 0)
    assert events(smram.vcpu).nmi.masked
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    assert not smram.in_smm
    assert smi(smram.vcpu) == (0, 0, 0)
    assert not events(smram.vcpu).nmi.masked
    assert smram.vcpu.regs().rbx == 1


@pytest.mark.parametrize("mode", Mode)
def test_registers_are_as_before(system: System, smram: Smram, mode: Mode) -> None:
    smram.vcpu.set_cpuid(system.supported_cpuid())
    smram.machine.load("hlt", mode)
    smram.handle("mov eax, 0x1234; mov esp, eax; mov ds, ax; mov dr0, eax; rsm")
    before, special = smram.vcpu.regs(), smram.vcpu.sregs()
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    before.rip += 1
    assert bytes(smram.vcpu.regs()) == bytes(before)
    assert bytes(smram.vcpu.sregs()) == bytes(special)


def test_layout_follows_long_mode_in_cpuid(system: System, smram: Smram) -> None:
    smram.machine.load("hlt", Mode.REAL)
    smram.handle("hlt")
    smram.vcpu.ioctl(KVM_SMI)
    smram.vcpu.run()
    assert (smram.field(0xFEFC, 4), smram.field(0xFEF8, 4)) == (0x20000, SMBASE)
    assert smram.field(0xFFF0, 4) == CODE
    other = Smram(Machine.of(system))
    other.vcpu.set_cpuid(system.supported_cpuid())
    other.machine.load("hlt", Mode.LONG)
    other.handle("hlt")
    other.vcpu.ioctl(KVM_SMI)
    other.vcpu.run()
    assert (other.field(0xFEFC, 4), other.field(0xFF00, 4)) == (0x20064, SMBASE)
    assert (other.field(0xFF78, 8), other.field(0xFFD8, 8)) == (CODE, STACK)


def test_handler_begins_in_real_mode(smram: Smram) -> None:
    smram.machine.load("hlt", Mode.PROTECTED)
    smram.handle("hlt")
    smram.vcpu.ioctl(KVM_SMI)
    smram.vcpu.run()
    regs, sregs = smram.vcpu.regs(), smram.vcpu.sregs()
    assert (regs.rip, regs.rflags, sregs.cr0 & 1, sregs.cr4) == (ENTRY + 1, 2, 0, 0)
    cs = sregs.cs
    assert (cs.selector, cs.base, cs.limit, cs.type_, cs.g) == (0x3000, SMBASE, 0xFFFF_FFFF, 3, 1)
    assert (sregs.ds.selector, sregs.ds.base, sregs.ds.limit) == (0, 0, 0xFFFF_FFFF)
    assert (sregs.idt.base, sregs.idt.limit) == (0, 0)


def test_second_smi_waits_for_the_end_of_the_first(smram: Smram) -> None:
    smram.machine.load("hlt", Mode.REAL)
    smram.handle("out 0x80, al; rsm")
    smram.vcpu.ioctl(KVM_SMI)
    smram.vcpu.run()
    smram.vcpu.ioctl(KVM_SMI)
    assert smi(smram.vcpu) == (1, 1, 0)
    assert smram.vcpu.run() == kvm.KVM_EXIT_IO
    assert smi(smram.vcpu) == (1, 0, 0)
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    assert smram.vcpu.msrs([SMI_COUNT]) == [2]


def test_nmi_waits_for_rsm(smram: Smram) -> None:
    smram.machine.load("hlt", Mode.PROTECTED)
    smram.machine.handle(2, "mov ecx, 2; hlt", Mode.PROTECTED)
    smram.handle("out 0x80, al; rsm")
    smram.vcpu.ioctl(KVM_SMI)
    smram.vcpu.run()
    smram.vcpu.ioctl(KVM_NMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    assert not smram.in_smm
    assert smram.vcpu.regs().rcx == 2


def test_smi_wakes_a_halted_guest(smram: Smram) -> None:
    """As in KVM, which knows no auto-halt restart, the guest goes on behind its HLT."""
    smram.machine.load("hlt; mov ebx, 7; hlt", Mode.PROTECTED)
    smram.handle("rsm")
    smram.vcpu.run()
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    assert smram.vcpu.regs().rbx == 7


def test_rsm_of_what_cannot_be_is_a_shutdown(smram: Smram) -> None:
    smram.machine.load("hlt", Mode.REAL)
    smram.handle("mov dword ptr cs:[0xFFFC], 0x80000010; rsm")
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_SHUTDOWN
    assert not smram.in_smm


def test_smbase_is_the_clients_msr(smram: Smram) -> None:
    assert smram.vcpu.msrs([IA32_SMBASE]) == [SMBASE]
    assert smram.vcpu.set_msrs([(IA32_SMBASE, 0x2F000)]) == 1
    assert smram.vcpu.msrs([IA32_SMBASE]) == [0x2F000]
    smram.memory.write(ENTRY - PAGE_SIZE, b"\xf4")
    smram.machine.load("hlt", Mode.REAL)
    smram.vcpu.ioctl(KVM_SMI)
    smram.vcpu.run()
    assert smram.in_smm
    assert smram.vcpu.sregs().cs.base == 0x2F000


def test_handler_moves_smbase(smram: Smram) -> None:
    smram.machine.load("hlt; hlt", Mode.REAL)
    smram.handle("mov dword ptr cs:[0xFEF8], 0x2FF00; rsm")
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    assert smram.vcpu.msrs([IA32_SMBASE]) == [SMBASE - 0x100]
    smram.memory.write(ENTRY - 0x100, b"\xf4")
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
    assert smram.vcpu.sregs().cs.base == SMBASE - 0x100


def test_guest_moves_to_another_vm_inside_its_handler(system: System, smram: Smram) -> None:
    smram.machine.load("mov ebx, 5; hlt", Mode.PROTECTED)
    smram.handle("out 0x80, al; rsm")
    smram.vcpu.ioctl(KVM_SMI)
    smram.vcpu.run()
    smram.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        smram.vcpu.run()
    other = Smram(Machine.of(system))
    other.memory.write(0, smram.memory.read(0, SMRAM_SIZE))
    other.machine.ram.write(0, smram.machine.ram.read(0, RAM_SIZE))
    saved = events(smram.vcpu)
    other.vcpu.set_sregs(smram.vcpu.sregs())
    other.vcpu.set_regs(smram.vcpu.regs())
    other.vcpu.ioctl(KVM_SET_VCPU_EVENTS, saved)
    assert bytes(events(other.vcpu)) == bytes(saved)
    assert other.vcpu.run() == kvm.KVM_EXIT_HLT
    assert not other.in_smm
    assert other.vcpu.regs().rbx == 5


def test_client_puts_a_guest_into_the_mode_and_out(smram: Smram) -> None:
    """Code at one address differs in the two address spaces."""
    smram.machine.load("mov ebx, 1; hlt", Mode.REAL)
    smram.machine.ram.write(SMBASE, smram.machine.ram.read(CODE, 16))
    smram.memory.write(0, assemble("mov ebx, 2; hlt", bits=16, origin=SMBASE))
    wanted = kvm_vcpu_events(flags=kvm.KVM_VCPUEVENT_VALID_SMM)
    sregs = smram.vcpu.sregs()
    sregs.cs.base, sregs.cs.selector = SMBASE, SMBASE >> 4
    smram.vcpu.set_sregs(sregs)
    for smm, seen in ((0, 1), (1, 2), (0, 1)):
        wanted.smi.smm = smm
        smram.vcpu.ioctl(KVM_SET_VCPU_EVENTS, wanted)
        smram.vcpu.change_regs(rip=0, rbx=0)
        assert smram.vcpu.run() == kvm.KVM_EXIT_HLT
        assert (smram.vcpu.regs().rbx, smram.in_smm) == (seen, bool(smm))


def test_rsm_outside_of_the_mode_is_undefined(machine: Machine) -> None:
    machine.load("rsm", Mode.PROTECTED)
    machine.handle(6, "hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.peek(machine.vcpu.regs().rsp) == CODE


def test_memory_of_the_other_modes_is_not_there(smram: Smram) -> None:
    smram.machine.load("hlt", Mode.REAL)
    smram.handle("mov al, [0x1000]; hlt")
    smram.vcpu.ioctl(KVM_SMI)
    assert smram.vcpu.run() == kvm.KVM_EXIT_MMIO
    assert smram.in_smm
    assert (smram.vcpu.mmio.phys_addr, smram.vcpu.mmio.is_write) == (0x1000, 0)


@pytest.mark.parametrize("flags", [None, kvm.KVM_MEM_READONLY], ids=["none", "read-only"])
def test_smi_that_cannot_save_the_state_is_the_vms_end(machine: Machine, flags: int | None) -> None:
    if flags is not None:
        machine.vm.add_region(slot=SMM_SLOT, gpa=SMBASE, size=SMRAM_SIZE, flags=flags)
    other = machine.vm.create_vcpu(1)
    machine.load("hlt", Mode.REAL)
    machine.vcpu.ioctl(KVM_SMI)
    for vcpu in (machine.vcpu, machine.vcpu, other):
        with refused(errno.EIO):
            vcpu.run()


def test_handler_beyond_its_memory_cannot_be_fetched(machine: Machine) -> None:
    """The state-save area alone is there."""
    machine.vm.add_region(slot=SMM_SLOT, gpa=SMBASE + 0xF000, size=PAGE_SIZE)
    machine.load("hlt", Mode.REAL)
    machine.vcpu.ioctl(KVM_SMI)
    assert machine.vcpu.run() == kvm.KVM_EXIT_INTERNAL_ERROR
    assert machine.vcpu.state.flags & kvm.KVM_RUN_X86_SMM


def test_only_a_vcpu_takes_an_smi(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SMI)
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_SMI)
