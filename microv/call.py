"""Hypercalls as function calls: R10 to R13 in, R10 out, refusals raised."""

from functools import cache

from microv import abi_gen as mv
from microv import engine_ffi
from microv.status import MvError


def hypercall(
    group_index: int, r10: int = 0, r11: int = 0, r12: int = 0, r13: int = 0
) -> tuple[int, int]:
    """One hypercall, given as opcode plus index; its status and R10."""
    return engine_ffi.hypercall(group_index, r10, r11, r12, r13)


def checked(group_index: int, r10: int = 0, r11: int = 0, r12: int = 0, r13: int = 0) -> int:
    """A hypercall made until it no longer asks to be called again; its R10.

    Each repetition is a chance for other threads. Whoever is interrupted in between, by a signal's
    exception, has the call taken back by the next hypercall of the thread.
    """
    while True:
        status, answer = hypercall(group_index, r10, r11, r12, r13)
        if status == mv.MV_STATUS_SUCCESS:
            return answer
        if status != mv.MV_STATUS_RETRY_CONTINUATION:
            raise MvError(status)


def with_handle(group_index: int, r11: int = 0, r12: int = 0, r13: int = 0) -> int:
    """As `checked`, for the groups that want the handle in R10."""
    return checked(group_index, process_handle(), r11, r12, r13)


@cache
def process_handle() -> int:
    """The handle of this process, opened at first use and never closed."""
    open_handle = mv.MV_HANDLE_OP_VAL | mv.MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL
    return checked(open_handle, mv.MV_SPEC_ID1_VAL)
