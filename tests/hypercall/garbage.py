"""Any registers and any page get a status: run as a program, so that a crash of the engine is seen
as the end of a process and what the calls destroy is nobody else's.

Half of the numbers are of a kind that gets far: existing indexes, live IDs, an open handle, memory
of this process. Every VS is kicked before each call, so that no guest runs for ever.
"""

import mmap

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microv import abi_gen as mv
from microv import engine_ffi
from microv.call import hypercall, process_handle
from microv.ops import handle
from microv.shared_page import shared_page
from tests.hypercall.guest import Guest

_KICK = mv.MV_VS_OP_VAL | mv.MV_VS_OP_KICK_IDX_VAL
_STATUSES = {value for name, value in vars(mv).items() if name.startswith("MV_STATUS_")}
_MEMORY = mmap.mmap(-1, 64 * mv.MV_PAGE_SIZE)
_ADDRESS = engine_ffi.address_of(_MEMORY)
# Handles that the calls close are others than the one this program uses.
_HANDLE = handle.open_handle()

_u64 = st.integers(0, 2**64 - 1)
_ids = st.sampled_from([0, 1, 2, mv.MV_MAX_PPS, mv.MV_MAX_PPS + 1, mv.MV_SELF_ID, mv.MV_INVALID_ID])
_addresses = st.integers(0, 64).map(lambda page: _ADDRESS + page * mv.MV_PAGE_SIZE)
_words = st.one_of(_u64, _ids, _addresses, st.integers(0, 0x100), st.just(mv.MV_PAGE_SIZE))
_calls = st.one_of(
    _u64,
    st.builds(
        lambda group, index: mv.MV_HYPERCALL_SIG_VAL | group << 16 | index,
        st.integers(0, 7),
        st.integers(0, 0x41),
    ),
)
_pages = st.lists(_words, max_size=64)
_OWN_HANDLE_CLOSED = mv.MV_HANDLE_OP_VAL | mv.MV_HANDLE_OP_CLOSE_HANDLE_IDX_VAL
_SET_PAGE = mv.MV_PP_OP_VAL | mv.MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL


@settings(max_examples=3000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    call=_calls,
    r10=_words,
    gated=st.booleans(),
    rest=st.tuples(_words, _words, _words),
    page=_pages,
)
def any_call_gets_a_status(
    call: int, r10: int, gated: bool, rest: tuple[int, int, int], page: list[int]
) -> None:
    """One call; the statuses of the specification are all there is."""
    for vsid in range(mv.MV_MAX_PPS, mv.MV_MAX_PPS + 4):
        hypercall(_KICK, process_handle(), vsid)
    shared_page().write_bytes(b"".join(word.to_bytes(8, "little") for word in page))
    r10 = _HANDLE if gated else r10
    if (call, r10) == (_OWN_HANDLE_CLOSED, process_handle()):
        return
    status, _ = hypercall(call, r10, *rest)
    assert status in _STATUSES, f"{call:#x} {r10:#x} {rest} -> {status:#x}"


def main() -> None:
    """Begins with a VM that has memory and one that has none."""
    guests = [Guest(), Guest()]
    hypercall(mv.MV_VM_OP_VAL | mv.MV_VM_OP_MMIO_UNMAP_IDX_VAL, process_handle(), guests[1].vmid)
    any_call_gets_a_status()


if __name__ == "__main__":
    main()
