"""mv_handle_op: handles. Most callers use that of the process (`microv.call.process_handle`)."""

from microv import abi_gen as mv
from microv.call import checked

_OPEN = mv.MV_HANDLE_OP_VAL | mv.MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL
_CLOSE = mv.MV_HANDLE_OP_VAL | mv.MV_HANDLE_OP_CLOSE_HANDLE_IDX_VAL


def open_handle(spec_id: int = mv.MV_SPEC_ID1_VAL) -> int:
    """A new handle. INVALID_INPUT_REG0 for a specification the engine does not speak."""
    return checked(_OPEN, spec_id)


def close_handle(handle: int) -> None:
    """Closes a handle. FAILURE_INVALID_HANDLE where it is not open."""
    checked(_CLOSE, handle)
