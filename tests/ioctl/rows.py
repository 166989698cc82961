"""The dispatch table as tests drive it: every ioctl on every kind of file that answers it.

A test that is parametrized by these rows covers a new ioctl with its row.
"""

import ctypes
from dataclasses import dataclass
from typing import Final

from kvmshim.abi import ioctls_gen, limits
from kvmshim.abi.structs_gen import kvm_cpuid2, kvm_cpuid_entry2, kvm_irqchip, kvm_reinject_control
from kvmshim.dispatch import lists
from kvmshim.dispatch.shapes import Shape
from kvmshim.dispatch.table import TABLES
from kvmshim.objects import system, vcpu, vm
from tests import hyperv
from tests.kvm import PAGE_SIZE, Descriptor, Region, System
from tests.machine import Machine

WRITE: Final = 1
READ: Final = 2

NAMES: Final = {
    number: name for name, number in vars(ioctls_gen).items() if name.startswith("KVM_")
}
KINDS: Final = {system.System: "system", vm.Vm: "vm", vcpu.Vcpu: "vcpu"}

WITHOUT_POINTER: Final = {"nothing", "ignores_argument", "number", "new_file"}
"""Shapes whose argument is a value, or nothing."""

UNTOLD_SIZES: Final = {"KVM_REINJECT_CONTROL": ctypes.sizeof(kvm_reinject_control)}
"""Structures that the number says nothing of."""

ANSWERS: Final = {"gives", "exchanges"}
"""Shapes that write one structure to where the argument points."""


@dataclass(frozen=True)
class Row:
    """One ioctl on one kind of file."""

    kind: str
    name: str
    number: int
    shape: Shape

    @property
    def label(self) -> str:
        return f"{self.kind}-{self.name}"

    @property
    def shape_name(self) -> str:
        return self.shape.__qualname__.partition(".")[0]

    @property
    def takes_pointer(self) -> bool:
        return self.shape_name not in WITHOUT_POINTER

    @property
    def is_list(self) -> bool:
        return self.shape.__module__ == lists.__name__

    @property
    def reads(self) -> bool:
        """Whether the number says that the caller is written to."""
        return self.number >> 30 & READ != 0

    @property
    def size(self) -> int:
        """Bytes of the structure that the argument points to; 0 for none."""
        return UNTOLD_SIZES.get(self.name, self.number >> 16 & 0x3FFF)


ROWS: Final = [
    Row(KINDS[kind], NAMES[number], number, shape)
    for kind, table in TABLES.items()
    for number, shape in table.items()
]
POINTERS: Final = [row for row in ROWS if row.takes_pointer]
STRUCTURES: Final = [row for row in POINTERS if not row.is_list]
MOMENTS: Final = {"KVM_GET_CLOCK", "KVM_GET_PIT2"}
"""Ioctls that tell a time of the host's."""

STATE: Final = [
    row
    for row in ROWS
    if row.shape_name == "gives" and row.kind != "system" and row.name not in MOMENTS
]
"""Ioctls that read a VM's or vCPU's state, which stands still while no vCPU runs."""

IMAGES: Final = {row.label: row for row in STATE}

NUMBERS_OF_STATE: Final = [
    row for row in ROWS if row.shape_name == "number" and row.name.startswith("KVM_GET_")
]
"""Ioctls whose result is such state."""

CHIPS: Final = 3
"""Interrupt controllers that KVM_GET_IRQCHIP tells of."""

CLOCKS: Final = {0x10, hyperv.TIME_REF_COUNT, hyperv.VP_RUNTIME}
"""MSRs that count by themselves: the TSC, and Hyper-V's."""


class Targets:
    """The three kinds of file, made by one machine."""

    def __init__(self, system: System, machine: Machine) -> None:
        self._machine = machine
        self._fds = {"system": system, "vm": machine.vm, "vcpu": machine.vcpu}
        self._msrs = [msr for msr in system.msr_indexes() if msr not in CLOCKS]

    def of(self, kind: str) -> Descriptor:
        """The descriptor of this kind."""
        return self._fds[kind]

    def call(self, row: Row, argument: int) -> int:
        """The ioctl's result; OSError with its errno."""
        return self.of(row.kind).ioctl(row.number, argument)

    def outcome(self, row: Row, argument: int) -> int:
        """The ioctl's result, or its errno as a negative number."""
        return outcome(self.of(row.kind), row.number, argument)

    def state(self) -> dict[str, tuple[int, bytes] | int]:
        """All that can be read of the VM and the vCPU, by the name of what is read."""
        images = {row.label: self.image(row) for row in STATE}
        numbers = {row.label: self.outcome(row, 0) for row in NUMBERS_OF_STATE}
        chips = {f"chip {number}": self.chip(number) for number in range(CHIPS)}
        msrs = dict(zip(map(hex, self._msrs), self._machine.vcpu.msrs(self._msrs), strict=True))
        return images | numbers | chips | msrs | {"CPUID": self.cpuid()}

    def image(self, row: Row) -> tuple[int, bytes]:
        """What a row of STATE reads, behind its result."""
        image = ctypes.create_string_buffer(row.size)
        return self.outcome(row, ctypes.addressof(image)), image.raw

    def image_for(self, row: Row) -> bytes:
        """What may be given to an ioctl: what its GET tells, where it has one, else zeros."""
        getter = IMAGES.get(row.label.replace("_SET_", "_GET_"))
        return self.image(getter)[1] if getter else bytes(PAGE_SIZE)

    def chip(self, number: int) -> tuple[int, bytes]:
        """What KVM_GET_IRQCHIP tells of one chip."""
        state = kvm_irqchip(chip_id=number)
        vm = self._machine.vm
        return outcome(vm, ioctls_gen.KVM_GET_IRQCHIP, ctypes.addressof(state)), bytes(state)

    def cpuid(self) -> tuple[int, bytes]:
        """What KVM_GET_CPUID2 tells."""
        room = limits.KVM_MAX_CPUID_ENTRIES * ctypes.sizeof(kvm_cpuid_entry2)
        leaves = ctypes.create_string_buffer(ctypes.sizeof(kvm_cpuid2) + room)
        kvm_cpuid2.from_buffer(leaves).nent = limits.KVM_MAX_CPUID_ENTRIES
        vcpu = self._machine.vcpu
        return outcome(vcpu, ioctls_gen.KVM_GET_CPUID2, ctypes.addressof(leaves)), leaves.raw


def outcome(descriptor: Descriptor, number: int, argument: int) -> int:
    """An ioctl's result, or its errno as a negative number."""
    try:
        return descriptor.ioctl(number, argument)
    except OSError as error:
        return -(error.errno or 0)


def half_mapped(hole: Region, size: int, mapped: int) -> int:
    """Where a structure has its first `mapped` bytes before a hole that begins in the middle."""
    assert 0 < mapped < size
    return hole.address + hole.size // 2 - mapped
