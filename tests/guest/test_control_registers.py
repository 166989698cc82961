"""Combinations of CR0, CR4 and EFER that the processor refuses, and what writes of them change.

SDM volume 2, "MOV—Move to/from Control Registers"; volume 3, "Control Registers", "Initializing
IA-32e Mode".
"""

import pytest

from tests.guest import layout
from tests.guest.modes import (
    COMPAT32,
    LONG64,
    PAE32,
    PAGED32,
    PROTECTED32,
    REAL,
    Cr0,
    Cr4,
    Efer,
    Mode,
    Rflags,
)
from tests.guest.processor import Processor

_GP0 = (13, 0)
_UD = (6, None)
_PLAIN = Cr0.PE | Cr0.ET | Cr0.NE


@pytest.mark.parametrize(
    ("mode", "register", "value"),
    [
        (PROTECTED32, "cr0", Cr0.PG | Cr0.ET),
        (PROTECTED32, "cr0", _PLAIN | Cr0.NW),
        (PAGED32, "cr0", Cr0.PG | Cr0.ET),
        (PAGED32, "cr4", 1 << 31),
        (PAGED32, "cr4", 1 << 15),
        (PAE32, "cr4", 1 << 31),
        (COMPAT32, "cr4", 0),
        (LONG64, "cr0", _PLAIN | Cr0.PG | Cr0.NW),
        (LONG64, "cr0", Cr0.PG | Cr0.ET),
        (LONG64, "cr0", 1 << 32 | _PLAIN | Cr0.PG),
        (LONG64, "cr4", 0),
        (LONG64, "cr4", Cr4.PAE | 1 << 32),
        (LONG64, "cr4", Cr4.PAE | 1 << 63),
        (LONG64, "cr4", Cr4.PAE | Cr4.LA57),
        (LONG64, "cr3", 1 << 63),
        (LONG64, "cr3", 1 << 52),
        (LONG64, "cr8", 0x10),
        (LONG64, "cr0", _PLAIN),
    ],
    ids=str,
)
def test_an_illegal_value_is_refused_and_changes_nothing(
    mode: Mode, register: str, value: int
) -> None:
    name = "rax" if mode.bits == 64 else "eax"
    with Processor(mode, f"mov {register}, {name}") as cpu:
        cpu.set(rax=value)
        before = cpu.reg(register)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == (_GP0, layout.CODE)
        assert cpu.reg(register) == before


def test_paging_cannot_be_left_in_64_bit_code_but_in_compatibility_mode() -> None:
    with Processor(COMPAT32, "mov cr0, eax; hlt") as cpu:
        cpu.set(rax=_PLAIN)
        assert cpu.run_to_halt() == layout.CODE + 3
        assert cpu.reg("cr0") == _PLAIN


def test_long_mode_needs_pae_when_paging_is_switched_on() -> None:
    with Processor(PROTECTED32, "mov ecx, 0xc0000080; wrmsr; mov cr0, ebx") as cpu:
        cpu.set(rax=Efer.LME, rbx=_PLAIN | Cr0.PG)
        trap = cpu.run_to_trap()
        assert trap.fault == _GP0
        assert cpu.reg("cr0") == _PLAIN


@pytest.mark.parametrize("value", [0, Efer.SCE])
def test_lme_cannot_change_while_paging(value: int) -> None:
    with Processor(LONG64, "wrmsr") as cpu:
        cpu.set(rcx=0xC000_0080, rax=value)
        assert cpu.run_to_trap().fault == _GP0


def test_lma_is_ignored_by_wrmsr() -> None:
    with Processor(LONG64, "wrmsr; rdmsr; hlt") as cpu:
        cpu.set(rcx=0xC000_0080, rax=Efer.LME | Efer.SCE)
        cpu.run_to_halt()
        assert cpu.reg("rax") == Efer.LME | Efer.LMA | Efer.SCE


