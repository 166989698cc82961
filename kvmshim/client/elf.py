"""What is needed of an x86-64 ELF file: its code, a section, a dynamic symbol; elf(5).

Pure: a buffer in, numbers out. Offsets are in the file, addresses as the file numbers them, before
any load bias.
"""

import mmap
import struct
from dataclasses import dataclass
from typing import Final

Image = bytes | mmap.mmap

_IDENT: Final = b"\x7fELF\x02\x01\x01"
_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_EM_X86_64: Final = 62
_PT_LOAD: Final = 1
PT_GNU_EH_FRAME: Final = 0x6474_E550
_PF_X: Final = 1
_SHT_NOBITS: Final = 8
_MAX_NAME: Final = 256


class ElfError(ValueError):
    """Not an x86-64 ELF file, or one that contradicts itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment or a section that lies in the file."""

    offset: int
    address: int
    size: int


class Elf:
    """One file."""

    def __init__(self, image: Image) -> None:
        """ElfError."""
        self.image = image
        if image[: len(_IDENT)] != _IDENT:
            raise ElfError("no 64-bit ELF file")
        _, machine, *_ = header = self._read(_HEADER, 0)
        if machine != _EM_X86_64:
            raise ElfError(f"machine {machine}")
        self._segments = self._table(_PROGRAM_HEADER, header[4], header[8], header[9])
        self._sections = self._table(_SECTION_HEADER, header[5], header[10], header[11])
        self._names = header[12]

    def code(self) -> list[Part]:
        """The executable segments."""
        return [
            Part(offset, address, size)
            for kind, flags, offset, address, _, size, _, _ in self._segments
            if kind == _PT_LOAD and flags & _PF_X
        ]

    def segment(self, kind: int) -> Part | None:
        """The first program header of a kind."""
        for found, _, offset, address, _, size, _, _ in self._segments:
            if found == kind:
                return Part(offset, address, size)
        return None

    def section(self, name: str) -> Part | None:
        """A section by its name, if it lies in the file."""
        if self._names >= len(self._sections):
            return None
        names = self._sections[self._names][4]
        for row in self._sections:
            if row[1] != _SHT_NOBITS and self._string(names + row[0]) == name:
                return Part(offset=row[4], address=row[3], size=row[5])
        return None

    def offset_of(self, address: int) -> int:
        """Where in the file an address lies. ElfError: nowhere."""
        for kind, _, offset, start, _, size, _, _ in self._segments:
            if kind == _PT_LOAD and start <= address < start + size:
                return int(offset + address - start)
        raise ElfError(f"nothing at {address:#x}")

    def address_of(self, offset: int) -> int:
        """The inverse of `offset_of`."""
        for kind, _, start, address, _, size, _, _ in self._segments:
            if kind == _PT_LOAD and start <= offset < start + size:
                return int(address + offset - start)
        raise ElfError(f"nothing of offset {offset:#x} is loaded")

    def symbol(self, name: str) -> int | None:
        """The address of a defined dynamic symbol."""
        symbols, strings = self.section(".dynsym"), self.section(".dynstr")
        if symbols is None or strings is None:
            return None
        end = strings.offset + strings.size
        found = self.image.find(b"\0" + name.encode() + b"\0", strings.offset, end)
        if found < 0:
            return None
        for at in range(symbols.offset, symbols.offset + symbols.size, _SYMBOL.size):
            text, _, _, section, value, _ = self._read(_SYMBOL, at)
            if section and text == found + 1 - strings.offset:
                return value
        return None

    def _string(self, offset: int) -> str:
        end = self.image.find(b"\0", offset, offset + _MAX_NAME)
        return self.image[offset : max(end, offset)].decode("ascii", "replace")

    def _table(
        self, row: struct.Struct, offset: int, size: int, count: int
    ) -> list[tuple[int, ...]]:
        if count and size != row.size:
            raise ElfError(f"table rows of {size} bytes")
        return [self._read(row, offset + number * size) for number in range(count)]

    def _read(self, row: struct.Struct, offset: int) -> tuple[int, ...]:
        try:
            return row.unpack_from(self.image, offset)
        except struct.error as error:
            raise ElfError(str(error)) from error
