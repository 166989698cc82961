"""Records of a trace: from the socket's bytes to facts, and to lines.

docs/control.md has their layout.
"""

import base64
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kvmshim.control.protocol import Json

_RECORD: Final = struct.Struct("<3Q2I4Q")
_KINDS: Final = ("exit", "answer", "event", "instruction")
_INSTRUCTION: Final = _KINDS.index("instruction")
_REASONS: Final = {
    1: "unknown",
    2: "hlt",
    3: "io",
    4: "mmio",
    5: "msr",
    6: "interrupt",
    7: "interrupt-window",
    9: "shutdown",
    0x40: "debug",
    0x44: "hypercall",
    0x80: "memory-fault",
    0x81: "noted",
}
_EVENTS: Final = (
    *("interrupt", "nmi", "smi", "exception", "software-interrupt", "init", "start-up"),
    *("suspended", "resumed"),
)
_OF_EVENTS: Final = ("vector", "error_code", "hypercall", "vp_index")
_WITH_VECTOR: Final = {"interrupt", "exception", "software-interrupt", "start-up"}


@dataclass(frozen=True, slots=True)
class Clock:
    """What the host's time-stamp counter says of CLOCK_MONOTONIC."""

    time_ns: int
    tsc: int
    tsc_khz: int

    def time_of(self, tsc: int) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return self.time_ns + (tsc - self.tsc) * 1_000_000 // self.tsc_khz


def records(portion: Json, clock: Clock, *, instructions: bool) -> Iterator[dict[str, Any]]:
    """The records of one line of the socket, as facts; the lost ones first.

    Without `instructions` those are left out that are there because another client wants them.
    """
    if portion["lost"]:
        yield {"kind": "lost", "vcpu": portion["vcpu"], "records": portion["lost"]}
    for record in _RECORD.iter_unpack(base64.b64decode(portion["records"])):
        number, tsc, rip, kind, detail, *data = record
        if kind == _INSTRUCTION and not instructions:
            continue
        yield {
            "kind": _KINDS[kind],
            "vcpu": portion["vcpu"],
            "number": number,
            "time_ns": clock.time_of(tsc),
            "rip": rip,
            **_FACTS[kind](detail, data, rip),
        }


def _exit(detail: int, data: list[int], _: int) -> dict[str, Any]:
    reason = _REASONS.get(detail, f"{detail:#x}")
    found: dict[str, Any] = {"reason": reason}
    match reason:
        case "io" | "mmio" | "msr":
            is_write = bool(data[3] & 1)
            place = {"io": "port", "mmio": "gpa", "msr": "msr"}[reason]
            found |= {place: data[0], "write": is_write, "size": data[2]}
            found |= {"value": data[1]} if is_write else {}
            found |= {"count": data[3] >> 32} if data[3] >> 32 > 1 else {}
        case "hypercall":
            found |= {"number": data[0], "arguments": data[1:]}
        case "debug":
            found |= {"vector": data[0], "dr6": data[1]}
        case "memory-fault":
            found |= {"gpa": data[0]}
        case "unknown":
            found |= {"bytes": _code(data)}
    return found


def _answer(_: int, data: list[int], __: int) -> dict[str, Any]:
    return {"value": data[0], "size": data[1]}


def _event(detail: int, data: list[int], _: int) -> dict[str, Any]:
    event = _EVENTS[detail]
    found: dict[str, Any] = {"event": event}
    if event == "suspended":
        return found | {"hypercall": data[0], "vp_index": data[1]}
    found |= {"vector": data[0]} if event in _WITH_VECTOR else {}
    return found | ({"error_code": data[1]} if data[2] else {})


def _instruction(detail: int, data: list[int], rip: int) -> dict[str, Any]:
    # The decoder takes megabytes, and a server's command line knows this module.
    from kvmshim.observe.disassembly import disassemble

    code = bytes.fromhex(_code(data))
    text, length = disassemble(code, detail, rip)
    return {"bits": detail, "linear": data[3], "bytes": code[:length].hex(), "text": text}


_FACTS: Final[tuple[Callable[[int, list[int], int], dict[str, Any]], ...]] = (
    _exit,
    _answer,
    _event,
    _instruction,
)


def _code(data: list[int]) -> str:
    return b"".join(word.to_bytes(8, "little") for word in data[:2])[: data[2]].hex()


def line(vm: str, record: Json, begin_ns: int) -> str:
    """A record as a line; times are seconds since `begin_ns`."""
    who = f"{vm}/{record['vcpu']}"
    if record["kind"] == "lost":
        return f"{'':>14} {who}  --- lost {record['records']} records ---"
    seconds = (record["time_ns"] - begin_ns) / 1e9
    return f"{seconds:14.6f} {who}  {record['rip']:#018x}  {_TEXTS[record['kind']](record)}"


def _exit_text(record: Json) -> str:
    words = [f"exit {record['reason']}"]
    if "write" in record:
        words.append("write" if record["write"] else "read")
    for name in ("port", "gpa", "msr", "size", "count", "value", "vector", "dr6", "bytes"):
        if name in record:
            value = record[name]
            plain = name in ("size", "count", "bytes")
            words.append(f"{name} {value}" if plain else f"{name} {value:#x}")
    if record["reason"] == "hypercall":
        arguments = ", ".join(f"{argument:#x}" for argument in record["arguments"])
        words.append(f"{record['number']:#x}({arguments})")
    return " ".join(words)


def _answer_text(record: Json) -> str:
    return f"answer value {record['value']:#x} size {record['size']}"


def _event_text(record: Json) -> str:
    words = [f"event {record['event']}"]
    words += [f"{name} {record[name]:#x}" for name in _OF_EVENTS if name in record]
    return " ".join(words)


def _instruction_text(record: Json) -> str:
    return f"{record['bytes']:<22} {record['text']}"


_TEXTS: Final[dict[str, Callable[[Json], str]]] = {
    "exit": _exit_text,
    "answer": _answer_text,
    "event": _event_text,
    "instruction": _instruction_text,
}
