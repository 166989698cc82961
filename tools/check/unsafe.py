"""`unsafe` is fenced: which Rust files may have it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.check.sizes import tracked

_FENCED: Final = (
    "cpu/host/",
    "cpu/mem/",
    "cpu/signal/",
    "cpu/translate/src/enter.rs",
    "cpu/translate/src/register_state.rs",
    "cpu/translate/src/stack.rs",
    "kvmshim/door/src/ffi.rs",
    "kvmshim/door/src/fuse.rs",
    "kvmshim/door/src/opener.rs",
    "kvmshim/door/src/root_page.rs",
    "kvmshim/door/src/run_area.rs",
    "kvmshim/door/src/shared_pages.rs",
    "kvmshim/door/src/vcpu.rs",
    "kvmshim/door/src/vm_ffi.rs",
    "microv/rust/src/ffi.rs",
    "microv/rust/src/page.rs",
    "microv/rust/src/slots.rs",
    "tools/oracle/src/child.rs",
    "tools/oracle/src/guest_memory.rs",
    "tools/oracle/src/shared.rs",
)

_UNSAFE: Final = re.compile(r"^\s*(?!//).*\bunsafe\b(?!_)")


def findings(root: Path) -> Iterator[str]:
    """A sentence for each `unsafe` outside of the fence; tests may check natively."""
    for path in tracked(root):
        name = path.relative_to(root).as_posix()
        if path.suffix != ".rs" or name.startswith(_FENCED) or "/tests/" in name:
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if _UNSAFE.match(line):
                yield f"{name}:{number}: unsafe outside of the fence"
