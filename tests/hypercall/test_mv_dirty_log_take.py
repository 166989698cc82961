"""mv_vm_op_dirty_log_note, dirty_log_clear_list, mv_vs_op_dirty_log_take."""

from collections.abc import Iterator

import pytest

from microv import abi_gen as mv
from microv.ops import vm, vs
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest

_PAGE = mv.MV_PAGE_SIZE
# MOV [0x4000], AL; MOV [0x5000], AL; MOV [0x4000], AL; HLT.
_WRITES = b"\xa2\x00\x40\xa2\x00\x50\xa2\x00\x40\xf4"


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest whose written pages are noted."""
    with Guest(_WRITES) as made:
        vm.dirty_log_note(made.vmid)
        vm.dirty_log_set(made.vmid, 0, len(made.memory), on=True)
        yield made


def _run(guest: Guest) -> None:
    guest.vcpus[0].start_at(CODE)
    assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_a_page_is_told_once(guest: Guest) -> None:
    _run(guest)
    assert vs.dirty_log_take(guest.vsid) == [0x4000, 0x5000]
    _run(guest)
    assert vs.dirty_log_take(guest.vsid) == []


def test_a_cleared_page_is_told_again(guest: Guest) -> None:
    _run(guest)
    vs.dirty_log_take(guest.vsid)
    vm.dirty_log_clear_list(guest.vmid, [0x5000])
    _run(guest)
    assert vs.dirty_log_take(guest.vsid) == [0x5000]


def test_what_is_not_taken_is_kept(guest: Guest) -> None:
    _run(guest)
    with Guest(_WRITES) as other:
        _run(other)
        assert vs.dirty_log_take(other.vsid) == []
    vm.dirty_log_clear_list(guest.vmid, [0x4000, 0x5000])
    _run(guest)
    assert vs.dirty_log_take(guest.vsid) == 2 * [0x4000, 0x5000]


def test_many_pages_make_it_leave() -> None:
    # MOV [EDI], AL; ADD EDI, 0x1000; DEC ECX; JNZ to the start; HLT.
    code = b"\x67\x88\x07\x66\x81\xc7\x00\x10\x00\x00\x66\x49\x75\xf2\xf4"
    count = 600
    with Guest(code, memory=0x10000 + count * _PAGE) as guest:
        vm.dirty_log_note(guest.vmid)
        vm.dirty_log_set(guest.vmid, 0, len(guest.memory), on=True)
        limit = [(mv.mv_reg_t_ds_limit, 0xFFFF_FFFF)]
        registers = [(mv.mv_reg_t_rdi, 0x10000), (mv.mv_reg_t_rcx, count)]
        vs.reg_set_list(guest.vsid, registers + limit)
        told: list[int] = []
        reasons = []
        while mv.mv_exit_reason_t_hlt not in reasons:
            reasons.append(vs.run(guest.vsid).reason)
            told += vs.dirty_log_take(guest.vsid)
        assert told == [0x10000 + page * _PAGE for page in range(count)]
        assert reasons.count(mv.mv_exit_reason_t_noted) >= count // 100


def test_a_vs_that_notes_nothing_tells_nothing() -> None:
    with Guest(_WRITES) as guest:
        vm.dirty_log_set(guest.vmid, 0, len(guest.memory), on=True)
        _run(guest)
        assert vs.dirty_log_take(guest.vsid) == []


@pytest.mark.parametrize("page", [1, mv.MV_MAX_GPA, 2**64 - _PAGE])
def test_bad_pages_are_refused(guest: Guest, page: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.dirty_log_clear_list(guest.vmid, [0x4000, page])


def test_pages_that_are_nowhere_are_cleared(guest: Guest) -> None:
    vm.dirty_log_clear_list(guest.vmid, [0x100_0000, mv.MV_GPA_SMM | 0x4000])
    vm.dirty_log_clear_list(guest.vmid, [0x4000] * 2000)


def test_note_refuses(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.dirty_log_note(bad_vmid)


def test_clear_list_refuses(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.dirty_log_clear_list(bad_vmid, [0])


def test_take_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.dirty_log_take(bad_vsid)
