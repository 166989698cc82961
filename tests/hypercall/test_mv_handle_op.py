"""mv_handle_op: the version handshake, and handles from open to close."""

import pytest

from microv import abi_gen as mv
from microv.call import checked
from microv.ops import handle
from microv.status import MvError

_VMID = mv.MV_VM_OP_VAL | mv.MV_VM_OP_VMID_IDX_VAL


@pytest.mark.parametrize("spec_id", [0, 1, mv.MV_INVALID_VERSION, mv.MV_SPEC_ID1_VAL + 1])
def test_open_refuses_other_specifications(spec_id: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG0"):
        handle.open_handle(spec_id)


def test_open_ignores_the_upper_half_of_the_register() -> None:
    opened = handle.open_handle(0xFFFF_FFFF_0000_0000 | mv.MV_SPEC_ID1_VAL)
    handle.close_handle(opened)


def test_an_open_handle_passes_the_gate_and_a_closed_one_does_not() -> None:
    opened = handle.open_handle()
    assert checked(_VMID, opened) == mv.MV_ROOT_VMID
    handle.close_handle(opened)
    with pytest.raises(MvError, match="INVALID_HANDLE"):
        checked(_VMID, opened)


def test_close_refuses_what_is_not_open() -> None:
    opened = handle.open_handle()
    handle.close_handle(opened)
    for bad in (opened, 0, 0x42, mv.MV_INVALID_HANDLE):
        with pytest.raises(MvError, match="INVALID_HANDLE"):
            handle.close_handle(bad)


def test_handles_do_not_disturb_each_other() -> None:
    first, second = handle.open_handle(), handle.open_handle()
    assert first != second
    handle.close_handle(first)
    assert checked(_VMID, second) == mv.MV_ROOT_VMID
    handle.close_handle(second)


def test_no_handle_is_given_twice() -> None:
    given = set()
    for _ in range(0x1000):
        opened = handle.open_handle()
        handle.close_handle(opened)
        given.add(opened)
    assert len(given) == 0x1000
