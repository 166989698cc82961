"""mv_vs_op_queue_interrupt, inject_exception: how the guest is reached."""

import struct

import pytest

from microv import abi_gen as mv
from microv.exits import IoDetails
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.exhaustion import until_refused
from tests.hypercall.guest import CODE, Guest

_HANDLER = 0x2000
_STI_LOOP = b"\xfb\xeb\xfe"
_NOP_HLT = b"\x90\xf4"
_OUT_20_HLT = b"\xe6\x20\xf4"
_FROM_HANDLER = IoDetails(port=0x20, is_write=True, size_bytes=1, reps=1, data=b"\x00")


def _with_handler(guest: Guest, vector: int) -> None:
    """Real mode: the vector's handler writes to port 0x20."""
    guest.load(vector * 4, struct.pack("<HH", _HANDLER, 0))
    guest.load(_HANDLER, _OUT_20_HLT)
    vs.reg_set(guest.vsid, mv.mv_reg_t_rsp, 0x8000)


@pytest.mark.parametrize("vector", [0x20, 0x21, 0xFF])
def test_an_interrupt_is_delivered_when_the_guest_takes_it(vector: int) -> None:
    with Guest(_STI_LOOP) as guest:
        _with_handler(guest, vector)
        vs.queue_interrupt(guest.vsid, vector)
        assert vs.run(guest.vsid).details == _FROM_HANDLER


def test_an_interrupt_waits_while_the_guest_takes_none() -> None:
    with Guest(_NOP_HLT) as guest:
        _with_handler(guest, 0x20)
        vs.queue_interrupt(guest.vsid, 0x20)
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


@pytest.mark.parametrize("vector", [256, 2**32, 2**64 - 1])
def test_queue_refuses_what_is_no_vector(vsid: int, vector: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.queue_interrupt(vsid, vector)


def test_queue_refuses_more_than_it_holds(vsid: int) -> None:
    queued, refusal = until_refused(lambda: _queue_one(vsid))
    assert queued
    assert refusal.status == mv.MV_STATUS_FAILURE_UNKNOWN


def _queue_one(vsid: int) -> int:
    vs.queue_interrupt(vsid, 0x20)
    return vsid


@pytest.mark.parametrize("vector", [0, 1, 3, 6, 7])
def test_an_exception_is_delivered_before_the_next_instruction(vector: int) -> None:
    with Guest(_NOP_HLT) as guest:
        _with_handler(guest, vector)
        vs.inject_exception(guest.vsid, vector)
        assert vs.run(guest.vsid).details == _FROM_HANDLER
        frame = vs.reg_get(guest.vsid, mv.mv_reg_t_rsp)
        assert struct.unpack_from("<H", guest.memory, frame) == (CODE,)


def test_vector_2_is_nmi() -> None:
    with Guest(_NOP_HLT) as guest:
        _with_handler(guest, 2)
        vs.inject_exception(guest.vsid, 2)
        assert vs.run(guest.vsid).details == _FROM_HANDLER


@pytest.mark.parametrize("vector", [9, 15, 20, 31, 32, 255, 256, 2**64 - 1])
def test_inject_refuses_vectors_without_an_exception(vsid: int, vector: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.inject_exception(vsid, vector)


def test_inject_refuses_error_codes_beyond_32_bits(vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG3"):
        vs.inject_exception(vsid, 14, 2**32)
    vs.inject_exception(vsid, 6, 2**32)


def test_queue_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.queue_interrupt(bad_vsid, 0x20)


def test_inject_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.inject_exception(bad_vsid, 6)


def test_a_queued_interrupt_can_be_seen_until_it_is_taken() -> None:
    with Guest(_STI_LOOP) as guest:
        _with_handler(guest, 0x21)
        assert vs.queued_interrupt(guest.vsid) is None
        vs.queue_interrupt(guest.vsid, 0x21)
        assert vs.queued_interrupt(guest.vsid) == 0x21
        vs.run(guest.vsid)
        assert vs.queued_interrupt(guest.vsid) is None
