"""Options about what is announced to programs, which the commands share that serve."""

import argparse

from kvmshim.abi import profiles

_MAX = 2**31 - 1
"""An ioctl returns an int."""
_NAME_LEN = 12
"""Three registers."""


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
        "--capability",
        type=_capability,
        action="append",
        default=[],
        metavar="NUMBER=ANSWER",
        help="what KVM_CHECK_EXTENSION answers for a number, whatever is there: to try a series "
        "under another number than its own (may be given again)",
    )
    parser.add_argument(
        "--hyperv-name",
        type=_hyperv_name,
        metavar="NAME",
        help="the hypervisor's name in KVM_GET_SUPPORTED_HV_CPUID (default: 'Linux KVM Hv'); "
        "Linux takes enlightenments of 'Microsoft Hv' only, which QEMU does not say with "
        "hv-passthrough",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="demand what the documentation of a patch series demands where its code does not",
    )


def choose(arguments: argparse.Namespace) -> None:
    """Has what is asked from now on answered as the options say."""
    profiles.choose(
        arguments.profile,
        strict=arguments.strict,
        answers=dict(arguments.capability),
        hyperv_name=arguments.hyperv_name,
    )


def _capability(text: str) -> tuple[int, int]:
    number, equals, answer = text.partition("=")
    try:
        if not equals:
            raise ValueError
        pair = (int(number, 0), int(answer, 0))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not NUMBER=ANSWER") from None
    if not all(0 <= part <= _MAX for part in pair):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is out of range: 0 to {_MAX}")
    return pair


def _hyperv_name(text: str) -> bytes:
    if not text.isascii() or not text.isprintable() or not 1 <= len(text) <= _NAME_LEN:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not 1 to {_NAME_LEN} ASCII characters")
    return text.encode().ljust(_NAME_LEN, b"\0")


def _profile(name: str) -> str:
    if name in profiles.RESERVED:
        raise argparse.ArgumentTypeError(f"{name!r} is reserved for a series that is not there yet")
    if name not in profiles.PROFILES:
        known = ", ".join(profiles.PROFILES)
        raise argparse.ArgumentTypeError(f"{name[:40]!r} is none of {known}")
    return name
