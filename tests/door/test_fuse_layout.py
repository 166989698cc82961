"""The C declarations of `fuse.h` against the installed headers."""

import json
import subprocess
from pathlib import Path

import pytest

from kvmshim.device import fuse_ffi

STRUCTS = (
    "stat",
    "fuse_entry_param",
    "fuse_ctx",
    "fuse_args",
    "fuse_conn_info",
    "fuse_file_info",
    "fuse_lowlevel_ops",
    "fuse_custom_io",
    "cuse_info",
    "cuse_lowlevel_ops",
)
HEADERS = Path("/usr/include/fuse3/cuse_lowlevel.h")


def c_program() -> str:
    lines = [
        "#define FUSE_USE_VERSION 312",
        "#define _FILE_OFFSET_BITS 64",
        "#include <stdio.h>",
        "#include <stddef.h>",
        "#include <sys/stat.h>",
        "#include <cuse_lowlevel.h>",
        "int main(void) {",
    ]
    for struct in STRUCTS:
        _, offsets = fuse_ffi.size_and_offsets(struct)
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        lines += [
            f'printf("{struct}.{name} %zu\\n", offsetof(struct {struct}, {name}));'
            for name in offsets
        ]
    # The bit fields by their effect.
    lines += [
        "struct fuse_file_info fi = {0}; fi.noflush = 1;",
        'printf("noflush %u\\n", *((unsigned *)&fi + 1));',
        "return 0; }",
    ]
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.skipif(not HEADERS.exists(), reason="the headers of libfuse3 are not installed")
def test_layouts_are_those_of_the_headers(tmp_path: Path) -> None:
    source, binary = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(c_program())
    include = f"-I{HEADERS.parent}"
    subprocess.run(["gcc", include, "-o", binary, source], check=True)
    printed = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    in_c = dict(line.split() for line in printed.splitlines())
    declared = {"noflush": str(fuse_ffi.noflush_bit())}
    for struct in STRUCTS:
        size, offsets = fuse_ffi.size_and_offsets(struct)
        declared[struct] = str(size)
        declared |= {f"{struct}.{name}": str(offset) for name, offset in offsets.items()}
    assert json.dumps(declared, indent=1, sort_keys=True) == json.dumps(
        in_c, indent=1, sort_keys=True
    )


def test_library_is_one_whose_layouts_are_known() -> None:
    assert fuse_ffi.OLDEST_VERSION <= fuse_ffi.version() < fuse_ffi.FIRST_UNKNOWN_VERSION
