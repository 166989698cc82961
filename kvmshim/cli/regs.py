"""`kvmshim regs`."""

import argparse
import json
from typing import Any

from kvmshim.cli.wiring import Wiring
from kvmshim.observe.local_apic import local_apic_text
from kvmshim.observe.registers import registers_text
from kvmshim.observe.vms import connect, find_vcpus, find_vm

_DESCRIPTION = """\
Show the registers of a VM's vCPUs as they are between two instructions. A running guest pauses for
that moment; neither it nor its client notices.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser(
        "regs", help="show the registers of vCPUs", description=_DESCRIPTION
    )
    add_vm_arguments(parser)
    parser.add_argument("--lapic", action="store_true", help="show those of the local APIC instead")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def add_vm_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of commands about one VM."""
    parser.add_argument(
        "vm",
        metavar="VM",
        nargs="?",
        help="as `kvmshim ps` names it, or the process that has it; needless where there is one",
    )
    parser.add_argument(
        "vcpu", metavar="VCPU", nargs="?", type=int, help="number of a vCPU (default: all)"
    )


def _run(arguments: argparse.Namespace, _wiring: Wiring) -> int:
    vm = find_vm(arguments.vm)
    what, text = ("lapic", local_apic_text) if arguments.lapic else ("regs", registers_text)
    with connect(vm) as daemon:
        answers = [
            daemon.ask(what, vm=vm.name, vcpu=vcpu) for vcpu in find_vcpus(vm, arguments.vcpu)
        ]
    if arguments.json:
        print(json.dumps(answers, indent=2))
        return 0
    for answer in answers:
        print(f"VM {answer['vm']} vCPU {answer['vcpu']}")
        print(text(answer))
    return 0
