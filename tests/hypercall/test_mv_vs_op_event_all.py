"""mv_vs_op_event_get_all, event_set_all: everything that waits for its delivery."""

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.threads import in_new_thread

_GET_ALL = mv.MV_VS_OP_VAL | mv.MV_VS_OP_EVENT_GET_ALL_IDX_VAL
_SET_ALL = mv.MV_VS_OP_VAL | mv.MV_VS_OP_EVENT_SET_ALL_IDX_VAL
_EXCEPTION = (
    mv.MV_EVENT_EXCEPTION | mv.MV_EVENT_EXCEPTION_HAS_ERROR_CODE | mv.MV_EVENT_EXCEPTION_HAS_PAYLOAD
)

EVENTS = {
    "none": mv.mv_event_t(),
    "page fault": mv.mv_event_t(
        flags=_EXCEPTION,
        exception_vector=14,
        exception_error_code=7,
        exception_payload=(1 << 64) - 1,
    ),
    "injected": mv.mv_event_t(
        flags=mv.MV_EVENT_EXCEPTION | mv.MV_EVENT_EXCEPTION_INJECTED, exception_vector=6
    ),
    "interrupt": mv.mv_event_t(flags=mv.MV_EVENT_INTERRUPT, interrupt_vector=255),
    "nmi": mv.mv_event_t(flags=mv.MV_EVENT_NMI | mv.MV_EVENT_NMI_BLOCKED),
    "injected nmi": mv.mv_event_t(flags=mv.MV_EVENT_NMI_INJECTED),
    "after sti": mv.mv_event_t(flags=mv.MV_EVENT_SHADOW_STI),
    "after mov ss": mv.mv_event_t(flags=mv.MV_EVENT_SHADOW_MOV_SS),
    "held back by mov ss": mv.mv_event_t(
        flags=mv.MV_EVENT_SHADOW_MOV_SS | mv.MV_EVENT_EXCEPTION | mv.MV_EVENT_EXCEPTION_HAS_PAYLOAD,
        exception_vector=1,
        exception_payload=1 << 14,
    ),
    "smi": mv.mv_event_t(flags=mv.MV_EVENT_SMI),
    "smm": mv.mv_event_t(flags=mv.MV_EVENT_SMM | mv.MV_EVENT_NMI_BLOCKED),
    "smm inside nmi": mv.mv_event_t(
        flags=mv.MV_EVENT_SMM | mv.MV_EVENT_SMM_INSIDE_NMI | mv.MV_EVENT_SMI
    ),
    "triple fault": mv.mv_event_t(flags=mv.MV_EVENT_TRIPLE_FAULT),
}


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
def test_set_then_get(vsid: int, events: mv.mv_event_t) -> None:
    vs.event_set_all(vsid, events)
    assert bytes(vs.event_get_all(vsid)) == bytes(events)


def test_queued_events_are_shown(vsid: int) -> None:
    vs.queue_interrupt(vsid, 0x44)
    vs.inject_exception(vsid, 13, 0x10)
    vs.inject_exception(vsid, 2)
    events = vs.event_get_all(vsid)
    assert (events.interrupt_vector, events.exception_vector) == (0x44, 13)
    assert events.flags & mv.MV_EVENT_NMI
    assert events.exception_error_code == 0x10


def test_replace_interrupt_takes_the_place_of_the_first(vsid: int) -> None:
    vs.queue_interrupt(vsid, 0x44)
    vs.replace_interrupt(vsid, 0x45)
    assert vs.queued_interrupt(vsid) == 0x45


REFUSED = {
    "unknown flag": mv.mv_event_t(flags=mv.MV_EVENT_ALL + 1),
    "vector of NMI": mv.mv_event_t(flags=mv.MV_EVENT_EXCEPTION, exception_vector=2),
    "no exception": mv.mv_event_t(flags=mv.MV_EVENT_EXCEPTION, exception_vector=32),
    "no interrupt": mv.mv_event_t(flags=mv.MV_EVENT_INTERRUPT, interrupt_vector=256),
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_set_refuses_and_changes_nothing(vsid: int, wrong: mv.mv_event_t) -> None:
    vs.queue_interrupt(vsid, 0x44)
    before = bytes(vs.event_get_all(vsid))
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.event_set_all(vsid, wrong)
    assert bytes(vs.event_get_all(vsid)) == before


@pytest.mark.parametrize("call", [_GET_ALL, _SET_ALL])
def test_a_shared_page_is_needed(vsid: int, call: int) -> None:
    status, _ = in_new_thread(lambda: hypercall(call, process_handle(), vsid))
    assert status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_bad_ids_are_refused(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.event_get_all(bad_vsid)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.event_set_all(bad_vsid, mv.mv_event_t())


def test_set_and_get_many_times(vsid: int) -> None:
    for vector in range(0x1000):
        events = mv.mv_event_t(flags=mv.MV_EVENT_INTERRUPT, interrupt_vector=vector % 256)
        vs.event_set_all(vsid, events)
        assert bytes(vs.event_get_all(vsid)) == bytes(events)
