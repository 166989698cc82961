"""mv_vs_op_debug_set: steps and breakpoints of the root."""

import pytest

from microv import abi_gen as mv
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest

_NOP_INT3_HLT = b"\x90\xcc\xf4"
_BS = 1 << 14
_DR6_FIXED = 0xFFFF_0FF0


def _details(vsid: int) -> tuple[int, int, int]:
    exit_ = vs.run(vsid)
    assert exit_.reason == mv.mv_exit_reason_t_debug
    assert isinstance(exit_.details, mv.mv_exit_debug_t)
    return exit_.details.vector, exit_.details.rip, exit_.details.dr6


def test_a_step_leaves_behind_the_instruction() -> None:
    with Guest(_NOP_INT3_HLT) as guest:
        vs.debug_set(guest.vsid, mv.mv_debug_t(flags=mv.MV_DEBUG_STEP))
        assert _details(guest.vsid) == (1, CODE + 1, _DR6_FIXED | _BS)


def test_int3_leaves_at_the_instruction() -> None:
    with Guest(_NOP_INT3_HLT) as guest:
        vs.debug_set(guest.vsid, mv.mv_debug_t(flags=mv.MV_DEBUG_INT3))
        vector, rip, _ = _details(guest.vsid)
        assert (vector, rip) == (3, CODE + 1)


def test_a_breakpoint_leaves_at_the_instruction() -> None:
    with Guest(_NOP_INT3_HLT) as guest:
        wanted = mv.mv_debug_t(flags=mv.MV_DEBUG_POINTS, dr7=1 << 2)
        wanted.dr[1] = CODE + 1
        vs.debug_set(guest.vsid, wanted)
        assert _details(guest.vsid) == (1, CODE + 1, _DR6_FIXED | 2)


@pytest.mark.parametrize("flags", [mv.MV_DEBUG_ALL + 1, 1 << 63], ids=hex)
def test_unknown_flags_are_refused(vsid: int, flags: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.debug_set(vsid, mv.mv_debug_t(flags=flags))


def test_bad_ids_are_refused(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.debug_set(bad_vsid, mv.mv_debug_t())
