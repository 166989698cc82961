"""Limits, types and null selectors of data and code segments, by every kind of access.

SDM volume 3, "Limit Checking", "Type Checking", "Expand-down data segments".
"""

from dataclasses import dataclass
from typing import Final

import pytest

from tests.guest import layout
from tests.guest.descriptors import Size, System, Type, gate, segment
from tests.guest.modes import COMPAT32, LONG64, PROTECTED32, Mode
from tests.guest.processor import Processor

_GP, _SS, _PF = 13, 12, 14
_FREE: Final = layout.FREE_SELECTOR
_SEGMENTED: Final = pytest.mark.parametrize("mode", [PROTECTED32, COMPAT32], ids=str)


@dataclass(frozen=True)
class Access:
    """An instruction on FS:[EBX] of some bytes; whether it reads, writes."""

    code: str
    size: int
    reads: bool
    writes: bool


_ACCESSES: Final = [
    Access("mov al, fs:[ebx]", 1, True, False),
    Access("mov ax, fs:[ebx]", 2, True, False),
    Access("mov eax, fs:[ebx]", 4, True, False),
    Access("mov fs:[ebx], al", 1, False, True),
    Access("mov fs:[ebx], ax", 2, False, True),
    Access("mov fs:[ebx], eax", 4, False, True),
    Access("add fs:[ebx], eax", 4, True, True),
    Access("lock; xadd fs:[ebx], ax", 2, True, True),
    Access("cmp dword ptr fs:[ebx], 0", 4, True, False),
    Access("cmpxchg8b fs:[ebx]", 8, True, True),
    Access("push dword ptr fs:[ebx]", 4, True, False),
    Access("pop dword ptr fs:[ebx]", 4, False, True),
    Access("mov esi, ebx; fs lodsd", 4, True, False),
    Access("sidt fs:[ebx]", 6, False, True),
]
_LIMIT: Final = 0xFFF


def _inside(offset: int, size: int, *, down: bool, big: bool) -> bool:
    last = offset + size - 1
    if down:
        return offset > _LIMIT and last <= (0xFFFF_FFFF if big else 0xFFFF)
    return last <= _LIMIT


def _faults(cpu: Processor, offset: int) -> bool:
    cpu.start()
    cpu.set_segment("fs", _FREE)
    cpu.set(rbx=offset)
    at = cpu.run_to_halt()
    if layout.CODE <= at < layout.CODE + 32:
        return False
    trap = cpu.trap(at - layout.HANDLERS, error_code=True)
    assert trap.fault == (_GP, 0)
    return True


@_SEGMENTED
@pytest.mark.parametrize("access", _ACCESSES, ids=lambda access: access.code)
@pytest.mark.parametrize("big", [False, True], ids=["16", "32"])
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_an_access_must_be_inside_the_limit(
    mode: Mode, access: Access, big: bool, down: bool
) -> None:
    kind = Type.WRITABLE | Type.ACCESSED | (Type.EXPAND_DOWN if down else 0)
    size = Size.BITS32 if big else Size.BITS16
    # The base makes offsets around both limits mapped ones, the last ones by wrapping at 4 GiB.
    with Processor(mode, f"{access.code}; hlt") as cpu:
        cpu.put_descriptor(_FREE, segment(kind, size, base=layout.FAR_DATA, limit=_LIMIT))
        offsets = [0, _LIMIT - 8, *range(_LIMIT - 7, _LIMIT + 3), 0x2000]
        offsets += [0xFFF0, *range(0x1_0000 - 8, 0x1_0002)]
        for offset in offsets:
            inside = _inside(offset, access.size, down=down, big=big)
            assert (offset, _faults(cpu, offset)) == (offset, not inside)


@_SEGMENTED
@pytest.mark.parametrize("access", _ACCESSES, ids=lambda access: access.code)
def test_an_access_must_be_of_the_segments_type(mode: Mode, access: Access) -> None:
    kinds = {
        Type.ACCESSED: (True, False),
        Type.WRITABLE | Type.ACCESSED: (True, True),
        Type.CODE | Type.ACCESSED: (False, False),
        Type.CODE | Type.READABLE | Type.ACCESSED: (True, False),
        Type.CODE | Type.CONFORMING | Type.READABLE | Type.ACCESSED: (True, False),
    }
    with Processor(mode, f"{access.code}; hlt") as cpu:
        for kind, (readable, writable) in kinds.items():
            cpu.put_descriptor(_FREE, segment(kind))
            allowed = (readable or not access.reads) and (writable or not access.writes)
            assert (kind, _faults(cpu, layout.DATA)) == (kind, not allowed)


@_SEGMENTED
@pytest.mark.parametrize("access", _ACCESSES, ids=lambda access: access.code)
def test_a_null_segment_may_be_loaded_but_not_used(mode: Mode, access: Access) -> None:
    with Processor(mode, f"mov fs, ecx; {access.code}; hlt") as cpu:
        cpu.set(rcx=3, rbx=layout.DATA)
        assert cpu.run_to_trap().fault == (_GP, 0)


