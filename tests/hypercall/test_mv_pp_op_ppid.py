"""mv_pp_op_ppid, online_pps: threads as physical processors."""

from microv import abi_gen as mv
from microv.ops import pp, vp, vs
from tests.hypercall.threads import in_new_thread, staying


def test_ppid_is_the_same_at_every_call() -> None:
    assert len({pp.ppid() for _ in range(0x1000)}) == 1


def test_threads_that_live_together_have_different_ppids() -> None:
    here = pp.ppid()
    assert in_new_thread(pp.ppid) != here


def test_root_vp_and_vs_have_the_number_of_the_pp() -> None:
    assert vp.vpid() == vs.vsid() == pp.ppid() < mv.MV_MAX_PPS


def test_a_pp_is_online_from_its_first_call_to_the_end_of_its_thread() -> None:
    pp.ppid()
    before = pp.online_pps()
    with staying(pp.ppid):
        assert pp.online_pps() == before + 1
    assert pp.online_pps() == before


def test_more_threads_than_pps_may_come_and_go() -> None:
    for _ in range(mv.MV_MAX_PPS + 10):
        in_new_thread(pp.ppid)
