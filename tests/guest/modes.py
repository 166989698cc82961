"""The operating modes a test guest can be started in, as control registers and segments.

SDM volume 3, "Modes of Operation". Selectors are those of `layout`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from tests.guest import layout


class Cr0(IntFlag):
    """CR0."""

    PE = 1
    MP = 2
    EM = 4
    TS = 8
    ET = 0x10
    NE = 0x20
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class Cr4(IntFlag):
    """CR4."""

    VME = 1
    PVI = 2
    TSD = 4
    DE = 8
    PSE = 0x10
    PAE = 0x20
    PGE = 0x80
    OSFXSR = 0x200
    UMIP = 0x800
    LA57 = 0x1000
    FSGSBASE = 1 << 16
    PCIDE = 1 << 17
    OSXSAVE = 1 << 18
    SMEP = 1 << 20
    SMAP = 1 << 21


class Efer(IntFlag):
    """The MSR IA32_EFER."""

    SCE = 1
    LME = 0x100
    LMA = 0x400
    NXE = 0x800


class Rflags(IntFlag):
    """RFLAGS."""

    CF = 1
    FIXED = 2
    PF = 4
    AF = 0x10
    ZF = 0x40
    SF = 0x80
    TF = 0x100
    IF = 0x200
    DF = 0x400
    OF = 0x800
    IOPL3 = 0x3000
    NT = 0x4000
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    VIF = 1 << 19
    VIP = 1 << 20


EFER: Final = 0xC000_0080


@dataclass(frozen=True)
class Mode:
    """An operating mode; `code` and `data` are selectors by privilege level.

    `levels` is the depth of the page tables, 0 for no paging.
    """

    name: str
    bits: int
    code: Mapping[int, int]
    data: Mapping[int, int]
    levels: int = 0
    protected: bool = True
    long: bool = False
    v86: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def cr0(self) -> int:
        """With NE and without caches disabled."""
        return Cr0.ET | Cr0.NE | (Cr0.PE if self.protected else 0) | (Cr0.PG if self.levels else 0)

    @property
    def cr4(self) -> int:
        """PAE and LA57 as the page tables want them."""
        return (Cr4.PAE if self.levels > 2 else 0) | (Cr4.LA57 if self.levels == 5 else 0)

    @property
    def efer(self) -> int:
        """LME and LMA, and NXE with tables that have the bit."""
        long = Efer.LME | Efer.LMA if self.long else 0
        return long | (Efer.NXE if self.levels > 2 else 0)


_CODE16 = {0: layout.CODE16, 3: layout.CODE16_RING3}
_DATA16 = {0: layout.DATA16, 3: layout.DATA16_RING3}
_CODE32 = {
    0: layout.CODE32,
    1: layout.CODE32_RING1,
    2: layout.CODE32_RING2,
    3: layout.CODE32_RING3,
}
_DATA32 = {
    0: layout.DATA32,
    1: layout.DATA32_RING1,
    2: layout.DATA32_RING2,
    3: layout.DATA32_RING3,
}
_CODE64 = {
    0: layout.CODE64,
    1: layout.CODE64_RING1,
    2: layout.CODE64_RING2,
    3: layout.CODE64_RING3,
}

REAL: Final = Mode("real", 16, {0: 0}, {0: 0}, protected=False)
PROTECTED16: Final = Mode("protected16", 16, _CODE16, _DATA16)
PROTECTED32: Final = Mode("protected32", 32, _CODE32, _DATA32)
PAGED32: Final = Mode("paged32", 32, _CODE32, _DATA32, levels=2)
PAE32: Final = Mode("pae32", 32, _CODE32, _DATA32, levels=3)
V86: Final = Mode("v86", 16, {3: 0}, {3: 0}, v86=True)
COMPAT16: Final = Mode("compat16", 16, _CODE16, _DATA16, levels=4, long=True)
COMPAT32: Final = Mode("compat32", 32, _CODE32, _DATA32, levels=4, long=True)
LONG64: Final = Mode("long64", 64, _CODE64, _DATA32, levels=4, long=True)
