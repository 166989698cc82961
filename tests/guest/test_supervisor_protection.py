"""SMEP, SMAP, UMIP and alignment checks as a guest meets them.

SDM volume 3, "Determination of Access Rights", "Control Registers" (CR4.UMIP), "Interrupt 17—
Alignment Check Exception (#AC)".
"""

from typing import Final

import pytest

from tests.guest import layout
from tests.guest.modes import LONG64, PROTECTED32, Cr0, Cr4, Mode, Rflags
from tests.guest.page_tables import ALL, PAGE, Entry
from tests.guest.processor import Processor

_PF, _GP, _AC = 14, 13, 17
_USER_PAGE: Final = layout.FAR_DATA
_P, _W, _I = 1, 2, 0x10


def _kernel_pages(cpu: Processor) -> None:
    """Makes all pages but _USER_PAGE supervisor ones."""
    for page in range(0, layout.MAPPED, PAGE):
        if page != _USER_PAGE:
            cpu.tables.set_page(page, (ALL & ~Entry.USER) | page)
    cpu.refresh_tables()


@pytest.mark.parametrize(
    ("bits", "code", "fault"),
    [
        (Cr4.SMEP, "jmp rbx", (_PF, _P | _I)),
        (Cr4.SMEP, "mov eax, [rbx]; int 0x40", (0x40, None)),
        (Cr4.SMAP, "mov eax, [rbx]", (_PF, _P)),
        (Cr4.SMAP, "mov [rbx], eax", (_PF, _P | _W)),
        (Cr4.SMAP, "stac; mov [rbx], eax; int 0x40", (0x40, None)),
        (Cr4.SMAP, "stac; clac; mov [rbx], eax", (_PF, _P | _W)),
        (Cr4.SMAP, "mov rsi, rbx; lodsb", (_PF, _P)),
        (0, "mov [rbx], eax; int 0x40", (0x40, None)),
    ],
)
def test_ring_0_and_user_pages(bits: int, code: str, fault: tuple[int, int | None]) -> None:
    with Processor(LONG64, code) as cpu:
        _kernel_pages(cpu)
        cpu.set(cr4=cpu.mode.cr4 | bits, rbx=_USER_PAGE)
        assert cpu.run_to_trap().fault == fault


def test_smap_holds_for_implicit_accesses_whatever_ac_says() -> None:
    """The GDT on a user page: a load of a segment register is an implicit supervisor access."""
    with Processor(LONG64, "mov fs, eax") as cpu:
        _kernel_pages(cpu)
        cpu.load(_USER_PAGE, bytes(cpu.memory[layout.GDT : layout.GDT + 0x800]))
        cpu.tables.set_page(_USER_PAGE + PAGE, (ALL & ~Entry.USER) | layout.GDT)
        cpu.refresh_tables()
        # Only the entry loaded is on the user page; those of the handler are behind it.
        base = _USER_PAGE + PAGE - 0x18
        cpu.load(base, bytes(0x10) + bytes(cpu.memory[layout.GDT + 0x10 : layout.GDT + 0x18]))
        cpu.load(layout.GDT, bytes(cpu.memory[layout.GDT + 0x18 : layout.GDT + 0x20]))
        cpu.set(gdtr_base=base, gdtr_limit=0xFFF, rax=0x10)
        cpu.set(cr4=cpu.mode.cr4 | Cr4.SMAP, rflags=Rflags.FIXED | Rflags.AC)
        trap = cpu.run_to_trap()
        assert (trap.fault, cpu.reg("cr2")) == ((_PF, _P), base + 0x10)


@pytest.mark.parametrize("mode", [PROTECTED32, LONG64], ids=str)
@pytest.mark.parametrize("code", ["sgdt [ebx]", "sidt [ebx]", "sldt ax", "str ax", "smsw ax"])
@pytest.mark.parametrize(("cpl", "umip"), [(0, True), (3, False), (3, True)])
def test_umip_keeps_tables_and_selectors_from_ring_3(
    mode: Mode, code: str, cpl: int, umip: bool
) -> None:
    with Processor(mode, f"{code}; int 0x40", cpl=cpl) as cpu:
        cpu.set(cr4=cpu.mode.cr4 | (Cr4.UMIP if umip else 0), rbx=layout.DATA)
        fault = (_GP, 0) if umip and cpl else (0x40, None)
        assert cpu.run_to_trap().fault == fault


@pytest.mark.parametrize(
    ("cpl", "am", "ac"), [(3, True, True), (3, True, False), (3, False, True), (0, True, True)]
)
@pytest.mark.parametrize(
    ("code", "aligned_by"),
    [
        ("mov al, [ebx]", 1),
        ("mov ax, [ebx]", 2),
        ("mov eax, [ebx]", 4),
        ("mov [ebx], eax", 4),
        ("add [ebx], ax", 2),
        ("xchg [ebx], eax", 4),
        ("push dword ptr [ebx]", 4),
        ("mov esi, ebx; lodsw", 2),
    ],
)
def test_alignment_is_checked_in_ring_3_with_am_and_ac(
    cpl: int, am: bool, ac: bool, code: str, aligned_by: int
) -> None:
    with Processor(PROTECTED32, f"{code}; int 0x40", cpl=cpl) as cpu:
        for offset in range(5):
            cpu.start()
            cpu.set(cr0=cpu.mode.cr0 | (Cr0.AM if am else 0), rbx=layout.DATA + offset)
            cpu.set(rflags=Rflags.FIXED | (Rflags.AC if ac else 0))
            checked = cpl == 3 and am and ac
            faults = checked and offset % aligned_by != 0
            assert cpu.run_to_trap().fault == ((_AC, 0) if faults else (0x40, None))
