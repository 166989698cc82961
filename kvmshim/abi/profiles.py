"""Which ABIs that patch series propose are there beside that of Linux: `--profile`.

Series that never were in Linux claim numbers that others claim too: not all can be there at once.
The ioctls of the series below differ in their numbers from all others. The number of their
capability is in Linux that of another architecture, for which x86 answers 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kvmshim.abi import ioctls_gen as nr

KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT: Final = 239
KVM_CAP_TRANSLATE2: Final = 239
"""Both series claim it, so one answer is that of both."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a patch series adds."""

    ioctls: frozenset[int]
    capabilities: frozenset[int]


TLB_INHIBIT: Final = Series(
    frozenset({nr.KVM_HYPERV_SET_TLB_FLUSH_INHIBIT}), frozenset({KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT})
)

TRANSLATE2: Final = Series(frozenset({nr.KVM_TRANSLATE2}), frozenset({KVM_CAP_TRANSLATE2}))

_SERIES: Final = (TLB_INHIBIT, TRANSLATE2)

PROFILES: Final[Mapping[str, tuple[Series, ...]]] = {
    "default": _SERIES,
    "mainline": (),
    "tlb-inhibit": (TLB_INHIBIT,),
    "translate2": (TRANSLATE2,),
}
"""By what `--profile` says."""

RESERVED: Final = ("vsm-rfc-v1", "vsm-v1", "vsm-next", "planes-2025", "planes-2026")
"""Names that will mean something."""


@dataclass(slots=True)
class _Choice:
    hidden_ioctls: frozenset[int] = frozenset()
    hidden_capabilities: frozenset[int] = frozenset()
    strict: bool = False
    answers: dict[int, int] = field(default_factory=dict)
    hyperv_name: bytes | None = None


_CHOICE: Final = _Choice()


def choose(
    name: str = "default",
    *,
    strict: bool = False,
    answers: Mapping[int, int] | None = None,
    hyperv_name: bytes | None = None,
) -> None:
    """Takes effect for what is asked from now on; said once, before the first client. KeyError.

    `strict`: what a series' documentation demands is demanded even where its code does not.
    `answers`: what KVM_CHECK_EXTENSION says of these numbers, whatever is there. `hyperv_name`: the
    12 bytes that KVM_GET_SUPPORTED_HV_CPUID has for "Linux KVM Hv".
    """
    shown = PROFILES[name]
    hidden = [series for series in _SERIES if series not in shown]
    numbers = frozenset().union(*(series.capabilities for series in hidden))
    _CHOICE.hidden_ioctls = frozenset().union(*(series.ioctls for series in hidden))
    _CHOICE.hidden_capabilities = numbers.difference(*(series.capabilities for series in shown))
    _CHOICE.strict = strict
    _CHOICE.answers = dict(answers or {})
    _CHOICE.hyperv_name = hyperv_name


def has_ioctl(number: int) -> bool:
    """Whether the profile has an ioctl that the tables have."""
    return number not in _CHOICE.hidden_ioctls


def has_capability(number: int) -> bool:
    """The same of a capability."""
    return number not in _CHOICE.hidden_capabilities


def chosen_answer(number: int) -> int | None:
    """What KVM_CHECK_EXTENSION is to say of a number; None: what is there."""
    return _CHOICE.answers.get(number)


def hyperv_name() -> bytes | None:
    """What was chosen; None: the name that KVM has."""
    return _CHOICE.hyperv_name


def is_strict() -> bool:
    """What was chosen."""
    return _CHOICE.strict
