"""`kvmshim serve`."""

import argparse
import grp
import os
from typing import Any

from kvmshim.cli.processor import Processor, add_processor_options
from kvmshim.cli.profile import add_profile_options, choose
from kvmshim.cli.wiring import Wiring
from kvmshim.device.cuse import CuseDoor
from kvmshim.device.door import Access, Door, DoorError
from kvmshim.device.fuse import FuseDoor
from kvmshim.device.janitor import Expect
from kvmshim.device.serve import serve
from kvmshim.device.workplace import Service, Workplace

_DESCRIPTION = """\
Serve a /dev/kvm in the foreground until SIGTERM, SIGINT or SIGHUP. Needs root. Prints a line when
clients can come, and notifies systemd if it asked (NOTIFY_SOCKET). Leaves no mount and no node.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser(
        "serve", help="serve a /dev/kvm for everybody or for containers", description=_DESCRIPTION
    )
    door = parser.add_mutually_exclusive_group(required=True)
    door.add_argument(
        "--fuse",
        metavar="PATH",
        help="mount on PATH, a file that is made if it is missing; bind it where you want it",
    )
    door.add_argument(
        "--cuse", action="store_true", help="make a character device (kernel module cuse)"
    )
    parser.add_argument(
        "--name", default="kvm", help="with --cuse: the device is /dev/NAME (default: kvm)"
    )
    parser.add_argument(
        "--mode",
        type=_mode,
        help="permissions in octal (default: 600; with --group: 660)",
    )
    parser.add_argument("--group", type=_group, help="a group, by name or number, that may open it")
    add_processor_options(parser)
    add_profile_options(parser)
    parser.set_defaults(run=_run)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is not permission bits in octal")
    return mode


def _group(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError as error:
        raise argparse.ArgumentTypeError(f"there is no group {text!r}") from error


def access_of(mode: int | None, group: int | None) -> Access:
    """Owner and permissions that the options ask for."""
    if mode is None:
        mode = 0o600 if group is None else 0o660
    return Access(mode, os.getuid(), os.getgid() if group is None else group)


def _run(arguments: argparse.Namespace, wiring: Wiring) -> int:
    if "/" in arguments.name or not arguments.name:
        raise DoorError(f"{arguments.name!r} cannot be the name of a device")
    access = access_of(arguments.mode, arguments.group)

    def make_door(workplace: Workplace, expect: Expect) -> Door:
        if arguments.cuse:
            return CuseDoor(arguments.name, access, workplace, expect)
        return FuseDoor(arguments.fuse, access, workplace, expect)

    choose(arguments)

    def make_service() -> Service:
        return wiring.make_service(Processor.of(arguments))

    where = f"--cuse {arguments.name}" if arguments.cuse else f"--fuse {arguments.fuse}"
    serve(make_door, make_service, wiring.beside(f"serve {where}"))
    return 0
