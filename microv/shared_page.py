"""The shared page of the calling thread, through which lists and structures go.

A PP has one page, whoever set it: where Rust serves the thread too and has given it a page, that
one is used; else a page is mapped and set at first use, and cleared with the thread.
"""

import ctypes
import mmap
import threading
import weakref
from typing import TypeVar

from microv import abi_gen as mv
from microv import engine_ffi
from microv.call import with_handle

_Layout = TypeVar("_Layout", bound=ctypes.Structure)

_GET = mv.MV_PP_OP_VAL | mv.MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL
_SET = mv.MV_PP_OP_VAL | mv.MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL
_CLR = mv.MV_PP_OP_VAL | mv.MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL


class SharedPage:
    """Typed access to 4 KiB at an address. For the thread whose page it is, between its calls."""

    def __init__(self, address: int) -> None:
        self.address = address
        self._bytes = engine_ffi.memory_at(address, mv.MV_PAGE_SIZE)

    def read(self, layout: type[_Layout], offset: int = 0) -> _Layout:
        """A copy of the structure at `offset`."""
        return layout.from_buffer_copy(self._bytes, offset)

    def write(self, value: ctypes.Structure) -> None:
        """Puts a structure at the start of the page."""
        self.write_bytes(bytes(value))

    def read_bytes(self, size: int) -> bytes:
        """The first `size` bytes."""
        return bytes(self._bytes[:size])

    def write_bytes(self, value: bytes) -> None:
        """Puts bytes at the start of the page."""
        self._bytes[: len(value)] = value


class _OwnPage(SharedPage):
    """A page that this module mapped; it lives as long as the thread that uses it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mv.MV_PAGE_SIZE)
        super().__init__(engine_ffi.address_of(self._memory))
        with_handle(_SET, self.address)
        weakref.finalize(self, _clear, threading.get_native_id(), self.address)


def _clear(owner: int, address: int) -> None:
    # Another thread comes here for one that ended without telling Python; then its PP is gone. A
    # page that was replaced comes here late, and its successor stays.
    if owner == threading.get_native_id() and with_handle(_GET) == address:
        with_handle(_CLR)


class _OfThread(threading.local):
    page: SharedPage | None = None


_of_thread = _OfThread()


def shared_page() -> SharedPage:
    """The page of the calling thread."""
    address = with_handle(_GET)
    page = _of_thread.page
    if page is None or page.address != address:
        page = SharedPage(address) if address else _OwnPage()
        _of_thread.page = page
    return page
