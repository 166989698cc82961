"""mv_vs_op_create_vs, destroy_vs, vmid, vpid, vsid; and the power-on state."""

import pytest

from microv import abi_gen as mv
from microv.ops import pp, vs
from microv.status import MvError
from tests.hypercall.exhaustion import until_refused
from tests.hypercall.guest import Guest

_EFER, _APIC_BASE = 0xC000_0080, 0x1B


def test_create_refuses(bad_vpid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.create_vs(bad_vpid)


def test_vss_know_their_vp_and_vm(vmid: int, vpid: int) -> None:
    created = [vs.create_vs(vpid) for _ in range(3)]
    assert [(vs.vmid(vsid), vs.vpid(vsid)) for vsid in created] == [(vmid, vpid)] * 3
    for vsid in reversed(created):
        vs.destroy_vs(vsid)


@pytest.mark.parametrize(
    "vsid", [mv.MV_INVALID_ID, mv.MV_SELF_ID, mv.MV_MAX_VSS, mv.MV_MAX_VSS - 1]
)
def test_destroy_refuses_what_is_no_vs(vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.destroy_vs(vsid)


def test_destroy_refuses_a_root_vs() -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.destroy_vs(pp.ppid())


def test_destroy_refuses_a_second_time(vpid: int) -> None:
    created = vs.create_vs(vpid)
    vs.destroy_vs(created)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.destroy_vs(created)


@pytest.mark.parametrize("vsid", [mv.MV_INVALID_ID, mv.MV_MAX_VSS])
def test_owners_of_what_is_out_of_range_are_refused(vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.vmid(vsid)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.vpid(vsid)


@pytest.mark.parametrize("vsid", [mv.MV_MAX_VSS - 1, mv.MV_MAX_PPS - 1])
def test_owners_of_what_was_never_created_are_refused(vsid: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.vmid(vsid)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.vpid(vsid)


def test_root_vss_belong_to_their_root_vp() -> None:
    assert vs.vmid(mv.MV_SELF_ID) == vs.vmid(vs.vsid()) == mv.MV_ROOT_VMID
    assert vs.vpid(mv.MV_SELF_ID) == vs.vpid(vs.vsid()) == pp.ppid()


def test_a_new_vs_is_at_the_reset_vector(vsid: int) -> None:
    registers = {
        mv.mv_reg_t_rip: 0xFFF0,
        mv.mv_reg_t_rflags: 2,
        mv.mv_reg_t_rax: 0,
        mv.mv_reg_t_cs_selector: 0xF000,
        mv.mv_reg_t_cs_base: 0xFFFF_0000,
        mv.mv_reg_t_cs_limit: 0xFFFF,
        mv.mv_reg_t_cs_attrib: 0x9B,
        mv.mv_reg_t_ds_base: 0,
        mv.mv_reg_t_ds_attrib: 0x93,
        mv.mv_reg_t_gdtr_limit: 0xFFFF,
        mv.mv_reg_t_idtr_limit: 0xFFFF,
        mv.mv_reg_t_cr0: 0x6000_0010,
        mv.mv_reg_t_cr3: 0,
        mv.mv_reg_t_cr4: 0,
        mv.mv_reg_t_dr7: 0x400,
    }
    assert dict(zip(registers, vs.reg_get_list(vsid, registers), strict=True)) == registers
    assert vs.msr_get_list(vsid, [_EFER, _APIC_BASE]) == [0, 0xFEE0_0900]


@pytest.mark.slow
def test_exhaustion_is_refused_and_ends(vpid: int) -> None:
    created, refusal = until_refused(lambda: vs.create_vs(vpid))
    assert refusal.status == mv.MV_STATUS_FAILURE_UNKNOWN
    for vsid in created:
        vs.destroy_vs(vsid)
    vs.destroy_vs(vs.create_vs(vpid))


def test_create_and_destroy_many_times() -> None:
    seen = set()
    for _ in range(0x100):
        with Guest() as guest:
            seen.add(guest.vsid)
    assert len(seen) == 1
