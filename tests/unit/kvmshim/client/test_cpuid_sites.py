"""Which bytes are taken for CPUID instructions, against what the compiler and the assembler made.

A label marks each 0F A2 in the sources: `real...` an instruction, `data...` anything else.
"""

import subprocess
from pathlib import Path

import pytest

from kvmshim.client.cpuid_sites import cpuid_sites
from kvmshim.client.elf import Elf, ElfError

UNWIND = ".cfi_startproc", ".cfi_endproc"
NO_UNWIND = "", ""

FILLER = "mov %rdi, %rsi\n add $3, %rsi\n imul %rsi, %rdi\n test %rdi, %rdi\n" * 12

BODIES = {
    "plain": "mov $1, %eax\n real: cpuid\n ret",
    "first instruction": "real: cpuid\n ret",
    "behind a branch": "test %edi, %edi\n jne 1f\n ret\n 1: mov $1, %eax\n real: cpuid\n ret",
    "loop": "1: mov %ecx, %eax\n real: cpuid\n dec %ecx\n jne 1b\n ret",
    "two": "xor %eax, %eax\n real: cpuid\n mov $7, %eax\n real2: cpuid\n ret",
    "immediate": "mov $0xa20f, %eax\n .set data, .-4\n ret",
    "high immediate": "mov $0xa20f0000, %eax\n .set data, .-2\n ret",
    "displacement": "mov 0xa20f(%rdi), %eax\n .set data, .-4\n ret",
    "wide immediate": "movabs $0x11a20f2233445566, %rax\n .set data, .-3\n ret",
    "across two": "mov $0x0f000000, %eax\n .set data, .-1\n movabs %al, 0x11223344\n ret",
    "data behind a jump": "mov $1, %eax\n jmp 1f\n data: .byte 0x0f, 0xa2\n 1: ret",
    "data behind a return": "mov $1, %eax\n ret\n data: .byte 0x0f, 0xa2, 0, 0",
    "table behind a jump": "jmp 1f\n data: .long 0xa20f, 0xa20f0000, 0\n 1: xor %eax, %eax\n ret",
}


def build(directory: Path, text: str, *options: str) -> tuple[Path, dict[str, int]]:
    """A library, and the file offsets of its labels."""
    source, library = directory / "code.s", directory / "code.so"
    source.write_text(text)
    subprocess.run(["gcc", "-shared", "-nostdlib", *options, "-o", library, source], check=True)
    listing = subprocess.run(["nm", library], check=True, capture_output=True, text=True).stdout
    elf = Elf(library.read_bytes())
    rows = [line.split() for line in listing.splitlines() if len(line.split()) == 3]
    return library, {row[2]: elf.offset_of(int(row[0], 16)) for row in rows if row[1] in "tT"}


def assembled(body: str, unwind: tuple[str, str]) -> str:
    begin, end = unwind
    return (
        f".text\n {FILLER} ret\n .globl f\n .type f, @function\n"
        f"f:\n {begin}\n {body}\n {end}\n .size f, .-f\n {FILLER} ret\n"
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_instructions_and_nothing_else_are_found(body: str, tmp_path: Path) -> None:
    library, labels = build(tmp_path, assembled(body, UNWIND))
    real = sorted(offset for name, offset in labels.items() if name.startswith("real"))
    assert cpuid_sites(library.read_bytes()) == real


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_without_unwind_table_nothing_else_is_found(body: str, tmp_path: Path) -> None:
    library, labels = build(tmp_path, assembled(body, NO_UNWIND))
    real = {offset for name, offset in labels.items() if name.startswith("real")}
    assert set(cpuid_sites(library.read_bytes())) <= real


@pytest.mark.parametrize("name", ["plain", "two", "behind a branch"])
def test_without_unwind_table_usual_code_is_found(name: str, tmp_path: Path) -> None:
    library, labels = build(tmp_path, assembled(BODIES[name], NO_UNWIND))
    real = sorted(offset for label, offset in labels.items() if label.startswith("real"))
    assert cpuid_sites(library.read_bytes()) == real


def test_static_table_without_index_is_read(tmp_path: Path) -> None:
    text = assembled(BODIES["data behind a jump"] + "\n mov $1, %eax\n real: cpuid", UNWIND)
    text = text.replace("1: ret", "1: nop")
    library, labels = build(tmp_path, text, "-Wl,--no-eh-frame-hdr")
    assert cpuid_sites(library.read_bytes()) == [labels["real"]]


def test_section_of_data_is_left_alone(tmp_path: Path) -> None:
    text = ".data\n data: .byte 0x0f, 0xa2\n .text\n f: ret\n"
    library, _ = build(tmp_path, text)
    assert cpuid_sites(library.read_bytes()) == []


@pytest.mark.parametrize("size", [0, 4, 63, 64, 200])
def test_cut_off_file_is_no_elf(size: int, tmp_path: Path) -> None:
    library, _ = build(tmp_path, assembled(BODIES["plain"], UNWIND))
    with pytest.raises(ElfError):
        cpuid_sites(library.read_bytes()[:size])


def test_other_file_is_no_elf() -> None:
    with pytest.raises(ElfError):
        cpuid_sites(b"#!/bin/sh\n" * 100)


@pytest.mark.parametrize("name", ["ld-linux-x86-64.so.2", "libc.so.6"])
def test_disassembler_of_the_system_agrees(name: str) -> None:
    path = Path("/lib/x86_64-linux-gnu", name)
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True
    ).stdout
    rows = (line.split() for line in listing.splitlines())
    elf = Elf(path.read_bytes())
    known = [elf.offset_of(int(row[0][:-1], 16)) for row in rows if row[1:2] == ["cpuid"]]
    assert cpuid_sites(path.read_bytes()) == known
