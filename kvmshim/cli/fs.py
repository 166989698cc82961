"""`kvmshim fs`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from kvmshim.cli.wiring import Wiring
from kvmshim.observe.daemon import ObserveError

_DESCRIPTION = """\
Show the VMs of all kvmshim daemons that you may ask as files, to read only, until a signal or
`fusermount3 -u MOUNTPOINT`: vms/PID-N/{command,memory,slots,irqchip,exits} and
vms/PID-N/vcpus/N/{state,regs,lapic,exits,instructions}. A file that is opened says what is so then.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser("fs", help="show VMs as files", description=_DESCRIPTION)
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, _wiring: Wiring) -> int:
    try:
        # Not before it is needed: it is not everywhere.
        from kvmshim.observe import mount
    except ImportError as error:
        raise ObserveError(
            f"fs needs pyfuse3 ({error}); where libfuse3-dev, python3-dev, pkg-config and gcc are, "
            "`pip install 'kvmshim[fs]'` makes it"
        ) from error
    mountpoint = Path(arguments.mountpoint).absolute()

    def ready() -> None:
        print(f"kvmshim: VMs are in {mountpoint}/vms", file=sys.stderr, flush=True)

    mount.serve(mountpoint, ready)
    return 0
