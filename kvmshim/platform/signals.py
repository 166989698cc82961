"""The signals that end a KVM_RUN."""

from typing import Protocol


class Signals(Protocol):
    """Those of one vCPU."""

    def set_mask(self, blocked: int) -> None:
        """In KVM_RUN `blocked` counts (signal n is bit n - 1), whatever the thread blocks.

        ENOMEM: no thread can be had to look at the signals.
        """
