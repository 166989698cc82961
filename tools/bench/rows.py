"""The rows of `programs`, and one run of one of them."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SOURCES: Final = Path(__file__).with_name("programs")
# Nothing is vectorized behind the back of who counts instructions; the row SSE2 asks for it.
_COMPILE: Final = ("gcc", "-O2", "-fno-tree-vectorize", "-Wall", "-Werror", "-static")
_ANSWER: Final = re.compile(r"^@@ (\S+) (\d+) ([0-9a-f]+)$")


@dataclass(frozen=True)
class Row:
    """One kind of work."""

    name: str
    group: str
    milliseconds: int
    """How long it shall take natively, with the count that is chosen for it."""


@dataclass(frozen=True)
class Sample:
    """What a row's program said when it was done."""

    nanoseconds: int
    digest: str
    """Of what was worked out: it depends only on the count."""


def build(program: Path) -> None:
    """Compiles all rows into one file that needs no other."""
    subprocess.run([*_COMPILE, "-o", program, *sorted(_SOURCES.glob("*.c"))], check=True)


def listed(program: Path) -> list[Row]:
    """Those that a program has, in their order."""
    printed = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split() for line in printed.splitlines()]
    return [Row(name, group, int(milliseconds)) for name, group, milliseconds in rows]


def sample(name: str, answer: str) -> Sample:
    """An answer understood. ValueError if it is none of this row's."""
    found = _ANSWER.match(answer.strip())
    if not found or found[1] != name:
        raise ValueError(f"{name}: not an answer: {answer.strip()!r}")
    return Sample(int(found[2]), found[3])
