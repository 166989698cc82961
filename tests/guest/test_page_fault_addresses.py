"""CR2 and the error code of page faults, for every class of access and at page crossings.

SDM volume 3, "Interrupt 14—Page-Fault Exception (#PF)". An access that crosses into a page that is
not there reports the first byte of that page, and has changed nothing.
"""

from dataclasses import dataclass
from typing import Final

import pytest

from tests.guest import layout
from tests.guest.modes import COMPAT32, LONG64, PAE32, PAGED32, Cr0, Cr4, Mode, Rflags
from tests.guest.page_tables import ALL, Entry
from tests.guest.processor import Processor

_PF: Final = 14
_PAGE: Final = layout.FAR_DATA
_P, _W, _U, _I = 1, 2, 4, 0x10
_MODES: Final = pytest.mark.parametrize("mode", [PAGED32, PAE32, COMPAT32, LONG64], ids=str)


@dataclass(frozen=True)
class Access:
    """An instruction on [EBX] and the bytes it touches; `writes` as in the error code."""

    code: str
    size: int
    writes: bool


_ACCESSES: Final = [
    Access("mov al, [ebx]", 1, False),
    Access("mov eax, [ebx]", 4, False),
    Access("mov [ebx], ax", 2, True),
    Access("mov [ebx], eax", 4, True),
    Access("add [ebx], eax", 4, True),
    Access("lock; add [ebx], eax", 4, True),
    Access("not dword ptr [ebx]", 4, True),
    Access("xchg [ebx], eax", 4, True),
    Access("cmpxchg [ebx], ecx", 4, True),
    Access("cmpxchg8b [ebx]", 8, True),
    Access("cmp [ebx], eax", 4, False),
    Access("test [ebx], eax", 4, False),
    Access("imul eax, [ebx]", 4, False),
    Access("movzx eax, word ptr [ebx]", 2, False),
    Access("bsf eax, [ebx]", 4, False),
    Access("bt dword ptr [ebx], 3", 4, False),
    Access("bts dword ptr [ebx], 3", 4, True),
    Access("shld [ebx], eax, 4", 4, True),
    Access("setz [ebx]", 1, True),
    Access("mov esi, ebx; lodsd", 4, False),
    Access("mov edi, ebx; stosd", 4, True),
    Access("mov edi, ebx; scasd", 4, False),
    Access("mov esi, ebx; movsd", 4, False),
    Access("mov edi, ebx; movsd", 4, True),
    Access("sgdt [ebx]", 6, True),
    Access("lgdt [ebx]", 6, False),
    Access("movups xmm0, [ebx]", 16, False),
    Access("movups [ebx], xmm0", 16, True),
    Access("mov ds, [ebx]", 2, False),
    Access("mov [ebx], ds", 2, True),
    Access("smsw [ebx]", 2, True),
    Access("verr [ebx]", 2, False),
    Access("jmp fword ptr [ebx]", 6, False),
]


def _start(mode: Mode, code: str, cpl: int, entry: int) -> Processor:
    cpu = Processor(mode, code, cpl=cpl)
    cpu.tables.set_page(_PAGE, entry)
    cpu.refresh_tables()
    values = dict.fromkeys(("rsi", "rdi"), layout.DATA)
    cpu.set(cr4=cpu.mode.cr4 | Cr4.OSFXSR, rcx=1, **values)
    return cpu


def _size_in(mode: Mode, access: Access) -> int:
    wide = mode.bits == 64 and access.code.startswith(("sgdt", "lgdt"))
    return 10 if wide else access.size


@_MODES
@pytest.mark.parametrize("access", _ACCESSES, ids=lambda access: access.code)
def test_an_absent_page_is_reported_by_its_first_byte_touched(mode: Mode, access: Access) -> None:
    size = _size_in(mode, access)
    cpl = 0 if "lgdt" in access.code else 3
    with _start(mode, access.code, cpl, 0) as cpu:
        user = _U if cpl else 0
        code = (_W if access.writes else 0) | user
        before = bytes(cpu.memory[_PAGE - 16 : _PAGE + 16])
        cases = [(_PAGE, _PAGE), (_PAGE + 5, _PAGE + 5)]
        if size > 1:
            cases += [(_PAGE - 1, _PAGE), (_PAGE - size + 1, _PAGE)]
        for address, cr2 in cases:
            cpu.start()
            cpu.set(rbx=address, rsi=layout.DATA, rdi=layout.DATA, cr4=cpu.mode.cr4 | Cr4.OSFXSR)
            trap = cpu.run_to_trap()
            assert (trap.fault, cpu.reg("cr2")) == ((_PF, code), cr2), hex(address)
        assert cpu.memory[_PAGE - 16 : _PAGE + 16] == before


