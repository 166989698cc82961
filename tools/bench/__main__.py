"""`make bench`: what an exit, a start and an instruction cost.

The anchor of an exit is the bare round trip of an ioctl that the same session answers at once
(KVMSHIM_ECHO), taken in turns with KVM_RUN in one run: their ratio is what kvmshim adds.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.server import serving

_SOURCE = Path(__file__).with_name("client.c")


def main() -> None:
    """Builds the client, serves a device, prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds the medians are taken of")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="kvmshim-bench-") as folder:
        client = Path(folder, "client")
        subprocess.run(["gcc", "-O2", "-o", client, _SOURCE], check=True)
        with serving() as server:
            printed = subprocess.run(
                [client, server.path, str(rounds)], check=True, stdout=subprocess.PIPE, text=True
            ).stdout
    figures = {name: float(value) for name, value in map(str.split, printed.splitlines())}
    Console().print(_table(figures, rounds))


def _table(figures: dict[str, float], rounds: int) -> Table:
    table = Table(title=f"medians of {rounds} interleaved rounds")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    rows = [
        ("exits (KVM_RUN to KVM_RUN)", f"{1e6 / figures['exit_us']:,.0f}", "per second"),
        ("one exit", f"{figures['exit_us']:.2f}", "µs"),
        ("bare ioctl round trip (echo)", f"{figures['echo_us']:.2f}", "µs"),
        ("exit / echo", f"{figures['exit_per_echo']:.2f}", ""),
        ("fd passing (KVM_CREATE_VM)", f"{figures['create_vm_us']:,.0f}", "µs"),
        ("KVM_CREATE_VM to first exit", f"{figures['first_exit_us']:,.0f}", "µs"),
        ("tier 0, hot loop", f"{figures['mips']:.0f}", "million instructions/s"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main()
