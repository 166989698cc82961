"""mv_vs_op_kick (extension), and what else may be done to a VS that another thread runs."""

from collections.abc import Callable

import pytest

from microv import abi_gen as mv
from microv.cdl import CdlEntry
from microv.ops import vm, vp, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest
from tests.hypercall.threads import running, wait_until_running

_OUT_THEN_LOOP = b"\xe6\x10\xeb\xfe"


@pytest.fixture
def busy() -> Guest:
    """Its guest leaves once, then loops without an exit."""
    return Guest(_OUT_THEN_LOOP)


def test_a_kick_makes_a_running_vs_leave(busy: Guest) -> None:
    with busy:
        with running(busy.vsid) as runner:
            wait_until_running(busy.vsid)
            vs.kick(busy.vsid)
            runner.left.acquire()
        assert runner.exits[1] == mv.mv_exit_reason_t_interrupt


def test_a_kick_before_the_run_is_not_lost(guest: Guest) -> None:
    vs.kick(guest.vsid)
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_interrupt
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_two_kicks_before_the_run_are_one(guest: Guest) -> None:
    vs.kick(guest.vsid)
    vs.kick(guest.vsid)
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_interrupt
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_complete_only_leaves_the_kick_for_the_next_run(guest: Guest) -> None:
    vs.kick(guest.vsid)
    vs.run(guest.vsid, flags=mv.MV_RUN_FLAG_COMPLETE_ONLY)
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_interrupt


_WHILE_RUNNING: list[Callable[[int], object]] = [
    vs.run,
    lambda vsid: vs.reg_get(vsid, mv.mv_reg_t_rax),
    lambda vsid: vs.reg_set(vsid, mv.mv_reg_t_rax, 0),
    lambda vsid: vs.msr_get_list(vsid, [0x1B]),
    lambda vsid: vs.cpuid_set(vsid, CdlEntry(1)),
    vs.fpu_get_all,
    vs.mp_state_get,
    lambda vsid: vs.queue_interrupt(vsid, 0x20),
    lambda vsid: vs.gla_to_gpa(vsid, 0x1000),
    vs.tsc_get_khz,
    vs.clock_get,
]


def test_everything_else_is_refused_while_it_runs(busy: Guest) -> None:
    with busy, running(busy.vsid):
        wait_until_running(busy.vsid)
        for operation in _WHILE_RUNNING:
            with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
                operation(busy.vsid)


def test_nothing_it_stands_on_can_be_destroyed_while_it_runs(busy: Guest) -> None:
    with busy, running(busy.vsid):
        wait_until_running(busy.vsid)
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vs.destroy_vs(busy.vsid)
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vp.destroy_vp(busy.vcpus[0].vpid)
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vm.destroy_vm(busy.vmid)


def test_owners_can_be_asked_while_it_runs(busy: Guest) -> None:
    with busy, running(busy.vsid):
        wait_until_running(busy.vsid)
        assert (vs.vmid(busy.vsid), vs.vpid(busy.vsid)) == (busy.vmid, busy.vcpus[0].vpid)


def test_another_vs_of_its_vp_is_refused_while_it_runs(busy: Guest) -> None:
    with busy:
        second = vs.create_vs(busy.vcpus[0].vpid)
        with running(busy.vsid):
            wait_until_running(busy.vsid)
            with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
                vs.run(second)
        vs.destroy_vs(second)


def test_vss_of_a_vm_run_at_the_same_time(busy: Guest) -> None:
    with busy:
        other = busy.add_vcpu(CODE)
        with running(busy.vsid), running(other):
            wait_until_running(busy.vsid)
            wait_until_running(other)
            with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
                vs.run(busy.vsid)


def test_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.kick(bad_vsid)
