"""mv_vs_op_tsc_get_offset, tsc_set_offset."""

import pytest

from microv.ops import vs
from microv.status import MvError


@pytest.mark.parametrize("offset", [0, 1, 1 << 63, (1 << 64) - 1])
def test_get_returns_what_was_set(vsid: int, offset: int) -> None:
    vs.tsc_set_offset(vsid, offset)
    assert vs.tsc_get_offset(vsid) == offset


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.tsc_get_offset(bad_vsid)


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.tsc_set_offset(bad_vsid, 0)
