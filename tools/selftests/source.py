"""The programs of `tools/testing/selftests/kvm`: Debian's source package, unpacked, built once.

The sources are built as they are, by their own Makefile. What is built is kept below
`build/selftests` as long as the package has the same version.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

PACKAGE: Final = "linux-source-6.1"
_ARCHIVE: Final = Path(f"/usr/src/{PACKAGE}.tar.xz")
_NEEDED: Final = [
    "Makefile",
    "Kbuild",
    "arch/x86",
    "include",
    "scripts",
    "tools/arch/x86",
    "tools/build",
    "tools/include",
    "tools/lib/rbtree.c",
    "tools/scripts",
    "tools/testing/selftests/kselftest.h",
    "tools/testing/selftests/kselftest_harness.h",
    "tools/testing/selftests/kvm",
    "tools/testing/selftests/lib.mk",
    "tools/testing/selftests/rseq",
    "usr",
]
"""Of the kernel's tree: the programs and what `make headers` wants for theirs."""


class Unavailable(Exception):
    """The programs cannot be had; the text says what to do."""


def built(directory: Path) -> Path:
    """The folder of the programs below `directory`, built now if it is not there.

    Unavailable where the package is missing and cannot be installed.
    """
    programs = directory / _version()
    if not programs.exists():
        shutil.rmtree(directory, ignore_errors=True)
        tree = directory / "tree"
        _unpack(tree)
        _build(tree, directory / "building")
        (directory / "building").rename(programs)
    return programs


def version() -> str:
    """The version of the installed package; empty if it is not installed."""
    query = ["dpkg-query", "--show", "--showformat=${Version}", PACKAGE]
    result = subprocess.run(query, capture_output=True, text=True, check=False)
    return result.stdout if _ARCHIVE.exists() else ""


def _version() -> str:
    if not version():
        _install()
    return version()


def _install() -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(
            f"the KVM selftests need the Debian package {PACKAGE}; install it and try again"
        )
    print(f"Installing {PACKAGE} (140 MB) for the KVM selftests", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--no-install-recommends", PACKAGE]):
        subprocess.run(
            ["apt-get", "-qq", *command], check=True, env=environment, stdout=subprocess.DEVNULL
        )


def _unpack(tree: Path) -> None:
    tree.mkdir(parents=True)
    members = [f"{PACKAGE}/{name}" for name in _NEEDED]
    subprocess.run(
        ["tar", "-xJf", _ARCHIVE, "-C", tree, "--strip-components=1", *members], check=True
    )


def _build(tree: Path, output: Path) -> None:
    headers = tree / "usr" / "include"
    _make(tree, "headers", "ARCH=x86_64")
    # sev_migrate_tests and another say TEST_ASSERT_EQ, which this version calls ASSERT_EQ, and the
    # exported headers use a macro of stddef.h without including it.
    extra = f"-DTEST_ASSERT_EQ=ASSERT_EQ -include {headers}/linux/stddef.h"
    _make(
        tree / "tools/testing/selftests/kvm",
        f"KHDR_INCLUDES=-isystem {headers}",
        f"EXTRA_CFLAGS={extra}",
        f"OUTPUT={output}",
    )


def _make(directory: Path, *arguments: str) -> None:
    """Says what went wrong when something does."""
    command = ["make", "--silent", f"--jobs={os.cpu_count()}", "-C", str(directory), *arguments]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        raise Unavailable(f"{' '.join(command)} failed:\n{result.stdout[-4000:]}")
