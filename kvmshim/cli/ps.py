"""`kvmshim ps`."""

import argparse
import json
import time
from typing import Any

from kvmshim.cli.wiring import Wiring
from kvmshim.observe import standing
from kvmshim.observe.vms import all_vms

_DESCRIPTION = """\
List the VMs of all kvmshim daemons that you may ask (your own, and everybody's as root), with each
vCPU's state, instructions per second, and exits by reason. Guests and clients notice nothing.
"""
_SHORTEST_SECONDS = 0.05


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser("ps", help="list running VMs and vCPUs", description=_DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="write JSON, with all there is to tell")
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=0.3,
        help="time between the two looks that instructions per second need (default: 0.3)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, _wiring: Wiring) -> int:
    before = [dict(vm.facts) for vm in all_vms()]
    if before:
        time.sleep(max(arguments.interval, _SHORTEST_SECONDS))
    vms = standing.with_rates(before, [dict(vm.facts) for vm in all_vms()])
    if arguments.json:
        print(json.dumps(vms, indent=2))
    elif vms:
        _print_table(vms)
    else:
        print("no VM runs at the moment")
    return 0


def _print_table(vms: list[dict[str, Any]]) -> None:
    # It takes its time to load; other commands do without.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("VM", "COMMAND", "VCPU", "STATE", "INSTR/S", "EXITS", "BY REASON"):
        right = head in ("VCPU", "INSTR/S", "EXITS")
        table.add_column(head, justify="right" if right else "left", no_wrap=head == "VM")
    for vm in vms:
        rows = [_cells(vcpu) for vcpu in vm["vcpus"]] or [("", "no vCPU yet")]
        for number, row in enumerate(rows):
            whose = ("", "") if number else (vm["vm"], vm["command"])
            table.add_row(*whose, *row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _cells(vcpu: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(vcpu["vcpu"]),
        standing.state_text(vcpu["state"]),
        standing.rate_text(vcpu["instructions_per_second"]),
        str(vcpu["exits"]["total"]),
        standing.exits_text(vcpu["exits"]),
    )
