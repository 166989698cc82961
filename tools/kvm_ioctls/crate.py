"""The crate as crates.io has it: fetched by cargo, copied below `build/`, its tests built there."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

VERSION: Final = "0.25.1"

_ROOT: Final = Path(__file__).resolve().parents[2]
_BUILD: Final = _ROOT / "build/kvm_ioctls"
_WISH: Final = f"""\
[package]
name = "wish"
edition = "2024"

[dependencies]
kvm-ioctls = "={VERSION}"

[workspace]
"""


def build_tests() -> Path:
    """The program of the crate's unit tests."""
    source = _BUILD / f"kvm-ioctls-{VERSION}"
    if not source.is_dir():
        shutil.copytree(_fetch(), source)
    command = ["cargo", "test", "--quiet", "--lib", "--no-run", "--message-format=json"]
    messages = _output([*command, "--target-dir", str(_BUILD / "target")], source)
    programs = [json.loads(line).get("executable") for line in messages.splitlines()]
    return Path(next(program for program in programs if program))


def _fetch() -> Path:
    """Where cargo keeps the crate's source."""
    wish = _BUILD / "wish"
    (wish / "src").mkdir(parents=True, exist_ok=True)
    (wish / "Cargo.toml").write_text(_WISH)
    (wish / "src/lib.rs").touch()
    metadata = json.loads(_output(["cargo", "metadata", "--quiet", "--format-version=1"], wish))
    packages = {package["name"]: package for package in metadata["packages"]}
    return Path(packages["kvm-ioctls"]["manifest_path"]).parent


def _output(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
