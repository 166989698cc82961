"""`kvmshim trace`."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from kvmshim.cli.regs import add_vm_arguments
from kvmshim.cli.wiring import Wiring
from kvmshim.observe.trace import Clock, line, records
from kvmshim.observe.vms import connect, find_vcpus, find_vm

_DESCRIPTION = """\
Show what a VM's vCPUs do as they do it: exits with what they are about, the answers to them, and
events that are injected. Ends with the VM, with ^C, or after COUNT records. A guest never waits for
who reads too slowly: records are lost then, and counted.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser(
        "trace", help="show exits, events and instructions", description=_DESCRIPTION
    )
    add_vm_arguments(parser)
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="also every instruction; the guest single-steps, many times slower",
    )
    parser.add_argument("--count", metavar="COUNT", type=int, help="end after so many records")
    parser.add_argument("--json", action="store_true", help="write a JSON object a line")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, _wiring: Wiring) -> int:
    vm = find_vm(arguments.vm)
    vcpus = find_vcpus(vm, arguments.vcpu)
    with connect(vm) as daemon:
        answers = daemon.listen(
            "trace", vm=vm.name, vcpus=vcpus, instructions=arguments.instructions
        )
        clock = Clock(**next(answers)["clock"])
        try:
            found = _all(answers, clock, instructions=arguments.instructions)
            for record in itertools.islice(found, arguments.count):
                if arguments.json:
                    print(json.dumps({"vm": vm.name, **record}))
                else:
                    print(line(vm.name, record, clock.time_ns))
            sys.stdout.flush()
        except KeyboardInterrupt:
            return 0
        except BrokenPipeError:
            # Who read has seen enough, and there is nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _all(answers: Iterator[Any], clock: Clock, *, instructions: bool) -> Iterator[dict[str, Any]]:
    for answer in answers:
        if answer.get("ended"):
            return
        yield from records(answer, clock, instructions=instructions)
        sys.stdout.flush()
