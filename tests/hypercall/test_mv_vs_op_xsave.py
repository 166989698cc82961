"""mv_vs_op_xsave_get_all, xsave_set_all: the XSAVE area in standard format."""

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.threads import in_new_thread

_GET_ALL = mv.MV_VS_OP_VAL | mv.MV_VS_OP_XSAVE_GET_ALL_IDX_VAL
_SET_ALL = mv.MV_VS_OP_VAL | mv.MV_VS_OP_XSAVE_SET_ALL_IDX_VAL
_XMM = slice(160, 416)
_XSTATE_BV = slice(512, 520)
_XCOMP_BV = slice(520, 528)


def _area(vsid: int) -> bytearray:
    area = bytearray(vs.xsave_get_all(vsid))
    area[_XSTATE_BV] = (3).to_bytes(8, "little")
    return area


def test_set_then_get(vsid: int) -> None:
    area = _area(vsid)
    area[_XMM] = bytes(range(256))
    vs.xsave_set_all(vsid, bytes(area))
    assert vs.xsave_get_all(vsid)[_XMM] == vs.fpu_get_all(vsid)[_XMM] == bytes(range(256))


@pytest.mark.parametrize(("where", "value"), [(_XSTATE_BV, 1 << 62), (_XCOMP_BV, 1 << 63 | 3)])
def test_set_refuses_what_is_no_standard_area(vsid: int, where: slice, value: int) -> None:
    area = _area(vsid)
    area[where] = value.to_bytes(8, "little")
    before = vs.xsave_get_all(vsid)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.xsave_set_all(vsid, bytes(area))
    assert vs.xsave_get_all(vsid) == before


@pytest.mark.parametrize("call", [_GET_ALL, _SET_ALL])
def test_a_shared_page_is_needed(vsid: int, call: int) -> None:
    status, _ = in_new_thread(lambda: hypercall(call, process_handle(), vsid))
    assert status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.xsave_get_all(bad_vsid)


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.xsave_set_all(bad_vsid, bytes(mv.MV_PAGE_SIZE))


def test_set_and_get_many_times(vsid: int) -> None:
    area = vs.xsave_get_all(vsid)
    for _ in range(0x1000):
        vs.xsave_set_all(vsid, area)
        assert vs.xsave_get_all(vsid) == area
