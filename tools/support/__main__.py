"""`make gen`: docs/support.md and the marked section of README.md, from the code's own tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kvmshim.abi.notes import NOT_LINUX_EITHER
from kvmshim.cli.abi import markdown, tables
from kvmshim.dispatch.support import KINDS, capability_rows, ioctl_rows

_ROOT: Final = Path(__file__).resolve().parents[2]
_BEGIN: Final = "<!-- support: written by `make gen` -->\n"
_END: Final = "<!-- support: end -->\n"
_FILES: Final = {"system": "`/dev/kvm`", "vm": "a VM", "vcpu": "a vCPU"}

_HEAD: Final = """\
# What there is

Every ioctl of x86 KVM and every capability that it may announce, as `kvmshim abi` prints them;
written from the dispatch table by `make gen`. An ioctl that is not served gets the errno in its
row, the one Linux has for a number that it does not know.

"""


def support() -> str:
    """The text of docs/support.md."""
    parts = [f"## {title}\n\n{markdown(heads, rows)}\n" for title, heads, rows in tables()]
    return _HEAD + "\n".join(parts)


def summary() -> str:
    """The short table of README.md: how many of Linux' ioctls there are, and why not all."""
    rows: list[Sequence[str]] = []
    for kind in KINDS:
        rows_of_kind = (row for row in ioctl_rows() if row.kind == kind)
        found = [row for row in rows_of_kind if row.note not in NOT_LINUX_EITHER]
        served = sum(row.served for row in found)
        reasons = dict.fromkeys(row.note for row in found if not row.served)
        rows.append([_FILES[kind], f"{served} of {len(found)}", "; ".join(filter(None, reasons))])
    announced = sum(row.value != 0 for row in capability_rows())
    rows.append(["capabilities", f"{announced} of {len(capability_rows())}", ""])
    return markdown(["", "there", "not there, because"], rows) + "\n"


def main() -> None:
    """Writes both."""
    (_ROOT / "docs/support.md").write_text(support())
    readme = _ROOT / "README.md"
    before, _, rest = readme.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    readme.write_text(before + _BEGIN + summary() + _END + after)


if __name__ == "__main__":
    main()
