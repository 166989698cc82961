"""The system: what an open `/dev/kvm` stands for. It has no state of its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class System:
    """Every open of `/dev/kvm` is equal."""
