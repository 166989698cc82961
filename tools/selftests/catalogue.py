"""What is known of each program: `catalogue.toml`, whose head says what its keys mean."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tools.report import Verdict

PATH = Path(__file__).with_name("catalogue.toml")
_LIMIT_SECONDS = 120
_KEYS = {"tier", "ci", "arguments", "cpu", "expect", "why", "seconds", "alone", "stalled"}


@dataclass(frozen=True)
class Entry:
    """One program."""

    path: str
    """Below the folder of the programs."""
    tier: int
    ci: bool
    arguments: list[str]
    cpu: str
    """The vendor that `kvmshim run` is told; empty for the host's."""
    expected: frozenset[Verdict]
    why: str
    """Why it has arguments or a vendor, runs alone, skips or fails."""
    limit_seconds: float
    alone: bool
    """Not to be run beside another."""
    stalled: str
    """Part of what it says where it fails because the machine was too busy, or nothing."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def with_patience(self, times: int) -> Self:
        """The same, allowed to take so many times as long."""
        return replace(self, limit_seconds=self.limit_seconds * times)


def load(path: Path = PATH) -> list[Entry]:
    """All entries, by tier and then as they are written."""
    with path.open("rb") as file:
        tables = tomllib.load(file)
    entries = [_entry(name, table) for name, table in tables.items()]
    return sorted(entries, key=lambda entry: entry.tier)


def _entry(path: str, table: dict[str, Any]) -> Entry:
    expected = frozenset(Verdict(word) for word in table.get("expect", "pass").split(" or "))
    entry = Entry(
        path,
        table["tier"],
        table.get("ci", True),
        table.get("arguments", "").split(),
        table.get("cpu", ""),
        expected,
        table.get("why", ""),
        table.get("seconds", _LIMIT_SECONDS),
        table.get("alone", False),
        table.get("stalled", ""),
    )
    unusual = entry.arguments or entry.cpu or entry.alone or expected != {Verdict.PASS}
    if unusual and not entry.why:
        raise ValueError(f"{path} has no `why`")
    unknown = table.keys() - _KEYS
    if unknown:
        raise ValueError(f"{path} has unknown keys: {unknown}")
    return entry
