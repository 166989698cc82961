"""The guest of the walk tests: it makes accesses from a list and records what came of each.

A record is RECORD bytes: what to do (`In`), and from VECTOR on what happened. Vector 0x80 says
that the access went through, 3 that fetched code ran, 13 and 14 are #GP and #PF.
"""

from enum import IntEnum
from typing import Final

from tests.assembler import assemble
from tests.walk import layout

RECORD: Final = 128
CAPACITY: Final = (layout.RECORDS_END - layout.RECORDS) // RECORD - 1


class Action(IntEnum):
    """What a record asks for."""

    READ = 0
    WRITE = 1
    MODIFY = 2
    FETCH = 3
    DESCRIPTOR = 4
    """Load FS from an LDT at the address: an implicit access."""
    CONTROL = 5
    """Load CR0, CR4, CR3 and EFER."""
    EDIT = 6
    """Change an entry of the tables and forget translations."""
    STOP = 7


class Forget(IntEnum):
    """How: INVPCID with this type, or otherwise."""

    INVPCID_ADDRESS = 0
    INVPCID_CONTEXT = 1
    INVPCID_ALL = 2
    INVPCID_NON_GLOBAL = 3
    INVLPG = 4
    CR3 = 5
    PGE = 6
    """Toggle CR4.PGE, twice."""


class Field(IntEnum):
    """Offsets in a record."""

    ADDRESS = 0
    VALUE = 8
    ACTION = 16
    RFLAGS = 24
    USER = 32
    PKRU = 40
    VECTOR = 48
    ERROR_CODE = 56
    CR2 = 64
    RESULT = 72
    """The value of RAX, or RIP after fetched code."""
    CR0 = 80
    CR3 = 88
    CR4 = 96
    EFER = 104
    WIDE = 32
    """EDIT: the entry has eight bytes."""
    FORGET = 24
    PCID = 80
    """EDIT: with GLA the descriptor of INVPCID."""
    GLA = 88


class Handler(IntEnum):
    """Offsets of exception handlers from CODE."""

    PAGE_FAULT = 0xA00
    PROTECTION = 0xA40
    BREAKPOINT = 0xA80
    SYSTEM_CALL = 0xAC0
    UNEXPECTED = 0xB00


_ACTIONS: Final = 0x900
_PKE: Final = 0x40_0000
_PGE: Final = 0x80

