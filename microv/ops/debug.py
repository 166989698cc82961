"""mv_debug_op: words for the engine's log, which is standard error."""

from microv import abi_gen as mv
from microv.call import checked

_OUT = mv.MV_DEBUG_OP_VAL | mv.MV_DEBUG_OP_OUT_IDX_VAL


def out(value0: int, value1: int) -> None:
    """Writes both as one line in hex. Never fails."""
    checked(_OUT, value0, value1)
