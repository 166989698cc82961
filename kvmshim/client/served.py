"""The file systems that this process serves. A file of theirs can be nobody's guest memory: opening
it here, we would wait for ourselves.

They are known by their number (st_dev), for that is what `/proc/PID/maps` tells without asking who
serves the file.
"""

import threading
from collections import Counter
from typing import Final


class ServedDevices:
    """Numbers of file systems; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The kernel may give a number anew before who served the file system has seen it end.
        self._count: Counter[int] = Counter()

    def add(self, device: int) -> None:
        """A file system with this number is served."""
        with self._lock:
            self._count[device] += 1

    def remove(self, device: int) -> None:
        """One that was added has ended."""
        with self._lock:
            self._count -= Counter([device])

    def __contains__(self, device: int) -> bool:
        return device in self._count


SERVED: Final = ServedDevices()
"""Those of this process."""
