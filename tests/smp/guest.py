"""A guest of many processors in long mode with their local APICs in x2APIC mode.

The boot processor starts the others, all of them execute the test's part at `work`, and the boot
processor tells by port 0x80 when everybody has passed it. R15 is the processor's number from the
start on. Who has nothing to do halts with interrupts open, so no wake-up may be lost.
"""

import struct
from typing import Final

from tests.assembler import assemble
from tests.machine import (
    CODE,
    CR4_PAE,
    EFER_LME,
    GDT,
    IDT,
    PDPT,
    PML4,
    Machine,
    Mode,
    gate_of,
)

START_PAGE: Final = 0x3
"""Where start-ups lead to."""
TABLES: Final = START_PAGE << 12 | 0xF00
"""What LGDT and LIDT of the started processors load: the two operands, 16 bytes apart."""
STACKS: Final = 0x2_0000
"""A page for each processor."""
HANDLERS: Final = 0xC000
HANDLER_SIZE: Final = 0x100
STEAL_TIMES: Final = 0x1_8000
"""64 bytes for each processor."""

# Counters of 32 bits, or arrays of 8 bytes a processor.
ALIVE: Final = 0x4000
DONE: Final = 0x4040
FAILURES: Final = 0x4080
TOKEN: Final = 0x40C0
REQUESTS: Final = 0x4200
"""Bit n of a processor's word: processor n calls."""
ANSWERS: Final = 0x4400
TURNS: Final = 0x4600
TICKS: Final = 0x4800
HOST: Final = 0x4A00
"""Messages from the host that were served."""

# Vectors.
CALL: Final = 0x50
WAKE: Final = 0x51
TIMER: Final = 0x52
MESSAGE: Final = 0x53

# MSRs of the local APIC.
APIC_BASE: Final = 0x1B
X2APIC_ENABLED: Final = 0xC00
X2APIC_ID: Final = 0x802
X2APIC_EOI: Final = 0x80B
X2APIC_SVR: Final = 0x80F
X2APIC_ICR: Final = 0x830

FIXED: Final = 0x4000
OTHERS: Final = 0xC_0000
INIT: Final = 0x500
START_UP: Final = 0x600

MSR_STEAL_TIME: Final = 0x4B56_4D03

EOI: Final = f"mov ecx, {X2APIC_EOI:#x}; xor eax, eax; xor edx, edx; wrmsr;"
SAVE: Final = "push rax; push rcx; push rdx; push rbx;"
RESTORE: Final = "pop rbx; pop rdx; pop rcx; pop rax; iretq;"


def interrupt(vector: int, to: str) -> str:
    """Sends a fixed interrupt; `to` is a 32-bit register or a number."""
    return f"""
        mov edx, {to}
        mov eax, {FIXED | vector:#x}
        mov ecx, {X2APIC_ICR:#x}
        wrmsr
    """


def to_others(command: int) -> str:
    """Sends a command to all processors but the sender."""
    return f"xor edx, edx; mov eax, {OTHERS | FIXED | command:#x}; mov ecx, {X2APIC_ICR:#x}; wrmsr;"


def wait_until_equal(label: str, array: int, value: str) -> str:
    """Halts until this processor's word in `array` is `value`, a 32-bit register."""
    return f"""
        {label}: cli
        cmp [{array:#x} + r15*8], {value}
        je {label}_over
        sti
        hlt
        jmp {label}
        {label}_over: sti
    """


def answer_calls(flush: str = "") -> str:
    """The handler of CALL: does `flush`, and tells every caller that it has."""
    return f"""
        {SAVE}
        {flush}
        xor ebx, ebx
        xchg rbx, [{REQUESTS:#x} + r15*8]
        next: bsf rax, rbx
        jz none
        btr rbx, rax
        lock inc dword ptr [{ANSWERS:#x} + rax*8]
        {interrupt(WAKE, "eax")}
        jmp next
        none: {EOI}
        {RESTORE}
    """


CALL_OTHERS: Final = f"""
        xor ebx, ebx
        2: cmp ebx, r15d
        je 3f
        lock bts qword ptr [{REQUESTS:#x} + rbx*8], r15
        inc r13d
        3: inc ebx
        cmp ebx, {{processors}}
        jb 2b
        {to_others(CALL)}
"""
"""Calls all others by one command; R13 is how many answers there will have been."""

