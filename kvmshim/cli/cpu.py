"""`--cpu`, which the commands share that have guests."""

import argparse


def add_cpu_option(parser: argparse.ArgumentParser) -> None:
    """Add the option; None where it is not given."""
    parser.add_argument(
        "--cpu",
        choices=["intel", "amd"],
        help="the maker of the processor that guests see (default: the host's)",
    )
