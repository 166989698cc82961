"""A bound on calls that may hang: a hang becomes a failure."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class DeadlineError(Exception):
    """The guarded code was still at work when its time was over."""


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raises DeadlineError in the body after `seconds`, out of a system call too. Main thread.

    Inside another deadline it stops the clock of that one.
    """

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise DeadlineError(f"not done after {seconds} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    outer = signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(outer)
        signal.signal(signal.SIGALRM, previous)
