"""Creating until there is no more."""

from collections.abc import Callable

from microv.status import MvError


def until_refused(create: Callable[[], int]) -> tuple[list[int], MvError]:
    """All IDs that `create` gives, and how it refuses then."""
    created: list[int] = []
    while True:
        try:
            created.append(create())
        except MvError as refusal:
            return created, refusal
