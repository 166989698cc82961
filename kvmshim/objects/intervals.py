"""A set of numbers that is made of few long stretches, such as guest-physical addresses."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """Disjoint intervals [start, end), none of which touches the next.

    >>> numbers = Intervals()
    >>> numbers.change(2, 8, inside=True)
    >>> numbers.change(4, 5, inside=False)
    >>> list(numbers.pieces(0, 6))
    [(0, 2, False), (2, 4, True), (4, 5, False), (5, 6, True)]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def change(self, start: int, end: int, *, inside: bool) -> None:
        """Puts [start, end) into the set, or takes it out."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        starts, ends = self._starts[first:last], self._ends[first:last]
        low, high = min([start, *starts[:1]]), max([end, *ends[-1:]])
        if inside:
            kept = [(low, high)]
        else:
            kept = [(a, b) for a, b in ((low, start), (end, high)) if a < b]
        self._starts[first:last] = [a for a, _ in kept]
        self._ends[first:last] = [b for _, b in kept]

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """[start, end) in stretches that are wholly inside the set or wholly outside."""
        at = start
        for number in range(bisect_right(self._ends, start), len(self._starts)):
            low, high = self._starts[number], self._ends[number]
            if low >= end:
                break
            if at < low:
                yield at, low, False
            at = min(high, end)
            yield max(low, start), at, True
        if at < end:
            yield at, end, False

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._ends[at]
