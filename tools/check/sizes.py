"""A file has one subject: none written by hand is longer than 800 lines."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAX_LINES: Final = 800
_SUFFIXES: Final = {".c", ".h", ".py", ".rs", ".S", ".sh"}


def findings(root: Path) -> Iterator[str]:
    """A sentence for each file that is too long."""
    for path in tracked(root):
        if path.suffix in _SUFFIXES and not path.stem.endswith("_gen"):
            lines = len(path.read_bytes().splitlines())
            if lines > _MAX_LINES:
                yield f"{path.relative_to(root)}: {lines} lines, at most {_MAX_LINES}"


def tracked(root: Path) -> list[Path]:
    """The files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [root / name for name in names.split("\0") if name and (root / name).is_file()]
