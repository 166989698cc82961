"""Segment descriptors, gates and task-state segments as bytes.

SDM volume 3, "Segment Descriptors", "Call Gates", "IDT Descriptors", "64-Bit Mode Gates",
"Task-State Segment".
"""

from enum import IntEnum, IntFlag
from struct import pack
from typing import Final

PRESENT: Final = 0x80
CODE_OR_DATA: Final = 0x10


class Type(IntFlag):
    """Type field of a code or data segment."""

    ACCESSED = 1
    WRITABLE = 2
    READABLE = 2
    EXPAND_DOWN = 4
    CONFORMING = 4
    CODE = 8


class System(IntEnum):
    """Type field of a system descriptor, in its 32-bit reading where there are two."""

    TSS16 = 1
    LDT = 2
    BUSY_TSS16 = 3
    CALL_GATE16 = 4
    TASK_GATE = 5
    INTERRUPT_GATE16 = 6
    TRAP_GATE16 = 7
    TSS = 9
    BUSY_TSS = 11
    CALL_GATE = 12
    INTERRUPT_GATE = 14
    TRAP_GATE = 15


class Size(IntFlag):
    """The bits G, D/B and L; AVL stays 0."""

    BITS16 = 0
    LONG = 2
    BITS32 = 4
    PAGES = 8


DATA_RW: Final = Type.WRITABLE | Type.ACCESSED
CODE_RX: Final = Type.CODE | Type.READABLE | Type.ACCESSED
FLAT_LIMIT: Final = 0xF_FFFF
FLAT32: Final = Size.BITS32 | Size.PAGES
FLAT64: Final = Size.LONG | Size.PAGES


def raw(base: int, limit: int, access: int, size: int) -> bytes:
    """A descriptor from its fields; `access` is byte 5, `limit` has 20 bits."""
    return pack(
        "<HHBBBB",
        limit & 0xFFFF,
        base & 0xFFFF,
        base >> 16 & 0xFF,
        access,
        size << 4 | limit >> 16 & 0xF,
        base >> 24 & 0xFF,
    )


def segment(
    kind: int,
    size: int = FLAT32,
    *,
    dpl: int = 0,
    base: int = 0,
    limit: int = FLAT_LIMIT,
    present: bool = True,
) -> bytes:
    """A code or data segment."""
    access = kind | CODE_OR_DATA | dpl << 5 | (PRESENT if present else 0)
    return raw(base, limit, access, size)


def system(
    kind: int,
    base: int,
    limit: int,
    *,
    dpl: int = 0,
    present: bool = True,
    wide: bool = False,
) -> bytes:
    """An LDT or TSS descriptor; `wide` makes the 16-byte form of long mode."""
    low = raw(base & 0xFFFF_FFFF, limit, kind | dpl << 5 | (PRESENT if present else 0), 0)
    return low + pack("<II", base >> 32, 0) if wide else low


def gate(
    kind: int,
    selector: int,
    offset: int,
    *,
    dpl: int = 0,
    present: bool = True,
    low_byte4: int = 0,
    wide: bool = False,
) -> bytes:
    """A gate; `low_byte4` is the parameter count or the IST index, `wide` the 16-byte form."""
    access = kind | dpl << 5 | (PRESENT if present else 0)
    low = pack("<HHBBH", offset & 0xFFFF, selector, low_byte4, access, offset >> 16 & 0xFFFF)
    return low + pack("<II", offset >> 32, 0) if wide else low
