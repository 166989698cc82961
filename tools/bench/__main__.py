"""`make bench`: what an exit, a start, an event, a loop and whole programs cost.

Programs run natively, in a guest on kvmshim and in the same guest on QEMU's TCG, in turns.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tools import report
from tools.bench import device, initramfs, memory, plot, rounds, rows, table
from tools.bench.machines import Guests, Native
from tools.bench.priority import favour
from tools.bench.results import Figures
from tools.guests import packages
from tools.guests.vmm.qemu import QEMU

_BUILD = Path(__file__).resolve().parents[2] / "build/bench"
_WIDTH = 170
_MEMORY_BACKED = Path("/dev/shm")


def main() -> int:
    """Measures, prints, writes the document; 1 if a row failed, 2 if something is not to be had."""
    arguments = _parser().parse_args()
    console = Console(soft_wrap=True, width=_WIDTH)
    load = f"load average {os.getloadavg()[0]:.1f} before"
    console.print(f"{report.machine()}, {load}")
    os.nice(arguments.nice)
    favour(os.getpid(), arguments.nice)
    beside = []
    if not arguments.guests and not arguments.names:
        for printed in device.tables(arguments.rounds, arguments.nice):
            console.print(printed)
            beside.append(table.plain(printed))
    if arguments.device:
        return 0
    try:
        figures, memory_said = _guests(arguments, console)
    except packages.Unavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return 2
    title = f"programs: medians of {arguments.guest_rounds} rounds"
    console.print(table.terminal(figures, title))
    summary = table.summary(figures)
    if arguments.document:
        text = "\n".join([table.markdown(figures), f"{memory_said}\n", *beside])
        _document(arguments.document, figures, f"{summary}; {load}", f"{title}\n\n{text}")
    print(summary)
    return 1 if any(row.failures for row in figures) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="only programs with one of these in their name")
    parser.add_argument("--device", action="store_true", help="no programs")
    parser.add_argument("--guests", action="store_true", help="only programs")
    parser.add_argument("--rounds", type=int, default=15, help="of all but the programs")
    parser.add_argument("--guest-rounds", type=int, default=3, help="of the programs")
    parser.add_argument(
        "--document",
        type=Path,
        help="write the tables to the end of this file, and the programs' plot beside it",
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        help="added to the niceness of all that is measured: -19, as root, on a machine at work",
    )
    return parser


def _guests(arguments: argparse.Namespace, console: Console) -> tuple[list[Figures], str]:
    """All rounds, and what is to be said of memory. packages.Unavailable."""
    packages.install_programs()
    _BUILD.mkdir(parents=True, exist_ok=True)
    program = _BUILD / "programs"
    rows.build(program)
    initramfs.build(_BUILD / "initramfs.gz", program)
    guests = Guests(packages.kernel(), _BUILD / "initramfs.gz", _BUILD, arguments.nice)
    memory_said = _memory(guests)
    console.print(memory_said)
    chosen = [
        row
        for row in rows.listed(program)
        if not arguments.names or any(name in row.name for name in arguments.names)
    ]
    # The guests' files are in memory, too.
    where = _MEMORY_BACKED if _MEMORY_BACKED.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="kvmshim-bench-", dir=where) as scratch:
        native = Native(program, packages.busybox(), Path(scratch))
        figures = rounds.run(chosen, native, guests, arguments.guest_rounds, console.print)
    return figures, memory_said


def _memory(guests: Guests) -> str:
    """A sentence about a Linux that has booted."""
    booted = guests.start("kvmshim")
    try:
        above = memory.above_guest_memory(booted.guest.process.pid, Path(QEMU).name)
    finally:
        booted.close()
    return (
        f"Server's memory beside the guest's, Linux booted on 1 vCPU: {above.resident >> 20} MiB"
        f" resident (goal: at most {memory.GOAL_MIB}), {above.share >> 20} MiB when what is mapped"
        " twice counts once."
    )


def _document(path: Path, figures: list[Figures], result: str, text: str) -> None:
    picture = path.with_suffix(".svg")
    subtitle = f"{report.machine()}, {packages.versions()}"
    picture.write_text(plot.svg(figures, "Times of the machine itself", subtitle))
    report.document(
        path,
        "tools.bench",
        versions=f"{packages.versions()} in the guests",
        result=result,
        table=f"![Times by program]({picture.name})\n\n{text}",
    )


if __name__ == "__main__":
    sys.exit(main())
