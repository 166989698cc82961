"""Which of KVM's names the tests speak of in their code."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.server import ROOT

DRIVEN_BY_THE_TABLE: Final = {
    "rows.py",
    "test_bad_input_costs.py",
    "test_bad_lists.py",
    "test_bad_numbers.py",
    "test_bad_pointers.py",
    "test_bad_values.py",
    "test_inner_pointers.py",
    "test_misaligned.py",
    "test_unknown_ioctl.py",
}
"""Tests of what every ioctl has in common; they are no tests of what one does."""


def files() -> list[Path]:
    """The tests that play a client and know what an ioctl means, and what they share."""
    tests = (ROOT / "tests/ioctl").glob("*.py")
    return [path for path in tests if path.name not in DRIVEN_BY_THE_TABLE]


def names(path: Path) -> Iterator[str]:
    """Names of Linux' in the code of a file: used, or imported to be used."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                if name.startswith("KVM"):
                    yield name


def spoken_of() -> set[str]:
    """All names that some test speaks of."""
    return {name for path in files() for name in names(path)}
