"""What of KVM's ABI there is, read off the tables that answer it: ioctls by kind of file, caps."""

import errno
from dataclasses import dataclass
from typing import Final

from kvmshim.abi import constants_gen, ioctls_gen, limits, notes, profiles
from kvmshim.abi.caps import CAPABILITIES
from kvmshim.dispatch.ioctl import UNKNOWN
from kvmshim.dispatch.table import TABLES
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm

KINDS: Final[dict[str, type]] = {"system": System, "vm": Vm, "vcpu": Vcpu}
"""The kinds of file, by the names of `ioctls_gen.TAKEN_BY`."""

_BY_THE_DOOR: Final = {("vcpu", "KVM_RUN")}


@dataclass(frozen=True, slots=True)
class IoctlRow:
    """One ioctl on one kind of file."""

    kind: str
    name: str
    number: int
    served: bool
    note: str
    """Why it is not served; empty for one that is."""

    @property
    def state(self) -> str:
        """`served`, or the errno that it gets."""
        return "served" if self.served else errno.errorcode[UNKNOWN[KINDS[self.kind]]]


@dataclass(frozen=True, slots=True)
class CapabilityRow:
    """One capability of KVM_CHECK_EXTENSION."""

    name: str
    number: int
    value: int
    note: str
    """What it announces, or why it is 0."""


def ioctl_rows() -> list[IoctlRow]:
    """Every ioctl of x86 KVM on every kind of file that Linux has it on, by number."""
    rows = [
        _ioctl_row(kind, name)
        for kind in KINDS
        for name, kinds in ioctls_gen.TAKEN_BY.items()
        if kind in kinds
    ]
    return sorted(rows, key=lambda row: ([*KINDS].index(row.kind), row.number & 0xFF, row.number))


def _ioctl_row(kind: str, name: str) -> IoctlRow:
    number: int = getattr(ioctls_gen, name)
    served = number in TABLES[KINDS[kind]] or (kind, name) in _BY_THE_DOOR
    return IoctlRow(kind, name, number, served, "" if served else notes.NOT_SERVED.get(name, ""))


def capability_rows() -> list[CapabilityRow]:
    """Every capability that x86 KVM may announce, by number."""
    tables = (constants_gen, profiles)
    known = [item for table in tables for item in vars(table).items()]
    names = {value: name for name, value in known if name.startswith("KVM_CAP_")}
    names[limits.KVMSHIM_CAP_IDENTITY] = "KVMSHIM_CAP_IDENTITY"
    return [
        CapabilityRow(names[number], number, CAPABILITIES.get(number, 0), _note(number))
        for number in sorted(names)
    ]


def _note(number: int) -> str:
    known = notes.ANNOUNCED if CAPABILITIES.get(number) else notes.NOT_ANNOUNCED
    return known.get(number, "")
