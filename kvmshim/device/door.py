"""What the front doors have in common: how they are asked for, opened and closed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class DoorError(Exception):
    """A door cannot be opened. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may open the door, as for any file."""

    mode: int = 0o600
    """Permission bits."""
    uid: int = 0
    gid: int = 0


class Door(Protocol):
    """A served `/dev/kvm`."""

    def check(self) -> None:
        """Clear what a crashed run left, and raise DoorError where the door cannot be opened."""

    def open(self, on_end: Callable[[], None]) -> None:
        """Begin to serve; clients can come when this returns. DoorError.

        `on_end` is called, on another thread, when the kernel ends the connection.
        """

    def close(self) -> None:
        """Serve no more. Leaves nothing behind."""

    @property
    def label(self) -> str:
        """Where clients find it and by what means."""
