"""RAX decoded: signature, flags, group, gate, index, in this order."""

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle

_GATED = (mv.MV_PP_OP_VAL, mv.MV_VM_OP_VAL, mv.MV_VP_OP_VAL, mv.MV_VS_OP_VAL)
_UNGATED = (mv.MV_ID_OP_VAL, mv.MV_HANDLE_OP_VAL, mv.MV_DEBUG_OP_VAL)
# Numbers that the specification leaves free.
_HOLES = [0x11, 0x16, 0x2A, 0x2F, 0x31]


@pytest.mark.parametrize("rax", [0, 0x42, 0x764E_0000_0004_0002, 0xFFFF_0000_0004_0002])
def test_other_signatures_are_unsupported(rax: int) -> None:
    assert hypercall(rax, process_handle())[0] == mv.MV_STATUS_FAILURE_UNSUPPORTED


@pytest.mark.parametrize("bit", range(32, 48))
def test_flags_are_unsupported(bit: int) -> None:
    vmid = mv.MV_VM_OP_VAL | mv.MV_VM_OP_VMID_IDX_VAL
    status, _ = hypercall(vmid | 1 << bit, process_handle())
    assert status == mv.MV_STATUS_FAILURE_UNSUPPORTED


@pytest.mark.parametrize("group", [0x7, 0x8, 0xFFFF])
def test_other_groups_are_unsupported(group: int) -> None:
    status, _ = hypercall(mv.MV_HYPERCALL_SIG_VAL | group << 16, process_handle())
    assert status == mv.MV_STATUS_FAILURE_UNSUPPORTED


@pytest.mark.parametrize("opcode", _GATED)
@pytest.mark.parametrize("bad_handle", [0, 0x42, mv.MV_INVALID_HANDLE])
def test_a_bad_handle_stops_before_the_index(opcode: int, bad_handle: int) -> None:
    answers = {hypercall(opcode | index, bad_handle) for index in (*range(0x50), 0xFFFF)}
    assert answers == {(mv.MV_STATUS_FAILURE_INVALID_HANDLE, bad_handle)}


@pytest.mark.parametrize("opcode", [*_GATED, *_UNGATED])
@pytest.mark.parametrize("index", [0x3F, 0x5F, 0xFFFF])
def test_other_indexes_are_unsupported(opcode: int, index: int) -> None:
    assert hypercall(opcode | index, process_handle())[0] == mv.MV_STATUS_FAILURE_UNSUPPORTED


@pytest.mark.parametrize("index", _HOLES)
def test_holes_are_unsupported(index: int) -> None:
    status, _ = hypercall(mv.MV_VS_OP_VAL | index, process_handle())
    assert status == mv.MV_STATUS_FAILURE_UNSUPPORTED


def test_the_handle_stays_in_r10_where_there_is_no_answer() -> None:
    clear = mv.MV_PP_OP_VAL | mv.MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL
    assert hypercall(clear, process_handle()) == (mv.MV_STATUS_SUCCESS, process_handle())
