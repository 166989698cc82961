"""Page tables that map the low memory of a guest to itself in 4 KiB pages.

SDM volume 3, "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging".
"""

from enum import IntFlag
from struct import pack
from typing import Final

from tests.guest.layout import MAPPED, PAGE_TABLES

PAGE: Final = 0x1000
WIDE_ENTRIES: Final = 512


class Entry(IntFlag):
    """Bits of a paging-structure entry."""

    PRESENT = 1
    WRITABLE = 2
    USER = 4
    ACCESSED = 0x20
    DIRTY = 0x40
    LARGE = 0x80
    GLOBAL = 0x100
    NX = 1 << 63


ALL: Final = Entry.PRESENT | Entry.WRITABLE | Entry.USER


class PageTables:
    """The tables as bytes for PAGE_TABLES; CR3 is that address.

    `levels` is 2 (32-bit), 3 (PAE), 4 or 5. The last-level table comes last.
    """

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self._entry_size = 4 if levels == 2 else 8
        self._leaf: list[int] = [page | ALL for page in range(0, MAPPED, PAGE)]

    def set_page(self, gla: int, entry: int) -> None:
        """Makes this the last-level entry of a linear address below MAPPED."""
        self._leaf[gla // PAGE] = entry

    def leaf_at(self, gla: int) -> int:
        """Guest-physical address of the last-level entry of a linear address."""
        return PAGE_TABLES + (self.levels - 1) * PAGE + gla // PAGE * self._entry_size

    def image(self) -> bytes:
        """All tables, from PAGE_TABLES on."""
        tables = b""
        for level in range(self.levels - 1):
            below = PAGE_TABLES + (level + 1) * PAGE
            # A PDPTE of PAE paging has neither R/W nor U/S.
            rights = Entry.PRESENT if self.levels == 3 and level == 0 else ALL
            tables += self._table([below | rights])
        return tables + self._table(self._leaf)

    def _table(self, entries: list[int]) -> bytes:
        code = "<I" if self._entry_size == 4 else "<Q"
        return b"".join(pack(code, entry) for entry in entries).ljust(PAGE, b"\0")
