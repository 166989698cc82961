"""`--profile` and `--strict`, which the commands share that serve."""

import argparse

from kvmshim.abi import profiles


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--profile",
        type=_profile,
        default="default",
        metavar="NAME",
        help="which ABIs of patch series there are beside that of Linux: "
        f"{', '.join(profiles.PROFILES)} (default: all that do not contradict each other)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="demand what the documentation of a patch series demands where its code does not",
    )


def _profile(name: str) -> str:
    if name in profiles.RESERVED:
        raise argparse.ArgumentTypeError(f"{name!r} is reserved for a series that is not there yet")
    if name not in profiles.PROFILES:
        known = ", ".join(profiles.PROFILES)
        raise argparse.ArgumentTypeError(f"{name[:40]!r} is none of {known}")
    return name
