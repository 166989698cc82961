"""Where things are in the memory of a test guest, and the selectors of its GDT.

All of it is below 1 MiB and mapped to itself, so that every mode reaches it. Segments have base 0,
but for the 16-bit ones only the first 64 KiB are inside the limit.
"""

from typing import Final

MEMORY: Final = 0x8_0000

# First 64 KiB: what 16-bit segments reach.
IVT: Final = 0x0000
GDT: Final = 0x1000
IDT: Final = 0x2000
HANDLERS: Final = 0x3000
"""One HLT for each vector: the address at which the guest halts tells the vector."""
LDT: Final = 0x3800
TSS: Final = 0x4000
STACK_TOPS: Final = {0: 0x8000, 1: 0x7000, 2: 0x6800, 3: 0xA000}
"""By privilege level. Stacks of levels 0 to 2 are also those in the TSS."""
IST1_TOP: Final = 0x8F00
IST2_TOP: Final = 0x9400
CODE: Final = 0xB000
OTHER_CODE: Final = 0xC000
"""Where far transfers of the tests go."""
DATA: Final = 0xD000

# Beyond.
PAGE_TABLES: Final = 0x2_0000
FAR_DATA: Final = 0x4_0000
MAPPED: Final = MEMORY
"""The linear addresses below it are mapped to themselves."""

GDT_ENTRIES: Final = 128

# Selectors. The order of CODE32_RING3, DATA_RING3, CODE64_RING3 is the one that SYSRET wants.
CODE32: Final = 0x08
DATA32: Final = 0x10
CODE64: Final = 0x18
STACK64: Final = 0x20
"""SYSCALL takes SS from behind CS."""
CODE16: Final = 0x28
CODE32_RING3: Final = 0x30 | 3
DATA32_RING3: Final = 0x38 | 3
CODE64_RING3: Final = 0x40 | 3
CODE16_RING3: Final = 0x48 | 3
DATA16: Final = 0x50
DATA16_RING3: Final = 0x58 | 3
CODE32_CONFORMING: Final = 0x60
CODE64_CONFORMING: Final = 0x68
CODE32_RING1: Final = 0x70 | 1
DATA32_RING1: Final = 0x78 | 1
CODE32_RING2: Final = 0x80 | 2
DATA32_RING2: Final = 0x88 | 2
CODE64_RING1: Final = 0x90 | 1
CODE64_RING2: Final = 0x98 | 2
CODE32_CONFORMING_RING1: Final = 0xA0
TSS_SELECTOR: Final = 0xB0
"""16 bytes in long mode."""
LDT_SELECTOR: Final = 0xC0
"""16 bytes in long mode."""
FREE_SELECTOR: Final = 0x100
"""From here on the GDT is empty, for the tests' own descriptors."""
