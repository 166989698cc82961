"""mv_vs_op_vapic_set and tpr_report_set."""

from collections.abc import Iterator

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import irqchip, vp, vs
from microv.status import MvError

_REPORT = mv.MV_VS_OP_VAL | mv.MV_VS_OP_TPR_REPORT_SET_IDX_VAL


@pytest.fixture
def with_apic(vmid: int) -> Iterator[int]:
    """A VS with a local APIC, in a VM without memory."""
    irqchip.irqchip_create(vmid)
    vpid = vp.create_vp(vmid)
    vsid = vs.create_vs(vpid)
    yield vsid
    vs.destroy_vs(vsid)
    vp.destroy_vp(vpid)


def test_a_vs_that_is_none_is_refused(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.vapic_set(bad_vsid, 0)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.tpr_report_set(bad_vsid, report=True)


def test_without_a_local_apic_there_is_no_place(vsid: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.vapic_set(vsid, 0)


def test_a_place_is_in_memory(with_apic: int) -> None:
    for gpa in (1, 0x1000, 2**64 - 1):
        with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
            vs.vapic_set(with_apic, gpa)
    vs.vapic_set(with_apic, 0)


def test_reports_are_on_or_off(vsid: int) -> None:
    for report in (True, False):
        vs.tpr_report_set(vsid, report=report)
    status, _ = hypercall(_REPORT, process_handle(), vsid, 2)
    assert status == mv.MV_STATUS_INVALID_INPUT_REG2
