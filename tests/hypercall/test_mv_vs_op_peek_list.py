"""mv_vs_op_peek_list, lapic_peek_all and activity_get: a VS that anybody may look at."""

from collections.abc import Callable, Iterator

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import observe, vs
from microv.shared_page import shared_page
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest
from tests.hypercall.threads import Runner, running, wait_until_running

_OUT_THEN_LOOP = b"\xe6\x10\xeb\xfe"
_OUT_THEN_HALT = b"\xe6\x10\xf4\xeb\xfd"
_OUT_THEN_COUNT = b"\xe6\x10\x40\x89\xc3\xeb\xfb"
"""out; again: inc ax; mov bx, ax; jmp again"""
_APIC_BASE = 0x1B
_REGISTERS = [mv.mv_reg_t_rip, mv.mv_reg_t_rax, mv.mv_reg_t_rbx]
_PEEK = mv.MV_VS_OP_VAL | mv.MV_VS_OP_PEEK_LIST_IDX_VAL


@pytest.fixture
def busy() -> Iterator[tuple[Guest, Runner]]:
    """A guest that loops without an exit, on another thread."""
    with Guest(_OUT_THEN_LOOP) as guest, running(guest.vsid) as runner:
        wait_until_running(guest.vsid)
        yield guest, runner


def test_peek_equals_get_where_nobody_runs_the_vs(guest: Guest) -> None:
    assert observe.peek_list(guest.vsid, _REGISTERS, [_APIC_BASE]) == [
        *vs.reg_get_list(guest.vsid, _REGISTERS),
        vs.msr_get(guest.vsid, _APIC_BASE),
    ]


def test_a_running_vs_is_looked_at_and_does_not_leave(busy: tuple[Guest, Runner]) -> None:
    guest, runner = busy
    for _ in range(200):
        assert observe.peek_list(guest.vsid, [mv.mv_reg_t_rip]) == [CODE + 2]
    assert runner.exits == [mv.mv_exit_reason_t_io]
    assert vs.stats_get(guest.vsid).exits == 1


def test_values_are_those_between_two_instructions() -> None:
    with Guest(_OUT_THEN_COUNT) as guest, running(guest.vsid):
        wait_until_running(guest.vsid)
        seen: set[int] = set()
        while len(seen) < 5:
            rip, rax, rbx = observe.peek_list(guest.vsid, _REGISTERS)
            assert rip is not None
            assert rax is not None
            assert rip - CODE in (2, 3, 5)
            assert rbx == (rax - 1 & 0xFFFF if rip - CODE == 3 else rax)
            seen.add(rax)


def test_a_halted_vs_is_looked_at_and_sleeps_on() -> None:
    with Guest(_OUT_THEN_HALT, controllers=True) as guest:
        vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_running)
        with running(guest.vsid) as runner:
            _wait_until(guest.vsid, mv.MV_ACTIVITY_HALTED)
            assert observe.peek_list(guest.vsid, [mv.mv_reg_t_rip]) == [CODE + 3]
            _wait_until(guest.vsid, mv.MV_ACTIVITY_HALTED)
            assert runner.exits == [mv.mv_exit_reason_t_io]


@pytest.mark.parametrize(
    ("mp_state", "activity"),
    [
        (mv.mv_mp_state_t_initial, mv.MV_ACTIVITY_WAIT_FOR_INIT),
        (mv.mv_mp_state_t_init, mv.MV_ACTIVITY_WAIT_FOR_SIPI),
    ],
)
def test_a_vs_that_waits_to_be_started_says_so(mp_state: int, activity: int) -> None:
    with Guest(_OUT_THEN_HALT, controllers=True) as guest:
        vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_running)
        vs.run(guest.vsid)
        vs.mp_state_set(guest.vsid, mp_state)
        vs.kick(guest.vsid)
        with running(guest.vsid):
            _wait_until(guest.vsid, activity)
            assert observe.peek_list(guest.vsid, [mv.mv_reg_t_rip]) != [None]


def test_the_local_apic_is_looked_at_while_the_vs_sleeps() -> None:
    with Guest(_OUT_THEN_HALT, controllers=True) as guest:
        vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_running)
        before = vs.lapic_get_all(guest.vsid)
        assert observe.lapic_peek_all(guest.vsid) == before
        with running(guest.vsid):
            _wait_until(guest.vsid, mv.MV_ACTIVITY_HALTED)
            assert observe.lapic_peek_all(guest.vsid) == before


def test_without_controllers_there_is_no_local_apic(guest: Guest) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        observe.lapic_peek_all(guest.vsid)


def test_what_does_not_exist_is_none_and_the_rest_is_there(guest: Guest) -> None:
    found = observe.peek_list(guest.vsid, [mv.mv_reg_t_invalid, mv.mv_reg_t_rip], [0xDEAD])
    assert found == [None, CODE, None]


@pytest.mark.parametrize("number", [0, mv.MV_RDL_MAX_ENTRIES + 1])
def test_a_list_that_is_not_safe_is_refused(guest: Guest, number: int) -> None:
    shared_page().write(mv.mv_rdl_t(num_entries=number))
    status, _ = hypercall(_PEEK, process_handle(), guest.vsid)
    assert status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_a_new_vs_is_the_roots(vsid: int) -> None:
    activity = observe.activity_get(vsid)
    assert (activity.activity, activity.pending, activity.last_exit, activity.mp_state) == (
        mv.MV_ACTIVITY_ROOT,
        mv.MV_PENDING_NONE,
        mv.MV_ACTIVITY_NO_EXIT,
        mv.mv_mp_state_t_initial,
    )


@pytest.mark.parametrize(
    ("code", "pending", "reason"),
    [
        (b"\xe4\x10", mv.MV_PENDING_IO_IN, mv.mv_exit_reason_t_io),
        (b"\xe6\x10", mv.MV_PENDING_IO_OUT, mv.mv_exit_reason_t_io),
        (b"\xa1\xfc\xff", mv.MV_PENDING_MMIO_READ, mv.mv_exit_reason_t_mmio),
        (b"\xa3\xfc\xff", mv.MV_PENDING_MMIO_WRITE, mv.mv_exit_reason_t_mmio),
        (b"\xf4", mv.MV_PENDING_NONE, mv.mv_exit_reason_t_hlt),
    ],
)
def test_what_the_root_owes_is_told(code: bytes, pending: int, reason: int) -> None:
    with Guest(code, memory=0x2000) as guest:
        vs.run(guest.vsid)
        activity = observe.activity_get(guest.vsid)
        assert (activity.pending, activity.last_exit) == (pending, reason)


def test_a_vs_that_executes_runs(busy: tuple[Guest, Runner]) -> None:
    activity = observe.activity_get(busy[0].vsid)
    assert (activity.activity, activity.last_exit) == (
        mv.MV_ACTIVITY_RUNNING,
        mv.mv_exit_reason_t_io,
    )


_CALLS: list[Callable[[int], object]] = [
    lambda vsid: observe.peek_list(vsid, [mv.mv_reg_t_rip]),
    observe.lapic_peek_all,
    observe.activity_get,
]


@pytest.mark.parametrize("call", _CALLS, ids=["peek_list", "lapic_peek_all", "activity_get"])
def test_refuses(call: Callable[[int], object], bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        call(bad_vsid)


def _wait_until(vsid: int, activity: int) -> None:
    while observe.activity_get(vsid).activity != activity:
        pass
