"""A bound on calls that may hang: a hang becomes a failure.

What is bounded takes a fraction of it on a machine with nothing else to do. KVMSHIM_PATIENCE says
how many times as long all bounds are, for a machine that others use as well.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_PATIENCE: Final = int(os.environ.get("KVMSHIM_PATIENCE", "1"))


class DeadlineError(Exception):
    """The guarded code was still at work when its time was over."""


def patient(seconds: int) -> int:
    """How long to wait for what takes less than `seconds`, unless it hangs."""
    return seconds * _PATIENCE


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raises DeadlineError in the body after `seconds`, or so many times as long; out of system
    calls, too. Main thread.

    Inside another deadline it stops the clock of that one.
    """

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise DeadlineError(f"not done after {patient(seconds)} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    outer = signal.alarm(patient(seconds))
    try:
        yield
    finally:
        signal.alarm(outer)
        signal.signal(signal.SIGALRM, previous)
