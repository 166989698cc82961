"""The interface of Hyper-V as a guest sees it: numbers, and a guest that uses it step by step.

Hyper-V Top Level Functional Specification. Names of tests carry the ids of the requirements.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_ENABLE_CAP, KVM_GET_SUPPORTED_HV_CPUID
from kvmshim.abi.structs_gen import kvm_cpuid_entry2, kvm_enable_cap, kvm_segment
from tests.assembler import assemble
from tests.kvm import System, Vcpu, cpuid_entries, cpuid_table
from tests.machine import (
    CODE,
    CODE_SELECTOR,
    DATA_SELECTOR,
    PAGE_DIRECTORY,
    PDPT,
    PML4,
    STACK,
    Machine,
    Mode,
    flat_segment,
)

VENDOR: Final = 0x4000_0000
INTERFACE: Final = 0x4000_0001
FEATURES: Final = 0x4000_0003
RECOMMENDATIONS: Final = 0x4000_0004
DEBUG_CAPABILITIES: Final = 0x4000_0082
HV_1: Final = 0x3123_7648

GUEST_OS_ID: Final = 0x4000_0000
HYPERCALL: Final = 0x4000_0001
VP_INDEX: Final = 0x4000_0002
RESET: Final = 0x4000_0003
VP_RUNTIME: Final = 0x4000_0010
TIME_REF_COUNT: Final = 0x4000_0020
REFERENCE_TSC: Final = 0x4000_0021
TSC_FREQUENCY: Final = 0x4000_0022
APIC_FREQUENCY: Final = 0x4000_0023
NPIEP_CONFIG: Final = 0x4000_0040
EOI: Final = 0x4000_0070
ICR: Final = 0x4000_0071
TPR: Final = 0x4000_0072
VP_ASSIST_PAGE: Final = 0x4000_0073
SCONTROL: Final = 0x4000_0080
SVERSION: Final = 0x4000_0081
SIEFP: Final = 0x4000_0082
SIMP: Final = 0x4000_0083
EOM: Final = 0x4000_0084
SINT0: Final = 0x4000_0090
STIMER0_CONFIG: Final = 0x4000_00B0
STATS_PARTITION_RETAIL_PAGE: Final = 0x4000_00E0
GUEST_IDLE: Final = 0x4000_00F0
SYNDBG_CONTROL: Final = 0x4000_00F1
SYNDBG_STATUS: Final = 0x4000_00F2
SYNDBG_OPTIONS: Final = 0x4000_00FF
CRASH_P0: Final = 0x4000_0100
CRASH_CTL: Final = 0x4000_0105
REENLIGHTENMENT_CONTROL: Final = 0x4000_0106
TSC_EMULATION_CONTROL: Final = 0x4000_0107
TSC_EMULATION_STATUS: Final = 0x4000_0108
UNHALTED_TIMER_CONFIG: Final = 0x4000_0114
UNHALTED_TIMER_COUNT: Final = 0x4000_0115
TSC_INVARIANT_CONTROL: Final = 0x4000_0118

SAVED_MSRS: Final = (
    *range(GUEST_OS_ID, RESET + 1),
    VP_RUNTIME,
    *range(TIME_REF_COUNT, APIC_FREQUENCY + 1),
    VP_ASSIST_PAGE,
    SCONTROL,
    STIMER0_CONFIG,
    *range(SYNDBG_CONTROL, SYNDBG_CONTROL + 5),
    SYNDBG_OPTIONS,
    *range(CRASH_P0, TSC_EMULATION_STATUS + 1),
    NPIEP_CONFIG,
    UNHALTED_TIMER_CONFIG,
    UNHALTED_TIMER_COUNT,
    TSC_INVARIANT_CONTROL,
)

LINUX: Final = 0x8100 << 48
ENABLED: Final = 1

FLUSH_SPACE: Final = 0x02
FLUSH_LIST: Final = 0x03
LONG_SPIN_WAIT: Final = 0x08
SEND_IPI: Final = 0x0B
FLUSH_SPACE_EX: Final = 0x13
FLUSH_LIST_EX: Final = 0x14
SEND_IPI_EX: Final = 0x15
GET_PARTITION_ID: Final = 0x46
GET_VP_REGISTERS: Final = 0x50
SET_VP_REGISTERS: Final = 0x51
POST_MESSAGE: Final = 0x5C
SIGNAL_EVENT: Final = 0x5D
POST_DEBUG_DATA: Final = 0x69
RESET_DEBUG_SESSION: Final = 0x6B
START_VIRTUAL_PROCESSOR: Final = 0x99
GET_VP_INDEX_FROM_APIC_ID: Final = 0x9A
EXTENDED: Final = range(0x8001, 0x8042)
FAST: Final = 1 << 16

SUCCESS: Final = 0
INVALID_CODE: Final = 2
INVALID_INPUT: Final = 3
INVALID_ALIGNMENT: Final = 4
INVALID_PARAMETER: Final = 5
ACCESS_DENIED: Final = 6
OPERATION_DENIED: Final = 8
INVALID_PARTITION_ID: Final = 13
INVALID_VP_INDEX: Final = 14
INVALID_VP_STATE: Final = 0x15
INVALID_REGISTER_VALUE: Final = 0x50
INVALID_VTL_STATE: Final = 0x51

OWN_PARTITION: Final = (1 << 64) - 1
OWN_PROCESSOR: Final = 0xFFFF_FFFE

DONE_PORT: Final = 0x55
UD: Final = 6
GP: Final = 13

_TSS: Final = 0xD000

STEPS: Final = {"rdmsr": CODE, "wrmsr": CODE + 0x40, "call": CODE + 0x80}


class GuestFault(Exception):
    """The step raised this exception."""

    def __init__(self, vector: int) -> None:
        super().__init__(f"vector {vector}")
        self.vector = vector


def supported(target: System | Vcpu) -> list[kvm_cpuid_entry2]:
    """KVM_GET_SUPPORTED_HV_CPUID."""
    raw = cpuid_table([kvm_cpuid_entry2()] * 16)
    target.ioctl(KVM_GET_SUPPORTED_HV_CPUID, raw)
    return cpuid_entries(raw)


def leaf(entries: list[kvm_cpuid_entry2], function: int) -> kvm_cpuid_entry2:
    return next(entry for entry in entries if entry.function == function)


def enable(vcpu: Vcpu, capability: int, argument: int = 0) -> None:
    """KVM_ENABLE_CAP of a vCPU."""
    wanted = kvm_enable_cap(cap=capability)
    wanted.args[0] = argument
    vcpu.ioctl(KVM_ENABLE_CAP, wanted)


def cpuid_of_guest(
    system: System, vcpu: Vcpu, changes: Mapping[int, Mapping[str, int]] | None = None
) -> list[kvm_cpuid_entry2]:
    """All that a guest of Hyper-V can have, with some registers of some leaves changed."""
    entries = [entry for entry in system.supported_cpuid() if entry.function >> 28 != 4]
    entries += supported(vcpu)
    for function, registers in (changes or {}).items():
        for register, value in registers.items():
            setattr(leaf(entries, function), register, value)
    return entries


@dataclass
class Guest:
    """A guest that takes one step at a time: an MSR access, or a hypercall."""

    machine: Machine
    mode: Mode

    @classmethod
    def of(
        cls,
        system: System,
        changes: Mapping[int, Mapping[str, int]] | None = None,
        *,
        controllers: bool = False,
        enforce: bool = False,
        mode: Mode = Mode.LONG,
    ) -> "Guest":
        """`changes`: what its CPUID has else than all; `enforce`: it is held to that."""
        machine = Machine.of(system, controllers=controllers)
        guest = cls(machine, mode)
        if enforce:
            enable(machine.vcpu, kvm.KVM_CAP_HYPERV_ENFORCE_CPUID, 1)
        machine.vcpu.set_cpuid(cpuid_of_guest(system, machine.vcpu, changes))
        guest.load(machine.vcpu, call_instruction(system))
        return guest

    @classmethod
    def introduced(
        cls,
        system: System,
        changes: Mapping[int, Mapping[str, int]] | None = None,
        *,
        controllers: bool = False,
        enforce: bool = False,
        mode: Mode = Mode.LONG,
    ) -> "Guest":
        """One that has told who it is, and may make hypercalls."""
        guest = cls.of(system, changes, controllers=controllers, enforce=enforce, mode=mode)
        guest.introduce()
        return guest

    def load(self, vcpu: Vcpu, call: str) -> None:
        """Gives a vCPU the steps."""
        at = self.machine.vcpu
        self.machine.vcpu = vcpu
        self.machine.load("hlt", self.mode)
        for address, step in zip(STEPS.values(), ("rdmsr", "wrmsr", call), strict=True):
            source = f"{step}; out {DONE_PORT:#x}, al; hlt"
            self.machine.ram.write(address, assemble(source, bits=self.mode, origin=address))
        for vector in (UD, GP):
            self.machine.handle(vector, f"out {vector}, al; hlt", self.mode)
        self.machine.vcpu = at

    @property
    def vcpu(self) -> Vcpu:
        return self.machine.vcpu

    def begin(self, step: str, **registers: int) -> int:
        """Takes a step; the exit reason."""
        self.vcpu.change_regs(rip=STEPS[step], rsp=STACK, rflags=2, **registers)
        return self.vcpu.run()

    def take(self, step: str, **registers: int) -> None:
        """Takes a step that is to end with a port or an exception."""
        assert self.begin(step, **registers) == kvm.KVM_EXIT_IO
        self.check()

    def check(self) -> None:
        if self.vcpu.io.port != DONE_PORT:
            raise GuestFault(self.vcpu.io.port)

    def rdmsr(self, index: int) -> int:
        self.take("rdmsr", rcx=index)
        regs = self.vcpu.regs()
        return (regs.rdx << 32 | regs.rax & 0xFFFF_FFFF) & (1 << 64) - 1

    def wrmsr(self, index: int, value: int) -> None:
        self.take("wrmsr", rcx=index, rax=value & 0xFFFF_FFFF, rdx=value >> 32)

    def begin_wrmsr(self, index: int, value: int) -> int:
        """The exit that the write leads to."""
        return self.begin("wrmsr", rcx=index, rax=value & 0xFFFF_FFFF, rdx=value >> 32)

    def call(self, control: int, first: int = 0, second: int = 0) -> int:
        """The result of a hypercall, as 64 bits."""
        self.take("call", **self.words(control, first, second))
        return self.result()

    def words(self, control: int, first: int = 0, second: int = 0) -> dict[str, int]:
        """The registers with the words of a hypercall."""
        if self.mode is Mode.LONG:
            return {"rcx": control, "rdx": first, "r8": second, "rax": 0x5A5A}
        low = 0xFFFF_FFFF
        return {
            "rdx": control >> 32,
            "rax": control & low,
            "rbx": first >> 32,
            "rcx": first & low,
            "rdi": second >> 32,
            "rsi": second & low,
        }

    def result(self) -> int:
        regs = self.vcpu.regs()
        return regs.rax if self.mode is Mode.LONG else regs.rdx << 32 | regs.rax

    def introduce(self) -> None:
        """Tells the hypervisor who the guest is; without, there are no hypercalls."""
        self.wrmsr(GUEST_OS_ID, LINUX)


def set_vectors(vcpu: Vcpu, halves: Sequence[int]) -> None:
    """XMM registers, by their halves of 64 bits."""
    fpu = vcpu.fpu()
    for place, half in enumerate(halves):
        register = ctypes.addressof(fpu.xmm) + place * 8
        ctypes.memmove(register, half.to_bytes(8, "little"), 8)
    vcpu.set_fpu(fpu)


def enter_ring(guest: Guest, ring: int) -> None:
    """Has a 64-bit guest go on in ring 0 or 3, by its descriptors; exceptions go to ring 0."""
    machine = guest.machine
    sregs = machine.vcpu.sregs()
    machine.ram.write(_TSS, bytes(4) + (STACK - 0x100).to_bytes(8, "little") + bytes(92))
    sregs.tr = kvm_segment(base=_TSS, limit=103, type_=11, present=1, selector=0x18)
    sregs.cs = flat_segment(CODE_SELECTOR, type_=11, db=False, long=True)
    sregs.ss = flat_segment(DATA_SELECTOR, type_=3, db=True, long=False)
    for segment in (sregs.cs, sregs.ss):
        segment.dpl = ring
        segment.selector |= ring
    machine.vcpu.set_sregs(sregs)
    # Pages for everybody.
    for table in (PML4, PDPT, PAGE_DIRECTORY):
        entry = machine.peek(table, 8)
        machine.ram.write(table, (entry | 4).to_bytes(8, "little"))


def call_instruction(system: System) -> str:
    is_amd = leaf(system.supported_cpuid(), 0).ebx == int.from_bytes(b"Auth", "little")
    return "vmmcall" if is_amd else "vmcall"


def faults(step: Callable[..., object], *args: int) -> int | None:
    """The vector of the exception that a step raises."""
    try:
        step(*args)
    except GuestFault as fault:
        return fault.vector
    return None
