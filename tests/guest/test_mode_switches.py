"""One guest through all modes: real, protected 16 and 32, long, compatibility, and back to real.

SDM volume 3, "Mode Switching", "Initializing IA-32e Mode", "Switching Out of IA-32e Mode
Operation".
"""

import pytest

from tests.guest import layout
from tests.guest.modes import REAL, Cr0, Cr4, Efer
from tests.guest.page_tables import PageTables
from tests.guest.processor import Processor

_TO_PROTECTED = f"""
    .macro far_jump16 selector, target          # with a 16-bit offset
        .byte 0xea
        .word \\target, \\selector
    .endm
    .macro far_jump32 selector, target          # with a 32-bit offset, from 32-bit code
        .byte 0xea
        .long \\target
        .word \\selector
    .endm
    .macro report port
        out \\port, eax
    .endm

    lgdt [cs:gdtr]
    mov eax, 0x1234
    report 1
    mov eax, cr0
    or eax, {int(Cr0.PE)}
    mov cr0, eax
    far_jump16 {layout.CODE16:#x}, protected16
gdtr:
    .word {layout.GDT_ENTRIES * 8 - 1}
    .long {layout.GDT:#x}
protected16:
    mov ax, {layout.DATA16:#x}
    mov ss, ax
    mov eax, 0xffff0016
    report 2
    .byte 0x66                                  # 32-bit offset, from 16-bit code
    far_jump32 {layout.CODE32:#x}, protected32
    .code32
protected32:
    mov eax, {layout.DATA32:#x}
    mov ss, eax
    mov ds, eax
    mov eax, 0x32323232
    report 3
"""

_TO_LONG = f"""
    mov eax, cr4
    or eax, cr4_bits
    mov cr4, eax
    mov eax, {layout.PAGE_TABLES:#x}
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, {int(Efer.LME)}
    wrmsr
    mov eax, cr0
    or eax, {1 << 31:#x}
    mov cr0, eax
    rdmsr                                       # LMA, seen from compatibility mode
    report 4
    far_jump32 {layout.CODE64:#x}, long64
    .code64
long64:
    mov rax, 0x1122334455667788
    ror rax, 32
    report 5
    sub rsp, rsp
    mov esp, {layout.STACK_TOPS[0]:#x}
    push {layout.CODE32:#x}
    push offset compatibility
    retfq
    .code32
compatibility:
    .byte 0x48                                  # DEC EAX here, REX.W in 64-bit code
    mov eax, 0x33333333
    report 6
"""

_BACK_TO_REAL = f"""
    mov eax, cr0
    and eax, {0x7FFF_FFFF:#x}
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    report 7                                    # LME without LMA
    and eax, {~int(Efer.LME) & 0xFFFF_FFFF:#x}
    wrmsr
    far_jump32 {layout.CODE16:#x}, leaving
    .code16
leaving:
    mov ax, {layout.DATA16:#x}
    mov ss, ax
    mov ds, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    far_jump16 0x0000, real
real:
    sub ax, ax
    mov ss, ax
    mov ds, ax
    mov ax, 0xffff
    mov fs, ax
    mov eax, cs
    report 8
    hlt
"""

_LONG_LEVELS = {4: Cr4.PAE, 5: Cr4.PAE | Cr4.LA57}


def _reports(cpu: Processor, count: int) -> list[tuple[int, int]]:
    found = []
    for _ in range(count):
        details = cpu.run_to_out()
        found.append((details.port, int.from_bytes(details.data, "little")))
    return found


def _through_long_mode(levels: int) -> Processor:
    head = f"cr4_bits = {int(_LONG_LEVELS[levels])}\n"
    cpu = Processor(REAL, head + _TO_PROTECTED + _TO_LONG + _BACK_TO_REAL)
    cpu.tables = PageTables(levels)
    cpu.refresh_tables()
    return cpu


@pytest.mark.parametrize("levels", [4, 5])
def test_a_guest_goes_through_every_mode(levels: int) -> None:
    with _through_long_mode(levels) as cpu:
        lme, lma = int(Efer.LME), int(Efer.LMA)
        assert _reports(cpu, 8) == [
            (1, 0x1234),
            (2, 0xFFFF_0016),
            (3, 0x3232_3232),
            (4, lme | lma),
            (5, 0x1122_3344),
            (6, 0x3333_3333),
            (7, lme),
            (8, 0),
        ]
        cpu.run_to_halt()
        assert cpu.hidden("fs") == (0xFFFF, 0x93, 0xFFFF, 0xF_FFF0)


def test_segments_keep_their_hidden_part_until_they_are_loaded_anew() -> None:
    """Between MOV CR0 and the far jump the code segment is still that of real mode."""
    with Processor(REAL, _TO_PROTECTED + "hlt") as cpu:
        assert _reports(cpu, 3)[2] == (3, 0x3232_3232)
        cpu.run_to_halt()
        assert cpu.hidden("es") == (0, 0x93, 0xFFFF, 0)
        assert cpu.hidden("cs") == (layout.CODE32, 0xC09B, 0xFFFF_FFFF, 0)
        assert cpu.hidden("ss") == (layout.DATA32, 0xC093, 0xFFFF_FFFF, 0)
