"""mv_vs_op_mp_state_get, mp_state_set: any state from any, as a restored VM needs."""

import pytest

from microv import abi_gen as mv
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.guest import Guest

_STATES = range(mv.mv_mp_state_t_invalid)


def test_a_new_vs_is_initial(vsid: int) -> None:
    assert vs.mp_state_get(vsid) == mv.mv_mp_state_t_initial


@pytest.mark.parametrize("old", _STATES)
@pytest.mark.parametrize("new", _STATES)
def test_every_transition_is_accepted(vsid: int, old: int, new: int) -> None:
    vs.mp_state_set(vsid, old)
    vs.mp_state_set(vsid, new)
    assert vs.mp_state_get(vsid) == new


@pytest.mark.parametrize("state", [mv.mv_mp_state_t_invalid, 2**32, 2**64 - 1])
def test_set_refuses_what_is_no_state(vsid: int, state: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.mp_state_set(vsid, state)


def test_coming_to_init_resets_the_vs(guest: Guest) -> None:
    vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_init)
    registers = [mv.mv_reg_t_rip, mv.mv_reg_t_cs_base]
    assert vs.reg_get_list(guest.vsid, registers) == [0xFFF0, 0xFFFF_0000]


def test_staying_in_init_keeps_what_was_written(guest: Guest) -> None:
    vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_init)
    vs.reg_set(guest.vsid, mv.mv_reg_t_rax, 7)
    vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_init)
    assert vs.reg_get(guest.vsid, mv.mv_reg_t_rax) == 7


@pytest.mark.parametrize("state", set(_STATES) - {mv.mv_mp_state_t_init})
def test_run_makes_it_running_and_hlt_leaves_it_so(guest: Guest, state: int) -> None:
    vs.mp_state_set(guest.vsid, state)
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt
    assert vs.mp_state_get(guest.vsid) == mv.mv_mp_state_t_running


def test_a_vs_that_waits_for_sipi_cannot_be_run(guest: Guest) -> None:
    vs.mp_state_set(guest.vsid, mv.mv_mp_state_t_init)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.run(guest.vsid)


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.mp_state_get(bad_vsid)


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.mp_state_set(bad_vsid, mv.mv_mp_state_t_running)