@_SEGMENTED
@pytest.mark.parametrize(
    ("code", "rsp"),
    [
        ("push eax", 2),
        ("pop eax", 0xFFE),
        ("call next; next: nop", 0x2000),
        ("ret", 0xFFD),
        ("enter 16, 0", 3),
        ("leave", 0x10),
        ("pusha", 16),
        ("popa", 0xFF0),
        ("pushf", 0x1800),
        ("mov eax, [ebp]", 0x10),
        ("mov eax, [esp]", 0xFFD),
        ("add [ebp+4], al", 0x10),
        ("xchg [ebp+8], eax", 0x10),
    ],
)
def test_the_stack_segment_faults_with_ss(mode: Mode, code: str, rsp: int) -> None:
    """The handler runs in ring 0 on its own stack, the code in ring 3."""
    with Processor(mode, code, cpl=3) as cpu:
        cpu.put_descriptor(
            _FREE, segment(3, Size.BITS32, dpl=3, base=layout.FAR_DATA, limit=_LIMIT)
        )
        cpu.set_segment("ss", _FREE | 3)
        cpu.set(rsp=rsp, rbp=0x1000)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip, trap.rsp) == ((_SS, 0), layout.CODE, rsp)


@pytest.mark.parametrize("name", ["ds", "es", "ss", "cs"])
def test_64_bit_code_ignores_limits_types_and_null_selectors(name: str) -> None:
    with Processor(LONG64, f"mov {name}:[rbx], al; hlt") as cpu:
        if name != "cs":
            cpu.set(**{f"{name}_limit": 0, f"{name}_base": 0x1234})
        cpu.set(rbx=layout.DATA, rax=0x77)
        cpu.run_to_halt()
        assert cpu.memory[layout.DATA] == 0x77


@pytest.mark.parametrize("name", ["fs", "gs"])
def test_64_bit_code_adds_the_bases_of_fs_and_gs_whatever_the_limit(name: str) -> None:
    with Processor(LONG64, f"mov {name}:[rbx], al; hlt") as cpu:
        cpu.set(**{f"{name}_limit": 0, f"{name}_base": layout.DATA - 0x10_0000})
        cpu.set(rbx=0x10_0000, rax=0x77)
        cpu.run_to_halt()
        assert cpu.memory[layout.DATA] == 0x77


@pytest.mark.parametrize("address", [1 << 47, (1 << 47) - 1, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63])
@pytest.mark.parametrize(
    ("code", "vector"),
    [
        ("mov eax, [rbx]", _GP),
        ("mov [rbx], eax", _GP),
        ("add [rbx], eax", _GP),
        ("mov eax, ss:[rbx]", _GP),
        ("mov rbp, rbx; mov eax, [rbp]", _SS),
        ("mov rsp, rbx; mov eax, [rsp]", _SS),
        ("mov rsp, rbx; pop rax", _SS),
        ("mov rbp, rbx; mov eax, ds:[rbp]", _SS),
        ("mov rbp, rbx; mov eax, fs:[rbp]", _GP),
        ("mov rsi, rbx; lodsd", _GP),
        ("mov rdi, rbx; stosd", _GP),
        ("lgdt [rbx]", _GP),
        ("jmp qword ptr [rbx]", _GP),
        ("jmp fword ptr [rbx]", _GP),
        ("fxsave [rbx]", _GP),
    ],
)
def test_an_address_that_is_not_canonical(code: str, vector: int, address: int) -> None:
    """The register decides, not a prefix of SS or DS, which 64-bit code ignores.

    The last byte counts too: an access may begin on the last canonical address.
    """
    with Processor(LONG64, code) as cpu:
        for handled in (_SS, _GP):
            handler = layout.HANDLERS + handled
            gate_ist1 = gate(System.INTERRUPT_GATE, layout.CODE64, handler, low_byte4=1, wide=True)
            cpu.put_gate(handled, gate_ist1)
        cpu.set(rbx=address)
        trap = cpu.run_to_trap()
        if address == (1 << 47) - 1:
            assert trap.vector in (vector, _PF)
        else:
            assert trap.fault == (vector, 0)


@pytest.mark.parametrize("code", ["jmp rbx", "call rbx", "push rbx; ret"])
def test_a_branch_to_a_non_canonical_address_faults_at_the_branch(code: str) -> None:
    with Processor(LONG64, code) as cpu:
        cpu.set(rbx=1 << 47)
        trap = cpu.run_to_trap()
        assert trap.fault == (_GP, 0)
        assert trap.rip in (layout.CODE, layout.CODE + 1)


@pytest.mark.parametrize("msr", [0xC000_0100, 0xC000_0101, 0xC000_0102, 0xC000_0082, 0x175])
def test_wrmsr_refuses_an_address_that_is_not_canonical(msr: int) -> None:
    """By the widest addresses that the processor can have, 57 bits, whatever CR4.LA57 says."""
    with Processor(LONG64, "wrmsr; hlt") as cpu:
        cpu.set(rcx=msr, rdx=0x0100_0000)
        assert cpu.run_to_trap().fault == (_GP, 0)
        cpu.start()
        cpu.set(rcx=msr, rdx=0x00FF_FFFF)
        assert cpu.run_to_halt() == layout.CODE + 2
