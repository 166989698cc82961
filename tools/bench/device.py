"""What an exit, a start, an event and a loop's turn cost, measured by small clients of a device.

The anchor of an exit is the bare round trip of an ioctl that the same session answers at once
(KVMSHIM_ECHO), that of an event two processes with eventfds, that of a guest's loop the same loop
on this CPU. Each is taken in turns with what is measured, in one run: the ratios are what kvmshim
adds.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

from rich.table import Table

from tests.server import serving
from tools.bench.priority import favour

_HERE = Path(__file__).parent
_CLIENTS = _HERE.parents[1] / "tests/clients"


def tables(rounds: int, niceness: int = 0) -> Iterator[Table]:
    """Builds the clients, serves a device in a session of this niceness; a table as each is done,
    medians of so many rounds."""
    with tempfile.TemporaryDirectory(prefix="kvmshim-bench-") as folder:
        exits = _build(folder, "exits", "exits.c")
        events = _build(folder, "events", "events.c", "events.S", _CLIENTS / "vm.c")
        loops = _build(folder, "loops", "loops.c", "loops.S", _CLIENTS / "vm.c")
        for options in ((), ("--pin-vcpus",)):
            how = "".join(f", {option}" for option in options)
            with serving(*options) as server:
                favour(server.pid, niceness)
                yield _exits(f"exits{how}", _run(exits, server.path, rounds), rounds)
                yield _events(f"events{how}", _run(events, server.path, rounds), rounds)
                if not options:
                    yield _loops(_run(loops, server.path, rounds), rounds)


def _build(folder: str, name: str, *sources: str | Path) -> Path:
    program = Path(folder, name)
    files = [_HERE / source for source in sources]
    subprocess.run(["gcc", "-O2", f"-I{_CLIENTS}", "-o", program, *files], check=True)
    return program


def _run(program: Path, device: Path, rounds: int) -> list[list[str]]:
    printed = subprocess.run(
        [program, device, str(rounds)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [line.split() for line in printed.splitlines()]


def _values(title: str, rounds: int, values: list[tuple[str, str, str]]) -> Table:
    """A table of figures with their values and units."""
    table = Table(title=f"{title}: medians of {rounds} interleaved rounds")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for row in values:
        table.add_row(*row)
    return table


def _exits(title: str, lines: list[list[str]], rounds: int) -> Table:
    figures = {name: float(value) for name, value in lines}
    values = [
        ("exits (KVM_RUN to KVM_RUN)", f"{1e6 / figures['exit_us']:,.0f}", "per second"),
        ("one exit", f"{figures['exit_us']:.2f}", "µs"),
        ("bare ioctl round trip (echo)", f"{figures['echo_us']:.2f}", "µs"),
        ("exit / echo", f"{figures['exit_per_echo']:.2f}", "goal: at most 1.25"),
        ("fd passing (KVM_CREATE_VM)", f"{figures['create_vm_us']:,.0f}", "µs"),
        ("KVM_CREATE_VM to first exit", f"{figures['first_exit_us']:,.0f}", "µs"),
    ]
    return _values(title, rounds, values)


def _events(title: str, lines: list[list[str]], rounds: int) -> Table:
    figures = {name: float(value) for name, value in lines}
    values = [
        ("irqfd, guest, ioeventfd", f"{1e6 / figures['guest_us']:,.0f}", "round trips per second"),
        (
            "two processes with eventfds",
            f"{1e6 / figures['echo_us']:,.0f}",
            "round trips per second",
        ),
        ("one trip through the guest", f"{figures['guest_us']:.2f}", "µs"),
        ("guest / processes", f"{figures['guest_per_echo']:.2f}", ""),
    ]
    return _values(title, rounds, values)


def _loops(lines: list[list[str]], rounds: int) -> Table:
    table = Table(title=f"loops: medians of {rounds} interleaved rounds")
    table.add_column("loop")
    for heading in ("guest, million instructions/s", "native", "guest / native time"):
        table.add_column(heading, justify="right")
    for name, guest, native, ratio in lines:
        table.add_row(name, f"{float(guest):,.0f}", f"{float(native):,.0f}", f"{float(ratio):.1f}")
    mean = [prod(float(line[column]) for line in lines) ** (1 / len(lines)) for column in (1, 2, 3)]
    table.add_row("geometric mean", f"{mean[0]:,.0f}", f"{mean[1]:,.0f}", f"{mean[2]:.1f}")
    return table
