"""Which crate may use which: layers of `docs/architecture.md`, downwards only."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ALLOWED: Final[dict[str, set[str]]] = {
    "cpu-defs": set(),
    "cpu-alu": set(),
    "cpu-mem": {"cpu-signal"},
    "cpu-chipset": set(),
    "cpu-host": {"cpu-signal"},
    "cpu-signal": set(),
    "cpu-mmu": {"cpu-mem", "cpu-defs"},
    "cpu-paravirt": {"cpu-defs"},
    "cpu-interp": {"cpu-alu", "cpu-host", "cpu-mem", "cpu-mmu", "cpu-defs"},
    "cpu-translate": {"cpu-interp", "cpu-host", "cpu-mem", "cpu-mmu", "cpu-defs"},
    "cpu-engine": {"cpu-translate", "cpu-interp", "cpu-alu", "cpu-mem", "cpu-mmu", "cpu-defs"},
    "microv": {"cpu-chipset", "cpu-engine", "cpu-mem", "cpu-paravirt", "cpu-defs"},
    "kvmshim-door": {"microv"},
    "kvmshim-gen": {"microv", "kvmshim-door"},
    "kvmshim-oracle": {"cpu-engine", "cpu-mem", "cpu-defs", "cpu-host"},
}

_KVM_CRATES: Final = {"kvm-bindings", "kvm-ioctls"}
_MAY_KNOW_KVM: Final = {"kvmshim-door", "kvmshim-gen"}


def findings(root: Path) -> Iterator[str]:
    """A sentence for each dependency against the table."""
    manifests = [*root.glob("cpu/*/Cargo.toml"), root / "microv/rust/Cargo.toml"]
    manifests += [root / "kvmshim/door/Cargo.toml", root / "tools/gen/Cargo.toml"]
    manifests += [root / "tools/oracle/Cargo.toml"]
    for manifest in manifests:
        content = tomllib.loads(manifest.read_text())
        name = content["package"]["name"]
        used = set(content.get("dependencies", {}))
        if name not in _ALLOWED:
            yield f"{manifest.relative_to(root)}: crate {name} is not in the table of layers"
            continue
        for other in sorted(used & _ALLOWED.keys() - _ALLOWED[name]):
            yield f"{manifest.relative_to(root)}: {name} may not use {other}"
        if name not in _MAY_KNOW_KVM:
            for other in sorted(used & _KVM_CRATES):
                yield f"{manifest.relative_to(root)}: {name} may not know KVM ({other})"
