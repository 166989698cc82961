"""`make coverage`: line coverage of the interpreter, and the handlers that nothing reaches.

The crates below `cpu/` are built with rustc's own instrumentation; their tests and the oracle run;
`llvm-profdata` and `llvm-cov` of the same toolchain (rustup component `llvm-tools`) count. A
function of `cpu/interp/src/exec` whose every instance was never called is a finding.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_TARGET: Final = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target")) / "coverage"
_PACKAGES: Final = ["cpu-alu", "cpu-host", "cpu-mmu", "cpu-interp", "cpu-engine"]
_SUBJECT: Final = "cpu/interp/src/"
_HANDLERS: Final = "cpu/interp/src/exec/"
_CASES: Final = os.environ.get("CASES", "300000")

Function = tuple[str, int]


def _environment(profiles: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CARGO_TARGET_DIR": str(_TARGET),
        "RUSTFLAGS": "-C instrument-coverage",
        "LLVM_PROFILE_FILE": str(profiles / "%p-%m.profraw"),
    }


def _built(command: list[str], environment: dict[str, str]) -> list[str]:
    """Runs a cargo build; the executables it made."""
    line = ["cargo", *command, "--message-format=json"]
    result = subprocess.run(
        line, cwd=_ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    messages = (json.loads(message) for message in result.stdout.splitlines())
    return [message["executable"] for message in messages if message.get("executable")]


def _tool(name: str) -> str:
    sysroot = subprocess.run(
        ["rustc", "--print", "sysroot"], cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    found = sorted(Path(sysroot).glob(f"lib/rustlib/*/bin/{name}"))
    if not found:
        sys.exit(f"{name} is missing: rustup component add llvm-tools")
    return str(found[0])


def _measure() -> dict[str, Any]:
    profiles = _TARGET / "profiles"
    profiles.mkdir(parents=True, exist_ok=True)
    for old in profiles.glob("*.profraw"):
        old.unlink()
    environment = _environment(profiles)
    packages = [word for package in _PACKAGES for word in ("--package", package)]
    programs = _built(["test", "--quiet", "--no-run", *packages], environment)
    build = ["build", "--quiet", "--profile", "checked", "--package", "kvmshim-oracle"]
    oracle = _built(build, environment)
    # A test that fails, or an oracle that finds something, still covers.
    subprocess.run(
        ["cargo", "test", "--quiet", "--no-fail-fast", *packages],
        cwd=_ROOT,
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run(
        [oracle[0], "--cases", _CASES, "--show", "0"],
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    merged = profiles / "merged.profdata"
    raw = [str(path) for path in profiles.glob("*.profraw")]
    subprocess.run(
        [_tool("llvm-profdata"), "merge", "-sparse", *raw, "-o", str(merged)], check=True
    )
    objects = [word for program in programs + oracle for word in ("-object", program)]
    export = subprocess.run(
        [_tool("llvm-cov"), "export", "-format=text", f"-instr-profile={merged}", *objects[1:]],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    data: dict[str, Any] = json.loads(export.stdout)["data"][0]
    return data


def _print_files(data: dict[str, Any]) -> None:
    for file in sorted(data["files"], key=lambda file: str(file["filename"])):
        name = os.path.relpath(file["filename"], _ROOT)
        if name.startswith(_SUBJECT):
            lines = file["summary"]["lines"]
            print(
                f"{name:<50} {lines['covered']:>5} of {lines['count']:>5} lines"
                f" {lines['percent']:6.1f} %"
            )


def _calls(data: dict[str, Any]) -> dict[Function, int]:
    """How often each function below exec was called, all its instances together."""
    calls: dict[Function, int] = defaultdict(int)
    for function in data["functions"]:
        name = os.path.relpath(function["filenames"][0], _ROOT)
        if name.startswith(_HANDLERS):
            calls[(name, function["regions"][0][0])] += function["count"]
    return calls


def main() -> None:
    """Measures and prints."""
    data = _measure()
    _print_files(data)
    calls = _calls(data)
    missed = sorted(place for place, count in calls.items() if count == 0)
    for name, line in missed:
        text = (_ROOT / name).read_text().splitlines()[line - 1].strip()
        print(f"not reached: {name}:{line}: {text}")
    print(f"{len(calls)} functions in {_HANDLERS}, {len(missed)} not reached")


if __name__ == "__main__":
    main()
