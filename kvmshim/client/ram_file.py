"""The files that get under clients' memory: with large pages where that would have them."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

NAME: Final = "kvmshim-ram"
LARGE_PAGE: Final = 2 << 20

log = logging.getLogger(__name__)


class RamFiles:
    """Makes them."""

    def __init__(self, make_directory: Callable[[], int] | None = None) -> None:
        """`make_directory` returns the descriptor of an empty directory whose files have large
        pages. OSError: there cannot be one."""
        self._make_directory = make_directory
        self._directory: int | None = None
        self._lock = threading.Lock()

    def new(self, *, large: bool) -> int:
        """The descriptor of an empty file that has no name, closed on exec.

        OSError: no descriptor is left.
        """
        directory = self._large_pages() if large else None
        if directory is None:
            return os.memfd_create(NAME, os.MFD_CLOEXEC)
        with self._lock:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(NAME, flags, 0o600, dir_fd=directory)
            os.unlink(NAME, dir_fd=directory)
        return fd

    def _large_pages(self) -> int | None:
        with self._lock:
            if self._make_directory is not None:
                try:
                    self._directory = self._make_directory()
                except OSError as error:
                    log.info("guest memory has small pages: %s", error)
                self._make_directory = None
            return self._directory
