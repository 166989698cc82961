"""mv_id_op: which specifications the engine speaks, and its capabilities."""

from microv import abi_gen as mv
from microv.call import checked, hypercall
from microv.status import MvError

_VERSION = mv.MV_ID_OP_VAL | mv.MV_ID_OP_VERSION_IDX_VAL
_HAS_CAPABILITY = mv.MV_ID_OP_VAL | mv.MV_ID_OP_HAS_CAPABILITY_IDX_VAL


def version() -> int:
    """A bitmap: bit n is set where specification n is accepted."""
    return checked(_VERSION)


def has_capability(capability: int) -> bool:
    """Whether the engine has it. None is defined, so none it has."""
    status, _ = hypercall(_HAS_CAPABILITY, capability)
    if status == mv.MV_STATUS_FAILURE_UNSUPPORTED:
        return False
    if status != mv.MV_STATUS_SUCCESS:
        raise MvError(status)
    return True
