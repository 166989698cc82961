"""`kvmshim`: argument parsing and exit statuses."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from kvmshim.cli import abi, check, fs, ps, regs, run, serve, trace
from kvmshim.cli.wiring import Wiring, default_wiring
from kvmshim.device.door import DoorError
from kvmshim.observe.daemon import ObserveError

_DESCRIPTION = """\
A /dev/kvm for machines that have none: programs that use KVM run unmodified, their guests on an
emulated x86-64 processor.
"""
_EPILOG = """\
examples:
  kvmshim check                       what this machine can do
  kvmshim abi                         which ioctls and capabilities there are
  kvmshim run -- ./my-vmm guest.img   one command with a /dev/kvm of its own
  kvmshim serve --fuse /run/kvm       a file to bind-mount into containers as /dev/kvm
  kvmshim serve --cuse                a real character device /dev/kvm
  kvmshim ps                          the VMs that run, and where their vCPUs are
"""
FAILURE = 125
"""Exit status of kvmshim's own failures; `run` passes on its command's otherwise."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="kvmshim",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in (run, serve, ps, regs, trace, fs, check, abi):
        command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None, wiring: Wiring | None = None) -> None:
    """Parse, do, and end the process."""
    logging.basicConfig(format="kvmshim: %(message)s", level=logging.WARNING)
    arguments = parser().parse_args(argv)
    try:
        status = arguments.run(arguments, wiring or default_wiring())
    except DoorError as error:
        print(f"kvmshim: {error}", file=sys.stderr)
        status = FAILURE
    except ObserveError as error:
        print(f"kvmshim: {error}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libfuse may be inside the engine; nothing waits for them.
    os._exit(status)
