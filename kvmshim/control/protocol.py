"""The lines of the control socket: JSON objects, requests one way, answers the other.

docs/control.md describes them. Nothing here knows what is asked.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

VERSION: Final = 1
LONGEST_LINE: Final = 16 * 1024
"""Bytes of a request, its end of line included."""

Json = Mapping[str, Any]


class RequestError(Exception):
    """What was asked for is not to be had. `kind` is for programs, the message for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what to do, and what with."""

    do: str
    number: int | None = None
    """What the answers are to repeat."""
    arguments: Json = field(default_factory=dict)

    def text(self, name: str) -> str:
        """An argument that must be a text."""
        value = self.arguments.get(name)
        if not isinstance(value, str):
            raise RequestError("bad-request", f"{self.do!r} wants a text {name!r}")
        return value

    def integer(self, name: str) -> int:
        """An argument that must be a number, not below 0."""
        value = self.arguments.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise RequestError("bad-request", f"{self.do!r} wants a number {name!r}")
        return value

    def flag(self, name: str) -> bool:
        """An argument that is true or false, and false where it is left out."""
        value = self.arguments.get(name, False)
        if not isinstance(value, bool):
            raise RequestError("bad-request", f"{name!r} is true or false")
        return value


def encode(message: Json) -> bytes:
    """A line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object on a line. RequestError: there is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError("bad-request", "the line is not JSON") from error
    if not isinstance(message, dict):
        raise RequestError("bad-request", "the line is not a JSON object")
    return message


def parse_request(line: bytes) -> Request:
    """The request on a line. RequestError."""
    message = decode(line)
    do, number = message.pop("do", None), message.pop("id", None)
    if not isinstance(do, str):
        raise RequestError("bad-request", "there is no 'do' that says what to do")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise RequestError("bad-request", "'id' is not a whole number")
    return Request(do, number, message)


def greeting(pid: int, label: str) -> bytes:
    """What a daemon says first."""
    return encode({"kvmshim": VERSION, "pid": pid, "label": label})


def answer(request: Request, value: Json) -> bytes:
    """A line for what was found."""
    return encode({"id": request.number, "answer": value})


def refusal(number: int | None, error: RequestError) -> bytes:
    """A line for what was not."""
    return encode({"id": number, "error": {"kind": error.kind, "message": str(error)}})


class Lines:
    """Cuts what arrives into lines."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._rest = bytearray()
        self._longest = longest

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that have ended with `data`, without their ends.

        RequestError: one is longer than allowed, and so is what comes next.
        """
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in lines:
            self._check(line)
            yield bytes(line)
        self._check(rest)

    def _check(self, line: bytes | bytearray) -> None:
        if len(line) >= self._longest:
            raise RequestError("bad-request", f"a line has at most {self._longest} bytes")
