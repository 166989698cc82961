"""Task-state segments. SDM volume 3, "Task-State Segment (TSS)", "16-Bit Task-State Segment",
"Task Management in 64-bit Mode".
"""

from struct import pack, pack_into
from typing import Final

from tests.guest import layout

TSS32_SIZE: Final = 104
TSS16_SIZE: Final = 44
IO_MAP_BASE_AT: Final = 102


def long_mode(io_map_base: int = TSS32_SIZE) -> bytes:
    """A 64-bit TSS with the stacks of `layout`."""
    image = bytearray(TSS32_SIZE)
    for level in range(3):
        pack_into("<Q", image, 4 + 8 * level, layout.STACK_TOPS[level])
    for index, top in ((1, layout.IST1_TOP), (2, layout.IST2_TOP)):
        pack_into("<Q", image, 0x24 + 8 * (index - 1), top)
    pack_into("<H", image, IO_MAP_BASE_AT, io_map_base)
    return bytes(image)


def protected(io_map_base: int = TSS32_SIZE) -> bytes:
    """A 32-bit TSS with the stacks of `layout`; the rest is zero."""
    image = bytearray(TSS32_SIZE)
    stacks = (layout.DATA32, layout.DATA32_RING1, layout.DATA32_RING2)
    for level, selector in enumerate(stacks):
        pack_into("<II", image, 4 + 8 * level, layout.STACK_TOPS[level], selector)
    pack_into("<H", image, IO_MAP_BASE_AT, io_map_base)
    return bytes(image)


def protected16() -> bytes:
    """A 16-bit TSS with the stacks of `layout`; the rest is zero."""
    image = bytearray(TSS16_SIZE)
    stacks = (layout.DATA32, layout.DATA32_RING1, layout.DATA32_RING2)
    for level, selector in enumerate(stacks):
        image[2 + 4 * level : 6 + 4 * level] = pack("<HH", layout.STACK_TOPS[level], selector)
    return bytes(image)
