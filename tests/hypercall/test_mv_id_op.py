"""mv_id_op: version and capabilities."""

import pytest

from microv import abi_gen as mv
from microv.call import hypercall
from microv.ops import id as id_op


def test_version_accepts_specification_1_only() -> None:
    assert id_op.version() == mv.MV_SPEC_ID1_MASK == mv.MV_ALL_SPECS_SUPPORTED_VAL


@pytest.mark.parametrize("capability", [0, 1, 2**64 - 1])
def test_no_capability_is_there(capability: int) -> None:
    assert not id_op.has_capability(capability)


@pytest.mark.parametrize(
    "index",
    [
        mv.MV_ID_OP_GET_CAPABILITY_IDX_VAL,
        mv.MV_ID_OP_CLR_CAPABILITY_IDX_VAL,
        mv.MV_ID_OP_SET_CAPABILITY_IDX_VAL,
    ],
)
def test_capabilities_cannot_be_changed(index: int) -> None:
    status, _ = hypercall(mv.MV_ID_OP_VAL | index, 1)
    assert status == mv.MV_STATUS_FAILURE_UNSUPPORTED
