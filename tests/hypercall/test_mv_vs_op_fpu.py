"""mv_vs_op_fpu_get_all, fpu_set_all: the FXSAVE image."""

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.threads import in_new_thread

_GET_ALL = mv.MV_VS_OP_VAL | mv.MV_VS_OP_FPU_GET_ALL_IDX_VAL
_SET_ALL = mv.MV_VS_OP_VAL | mv.MV_VS_OP_FPU_SET_ALL_IDX_VAL
_MXCSR = slice(24, 28)
_REGISTERS = slice(32, 416)


def test_a_new_vs_has_the_power_on_state(vsid: int) -> None:
    image = vs.fpu_get_all(vsid)
    assert int.from_bytes(image[_MXCSR], "little") == 0x1F80
    assert not any(image[_REGISTERS])


def test_set_then_get(vsid: int) -> None:
    image = bytearray(vs.fpu_get_all(vsid))
    # Ten bytes of each x87 register hold something, sixteen of each XMM register.
    for start in range(32, 160, 16):
        image[start : start + 10] = bytes(range(1, 11))
    image[160:416] = bytes(range(256))
    vs.fpu_set_all(vsid, bytes(image))
    assert vs.fpu_get_all(vsid)[_REGISTERS] == bytes(image[_REGISTERS])


@pytest.mark.parametrize("call", [_GET_ALL, _SET_ALL])
def test_a_shared_page_is_needed(vsid: int, call: int) -> None:
    status, _ = in_new_thread(lambda: hypercall(call, process_handle(), vsid))
    assert status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.fpu_get_all(bad_vsid)


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.fpu_set_all(bad_vsid, bytes(512))


def test_set_and_get_many_times(vsid: int) -> None:
    image = vs.fpu_get_all(vsid)
    for _ in range(0x1000):
        vs.fpu_set_all(vsid, image)
        assert vs.fpu_get_all(vsid) == image
