"""mv_vs_op_msr_get, msr_set, msr_get_list, msr_set_list."""

import pytest

from microv import abi_gen as mv
from microv import rdl
from microv.call import with_handle
from microv.ops import pp, vs
from microv.shared_page import shared_page
from microv.status import MvError

_SET_LIST = mv.MV_VS_OP_VAL | mv.MV_VS_OP_MSR_SET_LIST_IDX_VAL
_GET_LIST = mv.MV_VS_OP_VAL | mv.MV_VS_OP_MSR_GET_LIST_IDX_VAL
_SYSENTER_EIP, _STAR, _LSTAR, _EFER = 0x176, 0xC000_0081, 0xC000_0082, 0xC000_0080
_NO_MSR = 0x1234_5678
_EFER_SVME = 1 << 12


def test_set_then_get(vsid: int) -> None:
    vs.msr_set(vsid, _LSTAR, 0xFFFF_8000_1234_5678)
    assert vs.msr_get(vsid, _LSTAR) == 0xFFFF_8000_1234_5678


def test_all_that_are_supported_can_be_read_and_written_back(vsid: int) -> None:
    supported = pp.msr_get_supported_list()
    before = vs.msr_get_list(vsid, supported)
    vs.msr_set_list(vsid, zip(supported, before, strict=True))


@pytest.mark.parametrize("msr", [_NO_MSR, 2**32 - 1])
def test_an_msr_that_does_not_exist_is_refused(vsid: int, msr: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.msr_get(vsid, msr)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.msr_set(vsid, msr, 0)


def test_a_number_beyond_32_bits_is_refused(vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.msr_get(vsid, 2**32 | _STAR)
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.msr_set(vsid, 2**32 | _STAR, 0)


def test_svme_cannot_be_set(vsid: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.msr_set(vsid, _EFER, _EFER_SVME)


def test_get_list_marks_what_does_not_exist(vsid: int) -> None:
    vs.msr_set(vsid, _STAR, 7)
    page = shared_page()
    page.write(rdl.to_page([(_NO_MSR, 5), (_STAR, 5), (2**40, 5)]))
    with_handle(_GET_LIST, vsid)
    refused = mv.MV_RDL_ENTRY_REFUSED
    answer = rdl.entries(page.read(mv.mv_rdl_t))
    assert answer == [(refused | _NO_MSR, 0), (_STAR, 7), (refused | 2**40, 0)]


def test_set_list_stops_at_the_first_refusal_and_says_where(vsid: int) -> None:
    vs.msr_set(vsid, _SYSENTER_EIP, 1)
    page = shared_page()
    page.write(rdl.to_page([(_STAR, 9), (_NO_MSR, 9), (_SYSENTER_EIP, 9)]))
    with_handle(_SET_LIST, vsid)
    answer = page.read(mv.mv_rdl_t)
    assert answer.reg[0] == 1
    assert answer.entries[1].reg == mv.MV_RDL_ENTRY_REFUSED | _NO_MSR
    assert vs.msr_get_list(vsid, [_STAR, _SYSENTER_EIP]) == [9, 1]


def test_the_typed_callers_raise_with_the_position(vsid: int) -> None:
    with pytest.raises(vs.MsrRefusedError) as refusal:
        vs.msr_get_list(vsid, [_STAR] * 260 + [_NO_MSR])
    assert refusal.value.position == 260
    with pytest.raises(vs.MsrRefusedError) as refusal:
        vs.msr_set_list(vsid, [(_STAR, 0)] * 260 + [(_NO_MSR, 0)])
    assert refusal.value.position == 260


@pytest.mark.parametrize("call", [_SET_LIST, _GET_LIST])
@pytest.mark.parametrize("num_entries", [0, 251, 2**64 - 1])
def test_bad_counts_are_refused(vsid: int, call: int, num_entries: int) -> None:
    page = rdl.to_page([(_STAR, 1)])
    page.num_entries = num_entries
    shared_page().write(page)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(call, vsid)


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.msr_get(bad_vsid, _STAR)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.msr_get_list(bad_vsid, [_STAR])


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.msr_set(bad_vsid, _STAR, 0)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.msr_set_list(bad_vsid, [(_STAR, 0)])


def test_set_and_get_many_times(vsid: int) -> None:
    for value in range(0x1000):
        vs.msr_set(vsid, _STAR, value)
        assert vs.msr_get(vsid, _STAR) == value
