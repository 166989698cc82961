"""Guest code from assembler text, through the GNU assembler in Intel syntax."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path


@cache
def assemble(source: str, *, bits: int, origin: int) -> bytes:
    """Machine code of `source` for a 16, 32 or 64-bit code segment, with labels from `origin`."""
    text = f".intel_syntax noprefix\n.code{bits}\n.globl _start\n_start:\n{source}\n"
    with tempfile.TemporaryDirectory() as directory:
        object_file = Path(directory, "guest.o")
        image = Path(directory, "guest.bin")
        tell("as", "--64", "-o", object_file, "-", text=text)
        tell(
            "ld",
            "-melf_x86_64",
            f"-Ttext={origin:#x}",
            "--oformat=binary",
            "-o",
            image,
            object_file,
        )
        return image.read_bytes()


def tell(*command: str | Path, text: str = "") -> None:
    """Runs a tool of binutils; its message and `text` are in the error if it fails."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"{result.stderr}\n{text}")