@pytest.mark.parametrize("value", [1 << 1, 1 << 9, 1 << 16])
def test_reserved_bits_of_efer_are_refused(value: int) -> None:
    with Processor(LONG64, "wrmsr") as cpu:
        cpu.set(rcx=0xC000_0080, rax=Efer.LME | Efer.LMA | value)
        assert cpu.run_to_trap().fault == _GP0


@pytest.mark.parametrize("register", ["cr1", "cr5", "cr6", "cr7", "cr9", "cr15"])
def test_control_registers_that_do_not_exist_are_undefined(register: str) -> None:
    number = int(register[2:])
    rex = "0x44, " if number > 7 else ""
    code = f".byte {rex}0x0f, 0x22, {0xC0 | (number & 7) << 3:#x}"
    with Processor(LONG64, code) as cpu:
        assert cpu.run_to_trap().fault == _UD


def test_the_mod_field_of_a_control_register_move_is_ignored() -> None:
    with Processor(PROTECTED32, ".byte 0x0f, 0x20, 0x03; hlt") as cpu:
        assert cpu.run_to_halt() == layout.CODE + 3
        assert cpu.reg("rbx") == _PLAIN


@pytest.mark.parametrize(
    "code",
    [
        "mov cr0, eax",
        "mov eax, cr0",
        "mov cr3, eax",
        "mov eax, cr4",
        "mov dr7, eax",
        "mov eax, dr6",
        "lmsw ax",
        "clts",
        "invd",
        "wbinvd",
        "invlpg [eax]",
        "lgdt [eax]",
        "lidt [eax]",
        "lldt ax",
        "ltr ax",
        "rdmsr",
        "wrmsr",
        "hlt",
    ],
)
@pytest.mark.parametrize("cpl", [1, 2, 3])
def test_privileged_instructions_want_ring_0(code: str, cpl: int) -> None:
    with Processor(PROTECTED32, code, cpl=cpl) as cpu:
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == (_GP0, layout.CODE)


@pytest.mark.parametrize(("value", "after"), [(0x0, 1), (0xE, 0xF), (0xF, 0xF), (1, 1)])
def test_lmsw_sets_pe_but_cannot_clear_it(value: int, after: int) -> None:
    with Processor(PROTECTED32, "lmsw ax; hlt") as cpu:
        cpu.set(rax=value)
        cpu.run_to_halt()
        assert cpu.reg("cr0") & 0xF == after


def test_lmsw_enters_protected_mode() -> None:
    with Processor(REAL, "lmsw ax; hlt") as cpu:
        cpu.set(rax=1)
        cpu.run_to_halt()
        assert cpu.reg("cr0") == Cr0.PE | Cr0.ET | Cr0.NE


def test_clts_clears_ts_alone() -> None:
    with Processor(PROTECTED32, "clts; hlt") as cpu:
        cpu.set(cr0=_PLAIN | Cr0.TS | Cr0.MP)
        cpu.run_to_halt()
        assert cpu.reg("cr0") == _PLAIN | Cr0.MP


def test_a_legal_change_of_cr4_is_kept() -> None:
    with Processor(PROTECTED32, "mov cr4, eax; hlt") as cpu:
        cpu.set(rax=Cr4.TSD | Cr4.DE | Cr4.PSE | Cr4.PGE)
        cpu.run_to_halt()
        assert cpu.reg("cr4") == Cr4.TSD | Cr4.DE | Cr4.PSE | Cr4.PGE


@pytest.mark.parametrize(("cpl", "fault"), [(0, None), (3, _GP0)])
def test_tsd_keeps_rdtsc_from_rings_above_0(cpl: int, fault: tuple[int, int] | None) -> None:
    with Processor(PROTECTED32, "rdtsc; int 0x40", cpl=cpl) as cpu:
        cpu.set(cr4=Cr4.TSD)
        trap = cpu.run_to_trap()
        assert trap.fault == (fault or (0x40, None))


def test_rflags_after_start_is_what_the_guest_pushes() -> None:
    with Processor(LONG64, "pushfq; pop rax; hlt") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.AC | Rflags.IOPL3)
        cpu.run_to_halt()
        assert cpu.reg("rax") == Rflags.FIXED | Rflags.AC | Rflags.IOPL3
