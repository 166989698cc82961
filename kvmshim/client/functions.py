"""Where the functions of an ELF file begin and end, by its unwind table.

LSB Core, "Exception Frames": .eh_frame, present also in stripped files, and .eh_frame_hdr, a
sorted index of it that static executables lack. Compilers describe every function; assembly may
not. Not read: pointer encodings other than those of the small and medium code models.
"""

import bisect
import struct
from functools import cached_property
from typing import Final

from kvmshim.client.elf import PT_GNU_EH_FRAME, Elf, ElfError

_INDEX_HEADER: Final = struct.Struct("<BBBBiI")
_INDEX_ENCODINGS: Final = (1, 0x1B, 0x03, 0x3B)  # version; pcrel, udata4, datarel sdata4
_PCREL_SDATA4: Final = 0x1B
_RECORD: Final = struct.Struct("<II")
_RANGE: Final = struct.Struct("<iI")
_POINTER_BYTES: Final = {0x0: 8, 0x3: 4, 0x4: 8, 0xB: 4, 0xC: 8}
_EXTENDED_LENGTH: Final = 0xFFFF_FFFF


class FunctionTable:
    """The functions of one file."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._encodings: dict[int, int | None] = {}

    def around(self, address: int) -> range | None:
        """The addresses of the function that `address` lies in, if the table has it."""
        try:
            functions = self._indexed(address) if self._index else self._all
        except (ElfError, struct.error, IndexError):
            return None
        at = bisect.bisect_right(functions, address, key=lambda it: it.start) - 1
        return functions[at] if at >= 0 and address in functions[at] else None

    @cached_property
    def _index(self) -> tuple[int, list[int], list[int]] | None:
        """Its own address, and of each function the start and the record, relative to that."""
        part = self._elf.segment(PT_GNU_EH_FRAME)
        if part is None:
            return None
        *encodings, _, count = _INDEX_HEADER.unpack_from(self._elf.image, part.offset)
        if tuple(encodings) != _INDEX_ENCODINGS:
            return None
        start = part.offset + _INDEX_HEADER.size
        table = struct.unpack_from(f"<{2 * count}i", self._elf.image, start)
        return part.address, list(table[0::2]), list(table[1::2])

    def _indexed(self, address: int) -> list[range]:
        assert self._index is not None
        origin, starts, records = self._index
        at = bisect.bisect_right(starts, address - origin) - 1
        if at < 0:
            return []
        function = self._function(self._elf.offset_of(origin + records[at]))
        return [function] if function else []

    @cached_property
    def _all(self) -> list[range]:
        section = self._elf.section(".eh_frame")
        if section is None:
            return []
        functions = []
        at = section.offset
        while at + _RECORD.size <= section.offset + section.size:
            length, _ = _RECORD.unpack_from(self._elf.image, at)
            if length in (0, _EXTENDED_LENGTH):
                break
            function = self._function(at)
            if function:
                functions.append(function)
            at += 4 + length
        return sorted(functions, key=lambda it: it.start)

    def _function(self, record: int) -> range | None:
        """What the FDE at a file offset describes; None: it is a CIE, or cannot be read."""
        _, back = _RECORD.unpack_from(self._elf.image, record)
        if back == 0 or self._encoding(record + 4 - back) != _PCREL_SDATA4:
            return None
        field = record + _RECORD.size
        relative, size = _RANGE.unpack_from(self._elf.image, field)
        start = self._elf.address_of(field) + relative
        return range(start, start + size)

    def _encoding(self, record: int) -> int | None:
        """How the FDEs of the CIE at a file offset write addresses."""
        if record not in self._encodings:
            self._encodings[record] = self._read_encoding(record)
        return self._encodings[record]

    def _read_encoding(self, record: int) -> int | None:
        image = self._elf.image
        at = record + _RECORD.size + 1
        end = image.find(b"\0", at)
        augmentation = image[at:end].decode("ascii", "replace")
        at = end + 1
        for _ in ("code alignment", "data alignment", "return register", "augmentation length"):
            at = self._after_leb128(at)
        for letter in augmentation.removeprefix("z"):
            if letter == "R":
                return image[at]
            if letter == "P":
                at += _POINTER_BYTES.get(image[at] & 0xF, 8)
            at += letter in "PL"
        return None

    def _after_leb128(self, at: int) -> int:
        while self._elf.image[at] & 0x80:
            at += 1
        return at + 1
