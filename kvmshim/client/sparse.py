"""Where a file has contents and where it has holes; lseek(2)."""

import errno
import os
from collections.abc import Iterator


def extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(first byte, number of bytes) of each stretch of [start, end) that may be other than zero;
    nothing behind the end of the file. Moves the file's position."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        if start >= end:
            return
        stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        yield start, stop - start
        start = stop
