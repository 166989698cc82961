"""Where things are in the guest of the walk tests. The generator leaves what is below FIXED_END."""

from typing import Final

from tests.walk.model import PAGE

CODE: Final = 0x1000
IDT: Final = 0x2000
GDT: Final = 0x3000
TSS: Final = 0x4000
STACK: Final = 0x6000
USER_CODE: Final = 0x7000
"""The one user page among the guest's own."""
RECORDS: Final = 0x1_0000
RECORDS_END: Final = 0x8_0000
TABLES: Final = 0x8_0000
"""Paging structures, one after another."""
FIXED_END: Final = 0xC_0000
"""End of the linear addresses that map the guest's own pages and the tables to themselves."""

DATA_PAGES: Final = 16
DATA: Final = (0x40_0000, 0x1_0040_0000, 0x1000_0040_0000)
"""Windows of data pages: below 4 GiB, where PSE-36 reaches, and far up."""
MEMORY: Final = DATA[0] + DATA_PAGES * PAGE
"""Size of the memory at 0, the first window included."""

CODE32: Final = 0x08
DATA32: Final = 0x10
CODE64: Final = 0x18
CODE32_USER: Final = 0x20 | 3
CODE64_USER: Final = 0x28 | 3
DATA_USER: Final = 0x30 | 3
TSS_SELECTOR: Final = 0x40
LDT_SELECTOR: Final = 0x50
GDT_LIMIT: Final = 0x5F
