"""Records of a trace: bytes of the socket to facts and lines."""

import base64
import struct
from typing import Any

import pytest

from kvmshim.control.protocol import Json
from kvmshim.observe.trace import Clock, line, records

_CLOCK = Clock(time_ns=1_000_000, tsc=5_000, tsc_khz=1_000_000)


def portion(*rows: tuple[int, ...], lost: int = 0) -> Json:
    """What the socket brings for (kind, detail, data…)."""
    packed = b"".join(
        struct.pack("<3Q2I4Q", number, 5_000 + number, 0x7C00, kind, detail, *_four(data))
        for number, (kind, detail, *data) in enumerate(rows)
    )
    return {"vcpu": 2, "lost": lost, "records": base64.b64encode(packed).decode()}


def _four(data: list[int]) -> list[int]:
    return (data + [0] * 4)[:4]


def only(*row: int) -> dict[str, Any]:
    """The facts of one record."""
    (found,) = records(portion(row), _CLOCK, instructions=True)
    return found


def text(*row: int) -> str:
    """What its line ends with."""
    return line("1-0", only(*row), _CLOCK.time_ns).split("0x0000000000007c00  ")[-1]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((0, 3, 0x3F8, 0x41, 1, 1 | 1 << 32), "exit io write port 0x3f8 size 1 value 0x41"),
        ((0, 3, 0x60, 0, 2, 8 << 32), "exit io read port 0x60 size 2 count 8"),
        ((0, 4, 0xFEE000B0, 0, 4, 1), "exit mmio write gpa 0xfee000b0 size 4 value 0x0"),
        ((0, 5, 0x10, 0, 8, 0), "exit msr read msr 0x10 size 8"),
        ((0, 2), "exit hlt"),
        ((0, 9), "exit shutdown"),
        ((0, 0x40, 1, 0x4000), "exit debug vector 0x1 dr6 0x4000"),
        ((0, 0x44, 12, 1, 2, 3), "exit hypercall 0xc(0x1, 0x2, 0x3)"),
        ((0, 0x80, 0x5000), "exit memory-fault gpa 0x5000"),
        ((0, 1, 0x0B0F, 0, 2), "exit unknown bytes 0f0b"),
        ((0, 0x999), "exit 0x999"),
        ((1, 0, 0x1C, 1), "answer value 0x1c size 1"),
        ((2, 0, 0x20), "event interrupt vector 0x20"),
        ((2, 1, 2), "event nmi"),
        ((2, 3, 13, 0x18, 1), "event exception vector 0xd error_code 0x18"),
        ((2, 3, 6, 0, 0), "event exception vector 0x6"),
        ((2, 6, 0x9A), "event start-up vector 0x9a"),
    ],
)
def test_a_record_has_its_words(row: tuple[int, ...], expected: str) -> None:
    assert text(*row) == expected


@pytest.mark.parametrize(
    ("bits", "code", "expected"),
    [
        (16, "ebfe", "jmp short 0x7c00"),
        (32, "b878563412", "mov eax, 0x12345678"),
        (64, "48c7c001000000", "mov rax, 1"),
        (64, "06", "(bad)"),
        (64, "", "(not to be fetched)"),
    ],
)
def test_an_instruction_is_disassembled_for_its_code_size(
    bits: int, code: str, expected: str
) -> None:
    words = struct.unpack("<2Q", bytes.fromhex(code).ljust(16, b"\x90"))
    found = only(3, bits, *words, len(code) // 2, 0x7C00)
    assert (found["text"], found["bytes"]) == (expected, code)


def test_times_are_those_of_the_hosts_clock() -> None:
    first, second = records(portion((0, 2), (0, 2)), _CLOCK, instructions=True)
    assert (first["time_ns"], second["time_ns"]) == (1_000_000, 1_000_001)


def test_what_is_lost_comes_first() -> None:
    lost, _ = records(portion((0, 2), lost=7), _CLOCK, instructions=True)
    assert lost == {"kind": "lost", "vcpu": 2, "records": 7}
    assert "lost 7 records" in line("1-0", lost, 0)


def test_instructions_of_another_client_are_left_out() -> None:
    found = list(records(portion((3, 64, 0x90, 0, 1), (0, 2)), _CLOCK, instructions=False))
    assert [record["kind"] for record in found] == ["exit"]
