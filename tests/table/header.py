"""The ioctls of the installed `linux/kvm.h`: their names, and their numbers as gcc has them."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_HEADER: Final = Path("/usr/include/linux/kvm.h")
_IOCTL: Final = re.compile(r"^#define\s+(KVM_\w+)\s+(?:\\\s*\n\s*)?_IO[WR]*\(KVMIO", re.MULTILINE)
_OTHERS: Final = re.compile(r"KVM_((S390|PPC|ARM)_|CREATE_SPAPR_TCE|ALLOCATE_RMA$|DIRTY_TLB$)")

WITHOUT_STRUCTURE: Final = {"KVM_SET_MEMORY_ALIAS"}
"""Their structures are gone from the header."""


def names() -> set[str]:
    """All but those that have another architecture's name."""
    return {name for name in _IOCTL.findall(_HEADER.read_text()) if not _OTHERS.match(name)}


def numbers(wanted: Sequence[str]) -> dict[str, int]:
    """By name; none whose structure the header lacks may be wanted."""
    lines = "".join(f'    printf("{name} %lu\\n", (unsigned long){name});\n' for name in wanted)
    source = f"#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {{\n{lines}}}\n"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "numbers")
        command = ["gcc", "-x", "c", "-o", str(program), "-"]
        subprocess.run(command, check=True, input=source, text=True)
        printed = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: int(number) for name, number in map(str.split, printed.splitlines())}
