"""mv_vs_op_trace_set and mv_vs_op_trace_read: what a VS does, for whoever reads in time."""

from collections.abc import Callable

import pytest

from microv import abi_gen as mv
from microv.ops import observe, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest
from tests.hypercall.threads import running, wait_until_running

_ALL = mv.MV_TRACE_ALL
_LITTLE = mv.MV_TRACE_EXITS | mv.MV_TRACE_EVENTS
_OUT_THEN_LOOP = b"\xe6\x10\xeb\xfe"
_OUTS = b"\xe6\x10\xeb\xfc"
"""again: out 0x10, al; jmp again"""


def _records(vsid: int, first: int = 0) -> list[mv.mv_trace_record_t]:
    head, _ = observe.trace_read(vsid, first)
    return list(head.records[: head.num_records])


def _exits(vsid: int) -> list[tuple[int, list[int]]]:
    records = _records(vsid)
    return [(it.detail, list(it.data)) for it in records if it.kind == mv.MV_TRACE_KIND_EXIT]


def test_nothing_is_recorded_unless_wanted(guest: Guest) -> None:
    vs.run(guest.vsid)
    head, records = observe.trace_read(guest.vsid)
    assert (head.next, head.lost, head.num_records, records) == (0, 0, 0, b"")


@pytest.mark.parametrize(
    ("code", "exit_"),
    [
        (b"\xf4", (mv.mv_exit_reason_t_hlt, [0, 0, 0, 0])),
        (b"\xe6\x10", (mv.mv_exit_reason_t_io, [0x10, 0x5A, 1, 1 | 1 << 32])),
        (b"\xe5\x20", (mv.mv_exit_reason_t_io, [0x20, 0, 2, 1 << 32])),
        (b"\xa2\xff\xff", (mv.mv_exit_reason_t_mmio, [0xFFFF, 0x5A, 1, 1])),
        (b"\xa1\xf0\xff", (mv.mv_exit_reason_t_mmio, [0xFFF0, 0, 2, 0])),
    ],
    ids=["hlt", "out", "in", "mmio write", "mmio read"],
)
def test_an_exit_is_recorded_with_what_it_is_about(
    code: bytes, exit_: tuple[int, list[int]]
) -> None:
    with Guest(code, memory=0x2000) as guest:
        vs.reg_set(guest.vsid, mv.mv_reg_t_rax, 0x5A)
        observe.trace_set(guest.vsid, mv.MV_TRACE_EXITS)
        vs.run(guest.vsid)
        assert _exits(guest.vsid) == [exit_]


def test_the_answer_to_a_read_is_recorded() -> None:
    with Guest(b"\xe4\x60\xf4") as guest:
        observe.trace_set(guest.vsid, mv.MV_TRACE_EXITS)
        vs.run(guest.vsid)
        vs.run(guest.vsid, iomem=b"\x1c")
        question, answer, halt = _records(guest.vsid)
        assert [record.rip for record in (question, answer, halt)] == [CODE, CODE, CODE + 3]
        assert (answer.kind, list(answer.data[:2])) == (mv.MV_TRACE_KIND_ANSWER, [0x1C, 1])
        assert question.tsc < answer.tsc < halt.tsc


def test_an_injected_interrupt_is_recorded() -> None:
    with Guest(b"\xfb\x90\xf4") as guest:
        guest.load(0x20 * 4, CODE.to_bytes(4, "little"))
        observe.trace_set(guest.vsid, mv.MV_TRACE_EVENTS)
        vs.queue_interrupt(guest.vsid, 0x20)
        vs.run(guest.vsid)
        (record,) = _records(guest.vsid)
        assert (record.kind, record.detail, record.data[0]) == (
            mv.MV_TRACE_KIND_EVENT,
            mv.MV_TRACE_EVENT_INTERRUPT,
            0x20,
        )


def test_an_injected_exception_is_recorded_with_its_error_code(guest: Guest) -> None:
    observe.trace_set(guest.vsid, mv.MV_TRACE_EVENTS)
    vs.inject_exception(guest.vsid, 13, 0x18)
    vs.run(guest.vsid)
    record = _records(guest.vsid)[0]
    assert (record.detail, list(record.data[:3])) == (mv.MV_TRACE_EVENT_EXCEPTION, [13, 0x18, 1])


