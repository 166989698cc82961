"""Eventfds of a client that signal for a guest, or that a guest signals."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Watched:
    """A write of the guest that is waited for."""

    port: bool
    """A port; else guest-physical memory."""
    address: int
    size: int
    """Bytes: 1, 2, 4, 8; 0 for any number."""
    data: int | None
    """The value written, if only that counts."""


class Eventfds(Protocol):
    """Eventfds of a VM's client, by its numbers. EBADF, or EINVAL for another kind of file."""

    def signal_on(self, watched: Watched, fd: int) -> None:
        """Signal `fd` for each such write, which does not leave the guest any more.

        EEXIST: a write could be for another eventfd too.
        """

    def ignore(self, watched: Watched, fd: int) -> None:
        """Undo `signal_on`. ENOENT: there was none."""

    def signal_on_connection(self, number: int, fd: int) -> None:
        """Signal `fd` for each HvCallSignalEvent of the guest to a connection. EEXIST: it has an
        eventfd."""

    def ignore_connection(self, number: int) -> None:
        """Undo `signal_on_connection`. ENOENT: there was none."""

    def raise_line(self, gsi: int, fd: int, resample_fd: int | None) -> None:
        """Raise an interrupt line whenever `fd` is signalled: a pulse; with `resample_fd` until
        the interrupt ends, of which that one is told. EBUSY: `fd` raises a line of the VM."""

    def leave_line(self, gsi: int, fd: int) -> None:
        """Undo `raise_line`, if it was done."""

    def close(self) -> None:
        """Undo everything: the VM is about to end."""
