"""mv_vs_op_clock_get, clock_set."""

import pytest

from microv.ops import vs
from microv.status import MvError

_DAY_NS = 86_400 * 10**9


def test_the_clock_never_goes_back(vsid: int) -> None:
    seen = [vs.clock_get(vsid) for _ in range(0x1000)]
    assert seen == sorted(seen)


def test_the_clock_goes_on_from_what_was_set(vsid: int) -> None:
    vs.clock_set(vsid, _DAY_NS)
    assert _DAY_NS <= vs.clock_get(vsid) < 2 * _DAY_NS


def test_the_clock_wraps(vsid: int) -> None:
    vs.clock_set(vsid, 2**64 - 1)
    vs.clock_get(vsid)
    assert vs.clock_get(vsid) < _DAY_NS


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.clock_get(bad_vsid)


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.clock_set(bad_vsid, 0)
