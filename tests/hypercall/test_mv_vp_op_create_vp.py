"""mv_vp_op_create_vp, destroy_vp, vmid, vpid."""

import pytest

from microv import abi_gen as mv
from microv.ops import pp, vp, vs
from microv.status import MvError
from tests.hypercall.exhaustion import until_refused


def test_create_refuses(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vp.create_vp(bad_vmid)


def test_vps_know_their_vm(vmid: int) -> None:
    created = [vp.create_vp(vmid) for _ in range(3)]
    assert {vp.vmid(vpid) for vpid in created} == {vmid}
    for vpid in reversed(created):
        vp.destroy_vp(vpid)


def test_guest_vps_never_have_the_number_of_a_root_vp(vpid: int) -> None:
    assert mv.MV_MAX_PPS <= vpid < mv.MV_MAX_VPS


@pytest.mark.slow
def test_exhaustion_is_refused_and_ends(vmid: int) -> None:
    created, refusal = until_refused(lambda: vp.create_vp(vmid))
    assert refusal.status == mv.MV_STATUS_FAILURE_UNKNOWN
    for vpid in created:
        vp.destroy_vp(vpid)
    vp.destroy_vp(vp.create_vp(vmid))


@pytest.mark.parametrize(
    "vpid", [mv.MV_INVALID_ID, mv.MV_SELF_ID, mv.MV_MAX_VPS, mv.MV_MAX_VPS - 1]
)
def test_destroy_refuses_what_is_no_vp(vpid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vp.destroy_vp(vpid)


def test_destroy_refuses_a_root_vp() -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vp.destroy_vp(pp.ppid())


def test_destroy_refuses_while_a_vs_is_there(vpid: int) -> None:
    vsid = vs.create_vs(vpid)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vp.destroy_vp(vpid)
    vs.destroy_vs(vsid)


def test_destroy_refuses_a_second_time(vmid: int) -> None:
    created = vp.create_vp(vmid)
    vp.destroy_vp(created)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vp.destroy_vp(created)


@pytest.mark.parametrize("vpid", [mv.MV_INVALID_ID, mv.MV_MAX_VPS])
def test_vmid_refuses_what_is_out_of_range(vpid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vp.vmid(vpid)


@pytest.mark.parametrize("vpid", [mv.MV_MAX_VPS - 1, mv.MV_MAX_PPS - 1])
def test_vmid_refuses_what_was_never_created(vpid: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vp.vmid(vpid)


def test_root_vps_belong_to_the_root_vm() -> None:
    assert vp.vmid(mv.MV_SELF_ID) == vp.vmid(pp.ppid()) == mv.MV_ROOT_VMID


def test_create_and_destroy_many_times(vmid: int) -> None:
    assert len({_once(vmid) for _ in range(0x1000)}) == 1


def _once(vmid: int) -> int:
    created = vp.create_vp(vmid)
    vp.destroy_vp(created)
    return created