# {r} is R or E, {word} the size of a general register. RSI is the record, RBP is CR4.
_KERNEL: Final = """
next:
    mov {r}sp, {stack}
    mov ecx, [{r}si + {f.ACTION}]
    cmp ecx, {a.STOP}
    je stop
    cmp ecx, {a.CONTROL}
    je control
    cmp ecx, {a.EDIT}
    je edit
    test ebp, {pke}
    jz 1f
    mov eax, [{r}si + {f.PKRU}]
    xor ecx, ecx
    xor edx, edx
    wrpkru
1:  mov {r}bx, [{r}si + {f.ADDRESS}]
    mov ecx, [{r}si + {f.ACTION}]
    cmp ecx, {a.DESCRIPTOR}
    jne 2f
    mov edi, {ldt}
    mov {r}ax, {r}bx
    mov [{r}di + 2], ax
    shr {r}ax, 16
    mov [{r}di + 4], al
    mov [{r}di + 7], ah
    {upper_base}
    mov eax, {ldt_selector}
    lldt ax
    mov edx, 7
2:  push {word} ptr [{r}si + {f.RFLAGS}]
    {popf}
    mov {r}ax, [{r}si + {f.VALUE}]
    shl ecx, 4
    cmp dword ptr [{r}si + {f.USER}], 0
    jne 3f
    add ecx, {actions}
    jmp {r}cx
3:  add ecx, {user}
    push {user_data}
    push {stack}
    push {word} ptr [{r}si + {f.RFLAGS}]
    push {user_code}
    push {r}cx
    {iret}

control:
    mov {r}ax, [{r}si + {f.CR0}]
    mov cr0, {r}ax
    mov {r}bp, [{r}si + {f.CR4}]
    mov cr4, {r}bp
    mov {r}ax, [{r}si + {f.CR3}]
    mov cr3, {r}ax
    mov ecx, 0xC0000080
    mov eax, [{r}si + {f.EFER}]
    xor edx, edx
    wrmsr
    jmp advance

edit:
    mov {r}di, [{r}si + {f.ADDRESS}]
    mov eax, [{r}si + {f.VALUE}]
    cmp dword ptr [{r}si + {f.WIDE}], 0
    je 4f
    mov ecx, [{r}si + {f.VALUE} + 4]
    mov [{r}di + 4], ecx
4:  mov [{r}di], eax
    mov ecx, [{r}si + {f.FORGET}]
    cmp ecx, {g.INVLPG}
    je 5f
    cmp ecx, {g.CR3}
    je 6f
    cmp ecx, {g.PGE}
    je 7f
    invpcid {r}cx, [{r}si + {f.PCID}]
    jmp advance
5:  mov {r}bx, [{r}si + {f.GLA}]
    invlpg [{r}bx]
    jmp advance
6:  mov {r}ax, cr3
    mov cr3, {r}ax
    jmp advance
7:  mov {r}ax, {r}bp
    xor eax, {pge}
    mov cr4, {r}ax
    mov cr4, {r}bp
    jmp advance

done:
    mov [{r}si + {f.RESULT}], {r}ax
    mov dword ptr [{r}si + {f.VECTOR}], 0x80
advance:
    add {r}si, {record}
    jmp next
stop:
    hlt

    .org {actions_at}
{kernel_actions}

    .org {h.PAGE_FAULT}
    mov dword ptr [{r}si + {f.VECTOR}], 14
    pop {r}ax
    mov [{r}si + {f.ERROR_CODE}], {r}ax
    mov {r}ax, cr2
    mov [{r}si + {f.CR2}], {r}ax
    jmp advance
    .org {h.PROTECTION}
    mov dword ptr [{r}si + {f.VECTOR}], 13
    pop {r}ax
    mov [{r}si + {f.ERROR_CODE}], {r}ax
    jmp advance
    .org {h.BREAKPOINT}
    mov dword ptr [{r}si + {f.VECTOR}], 3
    mov {r}ax, [{r}sp]
    mov [{r}si + {f.RESULT}], {r}ax
    jmp advance
    .org {h.SYSTEM_CALL}
    jmp done
    .org {h.UNEXPECTED}
    hlt
"""

_ACTION_CODE: Final = """
    mov {r}ax, [{r}bx]
    {leave}
    .balign 16
    mov [{r}bx], {r}ax
    {leave}
    .balign 16
    or {word} ptr [{r}bx], 0
    {leave}
    .balign 16
    jmp {r}bx
    .balign 16
    mov fs, edx
    {leave}
    .balign 16
"""


def kernel(bits: int) -> bytes:
    """The code for CODE, in 32 or 64 bits."""
    wide = bits == 64
    names = _names(wide)
    actions = _ACTION_CODE.format(leave="jmp done", **names)
    source = _KERNEL.format(
        f=Field,
        a=Action,
        g=Forget,
        pge=_PGE,
        h=Handler,
        stack=layout.STACK,
        pke=_PKE,
        ldt=layout.GDT + layout.LDT_SELECTOR,
        ldt_selector=layout.LDT_SELECTOR,
        upper_base="shr rax, 16\n    mov [rdi + 8], eax" if wide else "",
        popf="popfq" if wide else "popfd",
        iret="iretq" if wide else "iretd",
        actions=layout.CODE + _ACTIONS,
        actions_at=_ACTIONS,
        kernel_actions=actions,
        user=layout.USER_CODE,
        user_data=layout.DATA_USER,
        user_code=layout.CODE64_USER if wide else layout.CODE32_USER,
        record=RECORD,
        **names,
    )
    return assemble(source, bits=bits, origin=layout.CODE)


def user(bits: int) -> bytes:
    """The code for USER_CODE."""
    source = _ACTION_CODE.format(leave="int 0x80", **_names(bits == 64))
    return assemble(source, bits=bits, origin=layout.USER_CODE)


def _names(wide: bool) -> dict[str, str]:
    return {"r": "r", "word": "qword"} if wide else {"r": "e", "word": "dword"}