def test_a_start_up_is_recorded_with_its_vector() -> None:
    with Guest(b"\xe6\x10", controllers=True) as guest:
        observe.trace_set(guest.vsid, mv.MV_TRACE_EVENTS)
        vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_sipi, CODE >> 12)
        vs.run(guest.vsid)
        (record,) = _records(guest.vsid)
        assert (record.detail, record.data[0]) == (mv.MV_TRACE_EVENT_START_UP, CODE >> 12)


def test_every_instruction_is_recorded_before_it_is_executed() -> None:
    code = b"\x40\x89\xc3\x31\xc9\xf4"
    with Guest(code) as guest:
        observe.trace_set(guest.vsid, mv.MV_TRACE_INSTRUCTIONS)
        vs.run(guest.vsid)
        records = _records(guest.vsid)
        assert [record.rip - CODE for record in records] == [0, 1, 3, 5]
        assert {record.detail for record in records} == {16}
        first = records[0].data
        assert first[0].to_bytes(8, "little")[: len(code)] == code
        assert list(first[2:]) == [15, CODE]


def test_a_running_vs_begins_and_ends_to_step() -> None:
    with Guest(_OUT_THEN_LOOP) as guest, running(guest.vsid) as runner:
        wait_until_running(guest.vsid)
        observe.trace_set(guest.vsid, mv.MV_TRACE_INSTRUCTIONS)
        while observe.trace_read(guest.vsid)[0].next < 100:
            pass
        observe.trace_set(guest.vsid, 0)
        before = vs.stats_get(guest.vsid).instructions
        end = observe.trace_read(guest.vsid)[0].next
        while vs.stats_get(guest.vsid).instructions < before + 100_000:
            pass
        # It may have been about to step once more.
        assert observe.trace_read(guest.vsid)[0].next <= end + 1
        assert runner.exits == [mv.mv_exit_reason_t_io]


def test_records_are_numbered_and_read_on_from_where_one_was(guest: Guest) -> None:
    with Guest(_OUTS) as busy:
        observe.trace_set(busy.vsid, mv.MV_TRACE_EXITS)
        for _ in range(100):
            vs.run(busy.vsid)
        head, _ = observe.trace_read(busy.vsid, 0)
        assert (head.num_records, head.next, head.lost) == (63, 63, 0)
        rest, records = observe.trace_read(busy.vsid, head.next)
        assert (rest.num_records, rest.next, rest.lost) == (37, 100, 0)
        assert rest.records[0].number == 63
        assert len(records) == 37 * 64
    assert observe.trace_read(guest.vsid)[0].next == 0


def test_who_reads_too_late_is_told_how_much_is_lost() -> None:
    with Guest(_OUT_THEN_LOOP) as guest, running(guest.vsid):
        observe.trace_set(guest.vsid, mv.MV_TRACE_INSTRUCTIONS)
        while observe.trace_read(guest.vsid)[0].next < 100_000:
            pass
        observe.trace_set(guest.vsid, 0)
        head, _ = observe.trace_read(guest.vsid, 0)
        assert head.lost > 60_000
        assert head.next == head.lost + head.num_records
        assert head.records[0].number == head.lost


def test_a_number_beyond_the_end_is_the_end(guest: Guest) -> None:
    observe.trace_set(guest.vsid, _LITTLE)
    vs.run(guest.vsid)
    assert observe.trace_read(guest.vsid, 1 << 63)[0].next == 1


@pytest.mark.parametrize("wanted", [_ALL + 1, 1 << 63])
def test_an_unknown_flag_is_refused(guest: Guest, wanted: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        observe.trace_set(guest.vsid, wanted)


_CALLS: list[Callable[[int], object]] = [
    lambda vsid: observe.trace_set(vsid, 0),
    observe.trace_read,
]


@pytest.mark.parametrize("call", _CALLS, ids=["trace_set", "trace_read"])
def test_refuses(call: Callable[[int], object], bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        call(bad_vsid)
