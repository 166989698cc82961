"""The registers of a vCPU as text, in the shape of the `info registers` of QEMU's monitor."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kvmshim.control.protocol import Json

_GENERAL: Final = (
    ("rax", "rbx", "rcx", "rdx"),
    ("rsi", "rdi", "rbp", "rsp"),
    ("r8", "r9", "r10", "r11"),
    ("r12", "r13", "r14", "r15"),
)


def _bits(text: str) -> dict[str, int]:
    return {name: int(bit) for name, bit in (item.split(":") for item in text.split())}


_FLAGS: Final = _bits(
    "CF:0 PF:2 AF:4 ZF:6 SF:7 TF:8 IF:9 DF:10 OF:11 NT:14 RF:16 VM:17 AC:18 VIF:19 VIP:20 ID:21"
)
_CR0: Final = _bits("PE:0 MP:1 EM:2 TS:3 ET:4 NE:5 WP:16 AM:18 NW:29 CD:30 PG:31")
_CR4: Final = _bits(
    "VME:0 PVI:1 TSD:2 DE:3 PSE:4 PAE:5 MCE:6 PGE:7 PCE:8 OSFXSR:9 OSXMMEXCPT:10 UMIP:11 LA57:12 "
    "VMXE:13 FSGSBASE:16 PCIDE:17 OSXSAVE:18 SMEP:20 SMAP:21 PKE:22"
)
_EFER: Final = _bits("SCE:0 LME:8 LMA:10 NXE:11 SVME:12")


def registers_text(answer: Json) -> str:
    """All registers of an answer to `regs`."""
    general, control = answer["general"], answer["control"]
    lines = [_row(((name, general[name]) for name in row), width=16) for row in _GENERAL]
    lines.append(
        f"RIP={_hex(general['rip'], 16)} RFL={_hex(general['rflags'], 8)} "
        f"[{names(general['rflags'], _FLAGS)}] {mode(answer)}"
    )
    lines += [_segment(name, segment) for name, segment in answer["segments"].items()]
    lines += [_table(name, table) for name, table in answer["tables"].items()]
    lines.append(f"CR0={_hex(control['cr0'], 8)} [{names(control['cr0'], _CR0)}]")
    lines.append(f"CR4={_hex(control['cr4'], 8)} [{names(control['cr4'], _CR4)}]")
    rest = ((name, control[name]) for name in ("cr2", "cr3", "cr8", "xcr0"))
    lines.append(_row(rest, width=16))
    debug = list(answer["debug"].items())
    lines += [_row(debug[:4], width=16), _row(debug[4:], width=8)]
    for name, value in answer["msrs"].items():
        bits = f" [{names(value, _EFER)}]" if name == "ia32_efer" else ""
        lines.append(f"{name.upper()}={_hex(value, 16)}{bits}")
    return "\n".join(lines)


def names(value: str, bits: Mapping[str, int]) -> str:
    """The names of the bits that are set.

    >>> names("0x246", _FLAGS)
    'PF ZF IF'
    """
    number = int(value, 16)
    return " ".join(name for name, bit in bits.items() if number >> bit & 1)


def code_bits(answer: Json) -> int:
    """Whether code is of 16, 32 or 64 bits."""
    attributes = int(answer["segments"]["cs"]["attrib"], 16)
    if _long(answer) and attributes >> 13 & 1:
        return 64
    return 32 if attributes >> 14 & 1 and _protected(answer) else 16


def mode(answer: Json) -> str:
    """In which mode the processor is, and its privilege level."""
    privilege = int(answer["segments"]["ss"]["attrib"], 16) >> 5 & 3
    if not _protected(answer):
        return "real mode"
    if int(answer["general"]["rflags"], 16) >> 17 & 1:
        return "virtual-8086 mode CPL=3"
    if not _long(answer):
        kind = f"protected mode, {code_bits(answer)} bits"
    elif code_bits(answer) == 64:
        kind = "64-bit mode"
    else:
        kind = f"compatibility mode, {code_bits(answer)} bits"
    return f"{kind} CPL={privilege}"


def _protected(answer: Json) -> bool:
    return bool(int(answer["control"]["cr0"], 16) & 1)


def _long(answer: Json) -> bool:
    return bool(int(answer["msrs"].get("ia32_efer", "0x0"), 16) >> 10 & 1)


def _hex(value: str, width: int) -> str:
    return f"{int(value, 16):0{width}x}"


def _row(pairs: Iterable[tuple[str, str]], *, width: int) -> str:
    return " ".join(f"{name.upper():<3}={_hex(value, width)}" for name, value in pairs)


def _segment(name: str, segment: Mapping[str, Any]) -> str:
    selector, base, limit, attributes = (
        segment[field] for field in ("selector", "base", "limit", "attrib")
    )
    flags = int(attributes, 16)
    state = "unusable" if flags >> 16 & 1 else f"DPL={flags >> 5 & 3}"
    return (
        f"{name.upper():<4} ={_hex(selector, 4)} {_hex(base, 16)} {_hex(limit, 8)} "
        f"{_hex(attributes, 8)} {state}"
    )


def _table(name: str, table: Mapping[str, Any]) -> str:
    return f"{name.upper():<4} =     {_hex(table['base'], 16)} {_hex(table['limit'], 8)}"
