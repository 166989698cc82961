"""The filter that asks about mappings, step by step as the kernel follows it."""

import mmap
import struct

import pytest

from kvmshim.client.mapping_filter import program

FIRST, LAST = 0x40000, 0x140000
X86_64, I386 = 0xC000003E, 0x40000003
SYS_READ, SYS_MMAP = 0, 9
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
PRIVATE, SHARED, SHARED_VALIDATE, ANONYMOUS = 2, 1, 3, 0x20
READ, EXEC = mmap.PROT_READ, mmap.PROT_EXEC


def verdict(
    offset: int,
    size: int,
    *,
    flags: int = PRIVATE,
    protection: int = READ,
    number: int = SYS_MMAP,
    arch: int = X86_64,
) -> int:
    """What the filter returns for a call of mmap(2)."""
    arguments = (0, size, protection, flags, 3, offset)
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments)
    steps = list(struct.iter_unpack("<HBBI", program(FIRST, LAST)))
    a = x = at = 0
    while True:
        operation, true, false, k = steps[at]
        at += 1
        match operation:
            case 0x20:
                (a,) = struct.unpack_from("<I", data, k)
            case 0x54:
                a &= k
            case 0x0C:
                a = (a + x) & 0xFFFF_FFFF
            case 0x07:
                x = a
            case 0x15:
                at += true if a == k else false
            case 0x25:
                at += true if a > k else false
            case 0x45:
                at += true if a & k else false
            case 0x06:
                return int(k)
            case _:
                raise ValueError(hex(operation))


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (FIRST, 1),
        (FIRST - 0x1000, 0x1001),
        (0, FIRST + 1),
        (LAST - 0x1000, 0x1000),
        (0, 1 << 40),
        (LAST - 1, (1 << 64) - 1),
        (0, 0xFFFF_FFFF),
    ],
)
def test_it_asks_about_private_and_executable_mappings(offset: int, size: int) -> None:
    assert verdict(offset, size) == ASK
    assert verdict(offset, size, flags=SHARED, protection=READ | EXEC) == ASK
    assert verdict(offset, size, flags=PRIVATE | 0x10) == ASK


@pytest.mark.parametrize("flags", [SHARED, SHARED_VALIDATE, PRIVATE | ANONYMOUS])
def test_other_mappings_pass(flags: int) -> None:
    assert verdict(FIRST, 0x1000, flags=flags) == ALLOW


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 0x1000), (0, FIRST), (FIRST - 1, 1), (LAST, 1), (1 << 32 | FIRST, 1), (1 << 63, 1)],
)
def test_other_parts_of_files_pass(offset: int, size: int) -> None:
    assert verdict(offset, size) == ALLOW


def test_other_calls_pass() -> None:
    assert verdict(FIRST, 1, number=SYS_READ) == ALLOW
    assert verdict(FIRST, 1, arch=I386) == ALLOW
