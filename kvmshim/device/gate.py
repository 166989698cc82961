"""What holds replies back while a client's memory is exchanged; the engine's door has the thing.

A thread that waits in a request of ours cannot be stopped, but it runs no user code before its
reply. So whoever needs a client to stand still closes its gate, learns who is inside, and stops
the others. KVM_RUN passes the same gate, which is why it is not made here.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Protocol


class Gate(Protocol):
    """One client process's gate."""

    def enter(self, tid: int) -> None:
        """Thread `tid` waits in a request from now on."""

    def leave(self, tid: int) -> None:
        """Wait until the gate is open; then `tid` may be answered."""

    def withdraw(self, tid: int) -> None:
        """`tid` is about to be stopped rather than answered."""

    def closed(self) -> AbstractContextManager[None]:
        """Nobody is answered within it. Nests."""

    def inside(self) -> Collection[int]:
        """The threads that wait in requests."""
