"""Options about the processors of guests, which the commands share that have guests."""

import argparse
from dataclasses import dataclass

from microv.abi_gen import MV_MAX_CODE_CACHE_MIB


@dataclass(frozen=True, slots=True)
class Processor:
    """What the options say; None where one is not given."""

    cpu: str | None = None
    code_cache_mib: int | None = None
    pin_vcpus: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Processor":
        """Those of a command line."""
        return cls(arguments.cpu, arguments.code_cache, arguments.pin_vcpus)


def add_processor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--cpu",
        choices=["intel", "amd"],
        help="the maker of the processor that guests see (default: the host's)",
    )
    parser.add_argument(
        "--code-cache",
        metavar="MIB",
        type=_code_cache,
        help="memory that the translated code of a VM may take, in MiB (default: 256)",
    )
    parser.add_argument(
        "--pin-vcpus",
        action="store_true",
        help="keep each thread that runs a vCPU on one processor of the host, with the thread that "
        "serves it: exits are faster, but threads that it starts stay there too",
    )


def _code_cache(text: str) -> int:
    mib = int(text) if text.isdecimal() else 0
    if not 1 <= mib <= MV_MAX_CODE_CACHE_MIB:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of MiB from 1 to {MV_MAX_CODE_CACHE_MIB}"
        )
    return mib
