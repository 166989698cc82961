"""Guests in real, protected and long mode that handle their own exceptions."""

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from tests.machine import (
    CODE,
    CODE_SELECTOR,
    CR0_PG,
    CR4_PAE,
    DATA,
    EFER_LMA,
    EFER_LME,
    GDT,
    HANDLERS,
    PAGE_DIRECTORY,
    PML4,
    STACK,
    Machine,
    Mode,
)

DIVIDE_ERROR = 0
BREAKPOINT = 3
INVALID_OPCODE = 6
GENERAL_PROTECTION = 13
PAGE_FAULT = 14

RETURN = {Mode.REAL: "iret", Mode.PROTECTED: "iretd", Mode.LONG: "iretq"}
WORD = {Mode.REAL: 2, Mode.PROTECTED: 4, Mode.LONG: 8}

# Handlers that return behind a faulting instruction of two bytes.
STEP_OVER = {
    Mode.REAL: "push bp; mov bp, sp; add word ptr [bp + 2], 2; pop bp; inc ebx; iret",
    Mode.PROTECTED: "add dword ptr [esp], 2; inc ebx; iretd",
    Mode.LONG: "add qword ptr [rsp], 2; inc ebx; iretq",
}
DIVIDE_BY_ZERO = {Mode.REAL: "div cx", Mode.PROTECTED: "div ecx", Mode.LONG: "div ecx"}

FLAT = [Mode.PROTECTED, Mode.LONG]


@pytest.mark.parametrize("mode", Mode)
def test_breakpoint_returns_behind_itself(machine: Machine, mode: Mode) -> None:
    machine.load("int3; mov ecx, 5; hlt", mode)
    machine.handle(BREAKPOINT, f"mov ebx, 3; {RETURN[mode]}", mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rbx, machine.vcpu.regs().rcx) == (3, 5)


@pytest.mark.parametrize("mode", Mode)
def test_invalid_opcode_is_handled_and_stepped_over(machine: Machine, mode: Mode) -> None:
    machine.load("ud2; ud2; mov ecx, 5; hlt", mode)
    machine.handle(INVALID_OPCODE, STEP_OVER[mode], mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rbx, machine.vcpu.regs().rcx) == (2, 5)


@pytest.mark.parametrize("mode", Mode)
def test_divide_error_is_handled_and_stepped_over(machine: Machine, mode: Mode) -> None:
    machine.load(f"xor ecx, ecx; {DIVIDE_BY_ZERO[mode]}; mov ecx, 5; hlt", mode)
    machine.handle(DIVIDE_ERROR, STEP_OVER[mode], mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rbx, machine.vcpu.regs().rcx) == (1, 5)


@pytest.mark.parametrize("mode", Mode)
def test_software_interrupt_keeps_the_stack_balanced(machine: Machine, mode: Mode) -> None:
    machine.load("int 0x40; hlt", mode)
    machine.handle(0x40, f"mov ebx, 0x40; {RETURN[mode]}", mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rbx, machine.vcpu.regs().rsp) == (0x40, STACK)


@pytest.mark.parametrize(("mode", "words"), [(Mode.REAL, 3), (Mode.PROTECTED, 3), (Mode.LONG, 5)])
def test_interrupt_pushes_the_frame_of_its_mode(machine: Machine, mode: Mode, words: int) -> None:
    machine.load("int 0x40; hlt", mode)
    machine.handle(0x40, "hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    frame = STACK - words * WORD[mode]
    assert (machine.vcpu.regs().rsp, machine.peek(frame, WORD[mode])) == (frame, CODE + 2)


@pytest.mark.parametrize("mode", FLAT)
def test_general_protection_pushes_the_selector(machine: Machine, mode: Mode) -> None:
    machine.load("mov eax, 0x50; mov fs, eax; hlt", mode)
    machine.handle(GENERAL_PROTECTION, "mov ebx, 13; hlt", mode)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    regs = machine.vcpu.regs()
    assert (regs.rbx, machine.peek(regs.rsp)) == (13, 0x50)


def test_non_canonical_access_is_general_protection(machine: Machine) -> None:
    machine.load("mov rax, 0x8000000000000000; mov rax, [rax]; hlt", Mode.LONG)
    machine.handle(GENERAL_PROTECTION, "mov ebx, 13; hlt", Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    regs = machine.vcpu.regs()
    assert (regs.rbx, machine.peek(regs.rsp)) == (13, 0)


@pytest.mark.parametrize(
    ("access", "code"),
    [("mov eax, [rbx]", 0), ("mov [rbx], eax", 2), ("jmp rbx", 0)],
    ids=["read", "write", "fetch"],
)
def test_page_fault_reports_address_and_cause(machine: Machine, access: str, code: int) -> None:
    machine.load(f"mov ebx, 0x40000123; {access}; hlt", Mode.LONG)
    machine.handle(PAGE_FAULT, "mov ecx, 14; hlt", Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    regs = machine.vcpu.regs()
    assert (regs.rcx, machine.vcpu.sregs().cr2) == (14, 0x4000_0123)
    assert machine.peek(regs.rsp) == code


def test_page_fault_handler_mends_the_mapping(machine: Machine) -> None:
    entry = PAGE_DIRECTORY + 8 * 5  # maps the 2 MiB from 0xa00000 on
    machine.load("mov ebx, 0xa04000; mov dword ptr [rbx], 0x600df00d; hlt", Mode.LONG)
    machine.handle(PAGE_FAULT, f"mov qword ptr [{entry}], 0x83; pop rax; iretq", Mode.LONG)
    machine.ram.write(entry, bytes(8))
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.peek(DATA) == 0x600D_F00D


def test_accessed_and_dirty_bits_are_set(machine: Machine) -> None:
    entry = PAGE_DIRECTORY + 8 * 5
    machine.load("mov dword ptr [0xa04000], 1; hlt", Mode.LONG)
    machine.ram.write(entry, (0x83).to_bytes(8, "little"))
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.peek(entry, 8) == 0xE3


def test_real_mode_guest_switches_to_protected_mode(machine: Machine) -> None:
    machine.load(
        "lgdt [pointer]; mov eax, cr0; or al, 1; mov cr0, eax;"
        f".byte 0x66, 0xea; .long {HANDLERS}; .word {CODE_SELECTOR};"
        f"pointer: .word 23; .long {GDT}",
        Mode.REAL,
    )
    machine.handle(0, "mov eax, 0x12345678; mov cx, 16; mov ds, cx; hlt", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert (machine.vcpu.regs().rax, machine.vcpu.sregs().cs.db) == (0x1234_5678, 1)


def test_protected_mode_guest_switches_to_long_mode(machine: Machine) -> None:
    machine.load(
        f"mov eax, {CR4_PAE}; mov cr4, eax; mov eax, {PML4}; mov cr3, eax;"
        f"mov ecx, 0xc0000080; rdmsr; or eax, {EFER_LME}; wrmsr;"
        f"mov eax, cr0; or eax, {CR0_PG:#x}; mov cr0, eax;"
        f".byte 0xea; .long {HANDLERS}; .word {CODE_SELECTOR}",
        Mode.PROTECTED,
    )
    machine.write_tables(Mode.LONG)
    machine.handle(0, "mov rax, 0x123456789abcdef0; hlt", Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rax == 0x1234_5678_9ABC_DEF0
    assert machine.vcpu.sregs().efer == EFER_LME | EFER_LMA
