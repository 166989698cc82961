"""`kvmshim run`."""

import argparse
import shlex
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from kvmshim.cli.processor import Processor, add_processor_options
from kvmshim.cli.profile import add_profile_options, choose
from kvmshim.cli.wiring import Wiring
from kvmshim.device.command import exit_like
from kvmshim.device.run import run
from kvmshim.device.workplace import Service

_DESCRIPTION = """\
Run a command that finds a /dev/kvm. Only the command and its children see it, and it is gone when
the command ends. Works as root and, where user namespaces are allowed, as any user.
"""
_EPILOG = """\
The exit status is the command's; a signal that ends the command ends kvmshim too. 125 means that
kvmshim failed, 126 that the command cannot be executed, 127 that it was not found.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser(
        "run",
        help="run one command with a private /dev/kvm",
        usage="kvmshim run [-h] [--cpu {intel,amd}] [--code-cache MIB] [--pin-vcpus] "
        "[--profile NAME] [--capability NUMBER=ANSWER] [--hyperv-name NAME] [--strict] "
        "[--host-cpuid] [--] CMD [ARG ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_processor_options(parser)
    add_profile_options(parser)
    parser.add_argument(
        "--host-cpuid",
        action="store_true",
        help="let the CPUID instruction show the host's processor, which may lack virtualization; "
        "the command is not traced then, so it may itself use ptrace",
    )
    parser.add_argument("command", metavar="CMD", help="the command")
    parser.add_argument(
        "arguments", metavar="ARG", nargs=argparse.REMAINDER, help="its arguments, options too"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, wiring: Wiring) -> int:
    argv = [arguments.command, *arguments.arguments]
    accompany = _alone if arguments.host_cpuid else wiring.accompany_command

    choose(arguments)

    def make_service() -> Service:
        return wiring.make_service(Processor.of(arguments))

    beside = wiring.beside(f"run {shlex.join(argv)}")
    exit_like(run(argv, make_service, wiring.prepare_command, accompany, beside))


def _alone(_pid: int, _child_signals: int) -> AbstractContextManager[None]:
    return nullcontext()