@_MODES
@pytest.mark.parametrize(
    ("entry", "code", "error_code"),
    [
        (ALL & ~Entry.WRITABLE, "mov [ebx], eax", _P | _W | _U),
        (ALL & ~Entry.USER, "mov eax, [ebx]", _P | _U),
        (ALL & ~Entry.USER, "mov [ebx], eax", _P | _W | _U),
        (ALL & ~Entry.PRESENT, "mov eax, [ebx]", _U),
        (ALL & ~Entry.WRITABLE, "lock; add [ebx], eax", _P | _W | _U),
        (ALL & ~Entry.WRITABLE, "cmpxchg [ebx], ecx", _P | _W | _U),
    ],
)
def test_rights_are_in_the_error_code(mode: Mode, entry: int, code: str, error_code: int) -> None:
    with _start(mode, code, 3, entry | _PAGE if entry & 1 else entry) as cpu:
        cpu.set(rbx=_PAGE)
        assert cpu.run_to_trap().fault == (_PF, error_code)
        assert cpu.reg("cr2") == _PAGE


@_MODES
@pytest.mark.parametrize("cpl", [0, 3])
def test_a_fetch_from_an_absent_page(mode: Mode, cpl: int) -> None:
    with _start(mode, "jmp ebx" if mode.bits == 32 else "jmp rbx", cpl, 0) as cpu:
        cpu.set(rbx=_PAGE + 0x10)
        trap = cpu.run_to_trap()
        nx = _I if mode.efer & 0x800 else 0
        assert trap.fault == (_PF, nx | (_U if cpl else 0))
        assert (trap.rip, cpu.reg("cr2")) == (_PAGE + 0x10, _PAGE + 0x10)


def test_a_fetch_from_a_page_without_execute_permission() -> None:
    with _start(LONG64, "jmp rbx", 3, ALL | _PAGE | Entry.NX) as cpu:
        cpu.set(rbx=_PAGE)
        assert cpu.run_to_trap().fault == (_PF, _P | _U | _I)


@pytest.mark.parametrize("wp", [False, True])
def test_wp_decides_whether_ring_0_writes_read_only_pages(wp: bool) -> None:
    with _start(LONG64, "mov [rbx], eax; hlt", 0, (ALL & ~Entry.WRITABLE) | _PAGE) as cpu:
        cpu.set(rbx=_PAGE, cr0=cpu.mode.cr0 | (Cr0.WP if wp else 0), rax=0x55)
        if wp:
            assert cpu.run_to_trap().fault == (_PF, _P | _W)
        else:
            cpu.run_to_halt()
            assert cpu.memory[_PAGE] == 0x55


@pytest.mark.parametrize(
    ("code", "stack", "cr2", "error_code"),
    [
        ("push rax", _PAGE + 8, _PAGE, _W),
        ("push rax", _PAGE + 4, _PAGE, _W),
        ("pop rax", _PAGE - 4, _PAGE, 0),
        ("pop rax", _PAGE, _PAGE, 0),
        ("call rbx", _PAGE + 8, _PAGE, _W),
        ("ret", _PAGE - 7, _PAGE, 0),
        ("enter 16, 0", _PAGE + 8, _PAGE, _W),
        ("pushfq", _PAGE + 0x108, _PAGE + 0x100, _W),
        ("popfq", _PAGE + 0x100, _PAGE + 0x100, 0),
        ("iretq", _PAGE - 16, _PAGE, 0),
        ("retf", _PAGE - 4, _PAGE, 0),
    ],
)
def test_the_stack_is_memory_like_any_other(
    code: str, stack: int, cr2: int, error_code: int
) -> None:
    with _start(LONG64, code, 3, 0) as cpu:
        cpu.set(rsp=stack, rbx=layout.OTHER_CODE)
        trap = cpu.run_to_trap()
        assert (trap.fault, cpu.reg("cr2")) == ((_PF, error_code | _U), cr2)
        assert (trap.rip, trap.rsp) == (layout.CODE, stack)


def test_a_string_instruction_keeps_what_it_has_done() -> None:
    with _start(LONG64, "rep movsd", 3, 0) as cpu:
        cpu.set(rcx=8, rdi=_PAGE - 14, rsi=layout.DATA)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_PF, _W | _U), layout.CODE)
        assert trap.rflags == Rflags.FIXED | Rflags.RF
        assert cpu.get("rcx", "rdi", "cr2") == [5, _PAGE - 2, _PAGE]


def test_a_descriptor_table_is_read_with_supervisor_rights() -> None:
    with Processor(LONG64, "mov fs, eax; out 0x80, al", cpl=3) as cpu:
        cpu.tables.set_page(layout.GDT, (ALL & ~Entry.USER) | layout.GDT)
        cpu.refresh_tables()
        cpu.set(rax=layout.DATA32_RING3, rflags=Rflags.FIXED | Rflags.IOPL3)
        assert cpu.run_to_out().port == 0x80
