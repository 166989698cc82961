"""mv_vp_op: virtual processors."""

from microv import abi_gen as mv
from microv.call import with_handle

_OP = mv.MV_VP_OP_VAL


def create_vp(vmid: int) -> int:
    """A new VP of a VM. INVALID_INPUT_REG1: no guest VM; FAILURE_UNKNOWN: MV_MAX_VPS exist."""
    return with_handle(_OP | mv.MV_VP_OP_CREATE_VP_IDX_VAL, vmid)


def destroy_vp(vpid: int) -> None:
    """Ends a VP, which has no VS any more.

    INVALID_INPUT_REG1: no guest VP; FAILURE_UNKNOWN: a root VP, or one still in use.
    """
    with_handle(_OP | mv.MV_VP_OP_DESTROY_VP_IDX_VAL, vpid)


def vmid(vpid: int) -> int:
    """The VM of a VP, MV_SELF_ID and root VPs included.

    INVALID_INPUT_REG1: out of range; FAILURE_UNKNOWN: no such VP.
    """
    return with_handle(_OP | mv.MV_VP_OP_VMID_IDX_VAL, vpid)


def vpid() -> int:
    """The root VP of the calling thread."""
    return with_handle(_OP | mv.MV_VP_OP_VPID_IDX_VAL)