SERVED: Final = {
    CALL: answer_calls(),
    WAKE: f"{SAVE} {EOI} {RESTORE}",
    TIMER: f"{SAVE} lock inc dword ptr [{TICKS:#x} + r15*8]; {EOI} {RESTORE}",
    MESSAGE: f"{SAVE} lock inc dword ptr [{HOST:#x} + r15*8]; {EOI} {RESTORE}",
}


def program(processors: int, work: str, *, steal_time: bool) -> str:
    """The guest's code; R13 is zero before `work`."""
    steal = f"""
        mov eax, r15d
        shl eax, 6
        add eax, {STEAL_TIMES | 1:#x}
        xor edx, edx
        mov ecx, {MSR_STEAL_TIME:#x}
        wrmsr
    """
    return f"""
        lea rbx, [rip + prepared]
        jmp prepare
        prepared: {to_others(INIT)}
        {to_others(START_UP | START_PAGE)}
        {to_others(START_UP | START_PAGE)}
        all_alive: pause
        cmp dword ptr [{ALIVE:#x}], {processors - 1}
        jne all_alive
        jmp begin

        .org 0x100
        mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        lidt [{TABLES + 16:#x}]
        lea rbx, [rip + alive]
        jmp prepare
        alive: lock inc dword ptr [{ALIVE:#x}]
        jmp begin

        prepare: mov ecx, {APIC_BASE:#x}
        rdmsr
        or eax, {X2APIC_ENABLED:#x}
        wrmsr
        mov ecx, {X2APIC_ID:#x}
        rdmsr
        mov r15d, eax
        lea esp, [r15d + 1]
        shl esp, 12
        add esp, {STACKS:#x}
        mov ecx, {X2APIC_SVR:#x}
        mov eax, 0x1FF
        xor edx, edx
        wrmsr
        {steal if steal_time else ""}
        xor r13d, r13d
        jmp rbx

        begin: sti
        {work.replace("{processors}", str(processors))}
        lock inc dword ptr [{DONE:#x}]
        {interrupt(WAKE, "0")}
        test r15d, r15d
        jnz park
        all_done: cli
        cmp dword ptr [{DONE:#x}], {processors}
        je tell
        sti
        hlt
        jmp all_done
        tell: sti
        out 0x80, al
        park: hlt
        jmp park
    """


def trampoline() -> str:
    """From a start-up into long mode."""
    return f"""
        xor ax, ax
        mov ds, ax
        lgdt [{TABLES:#x}]
        mov eax, {CR4_PAE:#x}
        mov cr4, eax
        mov eax, {PML4:#x}
        mov cr3, eax
        mov ecx, 0xC0000080
        rdmsr
        or eax, {EFER_LME:#x}
        wrmsr
        mov eax, 0x80000011
        mov cr0, eax
        .byte 0x66, 0xEA
        .long {CODE + 0x100:#x}
        .word 8
    """


def load(
    machine: Machine,
    processors: int,
    work: str,
    *,
    handlers: dict[int, str] | None = None,
    steal_time: bool = False,
) -> None:
    """Puts the guest into memory and the boot processor before its first instruction."""
    machine.load(program(processors, work, steal_time=steal_time), Mode.LONG)
    ram = machine.ram
    ram.write(START_PAGE << 12, assemble(trampoline(), bits=16, origin=START_PAGE << 12))
    ram.write(TABLES, struct.pack("<HQ", 3 * 8 - 1, GDT))
    ram.write(TABLES + 16, struct.pack("<HQ", 256 * 16 - 1, IDT))
    for vector, source in (SERVED | (handlers or {})).items():
        address = HANDLERS + HANDLER_SIZE * (vector - CALL)
        ram.write(address, assemble(source, bits=64, origin=address))
        offset, gate = gate_of(vector, address, Mode.LONG)
        ram.write(offset, gate)


def map_window(machine: Machine, *, table: int, gpa: int) -> tuple[int, int]:
    """A page at the second GiB, through tables at `table`; its address, and that of its entry."""
    ram = machine.ram
    ram.write(PDPT + 8, struct.pack("<Q", table | 3))
    ram.write(table, struct.pack("<Q", table + 0x1000 | 3))
    ram.write(table + 0x1000, struct.pack("<Q", gpa | 3))
    return 1 << 30, table + 0x1000
