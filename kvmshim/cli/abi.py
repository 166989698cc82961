"""`kvmshim abi`."""

import argparse
from collections.abc import Sequence
from typing import Any

from kvmshim.cli.wiring import Wiring
from kvmshim.device.door import DoorError

_DESCRIPTION = """\
List every ioctl of x86 KVM and every capability, and what this kvmshim does about each: an ioctl is
served or gets an errno, a capability has a value.
"""

IOCTLS = ("fd", "ioctl", "number", "state", "why")
CAPABILITIES = ("capability", "number", "value", "what it announces, or why it is 0")


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser(
        "abi", help="list the ioctls and capabilities that there are", description=_DESCRIPTION
    )
    parser.add_argument(
        "--markdown", action="store_true", help="write the tables as docs/support.md has them"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, _wiring: Wiring) -> int:
    table = markdown if arguments.markdown else columns
    for title, heads, rows in tables():
        print(f"## {title}\n" if arguments.markdown else f"{title}\n")
        print(table(heads, rows))
        print()
    return 0


def tables() -> list[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """Title, heads and rows of each table."""
    try:
        # Not before it is needed: other commands do without the engine.
        from kvmshim.dispatch.support import capability_rows, ioctl_rows
    except ImportError as error:
        raise DoorError(f"the engine is not built: {error}") from error
    ioctls = [(it.kind, it.name, f"{it.number:#x}", it.state, it.note) for it in ioctl_rows()]
    capabilities = [(it.name, str(it.number), str(it.value), it.note) for it in capability_rows()]
    return [("Ioctls", IOCTLS, [*ioctls]), ("Capabilities", CAPABILITIES, [*capabilities])]


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text, aligned."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
