"""mv_vs_op: what a VS is at and what it holds, whoever uses it. The VS notices nothing but time.

Calls raise INVALID_INPUT_REG1 where the ID names no guest's VS, and FAILURE_UNKNOWN where an
earlier call broke it.
"""

import ctypes
from collections.abc import Iterable
from typing import Final

from microv import abi_gen as mv
from microv import rdl
from microv.call import with_handle
from microv.shared_page import shared_page

_OP = mv.MV_VS_OP_VAL
_LAPIC_SIZE: Final = 1024
_RECORD_SIZE: Final = ctypes.sizeof(mv.mv_trace_record_t)
_RECORDS_AT: Final = ctypes.sizeof(mv.mv_trace_t) - mv.MV_TRACE_MAX_RECORDS * _RECORD_SIZE


def peek_list(vsid: int, regs: Iterable[int], msrs: Iterable[int] = ()) -> list[int | None]:
    """The values of registers and MSRs at one moment, in order; None for one that there is not.

    Together at most MV_RDL_MAX_ENTRIES, and at least one: FAILURE_UNKNOWN.
    """
    wanted = [*regs, *(msr | mv.MV_RDL_ENTRY_MSR for msr in msrs)]
    page = shared_page()
    page.write(rdl.to_page([(entry, 0) for entry in wanted]))
    with_handle(_OP | mv.MV_VS_OP_PEEK_LIST_IDX_VAL, vsid)
    entries = rdl.entries(page.read(mv.mv_rdl_t))
    return [None if entry & mv.MV_RDL_ENTRY_REFUSED else value for entry, value in entries]


def lapic_peek_all(vsid: int) -> bytes:
    """The registers of the local APIC: 32 bits at each sixteenth byte.

    FAILURE_UNKNOWN: there is none.
    """
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_LAPIC_PEEK_ALL_IDX_VAL, vsid)
    return page.read_bytes(_LAPIC_SIZE)


def activity_get(vsid: int) -> mv.mv_activity_t:
    """Whether it runs, what it waits for, why it came back last."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_ACTIVITY_GET_IDX_VAL, vsid)
    return page.read(mv.mv_activity_t)


def trace_set(vsid: int, wanted: int) -> None:
    """What is recorded from now on: MV_TRACE_*, 0 for nothing.

    INVALID_INPUT_REG2: an unknown flag.
    """
    with_handle(_OP | mv.MV_VS_OP_TRACE_SET_IDX_VAL, vsid, wanted)


def trace_read(vsid: int, first: int = mv.MV_TRACE_NOW) -> tuple[mv.mv_trace_t, bytes]:
    """As many records as there are and fit, from the number `first` on, or from now on.

    The head of the page, and the records (mv_trace_record_t) one after the other.
    """
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_TRACE_READ_IDX_VAL, vsid, first)
    head = page.read(mv.mv_trace_t)
    end = _RECORDS_AT + head.num_records * _RECORD_SIZE
    return head, page.read_bytes(end)[_RECORDS_AT:]
