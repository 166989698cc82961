"""mv_vm_op: VMs and their memory."""

import ctypes
from collections.abc import Iterable, Sequence

from microv import abi_gen as mv
from microv import mdl
from microv.call import with_handle
from microv.mdl import Run
from microv.shared_page import shared_page
from microv.status import MvError

_OP = mv.MV_VM_OP_VAL
_MAP = _OP | mv.MV_VM_OP_MMIO_MAP_IDX_VAL
_UNMAP = _OP | mv.MV_VM_OP_MMIO_UNMAP_IDX_VAL


def create_vm() -> int:
    """A new VM. FAILURE_UNKNOWN: MV_MAX_VMS exist."""
    return with_handle(_OP | mv.MV_VM_OP_CREATE_VM_IDX_VAL)


def destroy_vm(vmid: int) -> None:
    """Ends a VM, which has no VP any more.

    INVALID_INPUT_REG1: no guest VM; FAILURE_UNKNOWN: the root VM, or one still in use.
    """
    with_handle(_OP | mv.MV_VM_OP_DESTROY_VM_IDX_VAL, vmid)


def vmid() -> int:
    """The caller's VM: the root."""
    return with_handle(_OP | mv.MV_VM_OP_VMID_IDX_VAL)


def mmio_map(vmid: int, runs: Iterable[tuple[int, int, int, int]]) -> None:
    """Gives memory of this process to a VM: runs of (gpa, address, bytes, MV_MAP_FLAG_*).

    The memory stays mapped here until it was unmapped from the VM. After a failure none of the runs
    is mapped.

    INVALID_INPUT_REG1: no guest VM; FAILURE_UNKNOWN: a run is unaligned, empty or out of range, is
    mapped already, or is no memory of this process with the rights it should give.
    """
    done: list[Run] = []
    for portion in mdl.lists(Run(*run) for run in runs):
        try:
            _for_portion(_MAP, vmid, portion)
        except MvError:
            mmio_unmap(vmid, [(run.gpa, run.size) for run in done])
            raise
        done += portion


def mmio_unmap(vmid: int, runs: Iterable[tuple[int, int]]) -> None:
    """Takes memory from a VM: runs of (gpa, bytes). When it returns no vCPU uses it any more.

    INVALID_INPUT_REG1: no guest VM; FAILURE_UNKNOWN: a run is unaligned, empty or out of range, or
    a page of it is not mapped. Of up to MV_MDL_MAX_ENTRIES runs none is unmapped then; of more,
    the lists before the refused one are.
    """
    for portion in mdl.lists(Run(gpa, gpa, size, 0) for gpa, size in runs):
        _for_portion(_UNMAP, vmid, portion)


def mmio_replace(vmid: int, runs: Iterable[tuple[int, int, int, int]]) -> None:
    """Makes mapped pages other memory: runs as for `mmio_map`. The guest finds the one or the other
    at any time, and when it returns no vCPU uses the former any more. Logs go on.

    Errors as for `mmio_map`; FAILURE_UNKNOWN also where a page is not mapped. Of more than
    MV_MDL_MAX_ENTRIES runs the lists before the refused one are replaced.
    """
    for portion in mdl.lists(Run(*run) for run in runs):
        _for_portion(_OP | mv.MV_VM_OP_MMIO_REPLACE_IDX_VAL, vmid, portion)


def refuse_set(vmid: int, gpa: int, size: int, *, refused: bool) -> None:
    """Whether accesses to pages of [gpa, gpa + size) that are not mapped leave with memory_fault.

    INVALID_INPUT_REG1: no guest VM; REG2, REG3: unaligned, or out of range.
    """
    with_handle(_OP | mv.MV_VM_OP_REFUSE_SET_IDX_VAL, vmid, gpa | refused, size)


def populate(vmid: int, gpa: int, size: int) -> int:
    """Makes memory of this process present that the guest has at [gpa, gpa + size); how many bytes
    from there on are mapped, or part of them: the rest is for the next call. Errors as above."""
    return with_handle(_OP | mv.MV_VM_OP_POPULATE_IDX_VAL, vmid, gpa, size)


def set_time_budget(vmid: int, ns: int) -> None:
    """How long one map or unmap call may take before it asks to be called again.

    INVALID_INPUT_REG1: no guest VM; INVALID_INPUT_REG2: 0.
    """
    with_handle(_OP | mv.MV_VM_OP_SET_TIME_BUDGET_IDX_VAL, vmid, ns)


def dirty_log_set(vmid: int, gpa: int, size: int, *, on: bool, all_written: bool = False) -> None:
    """Logs writes to [gpa, gpa + size) from now on, or no more.

    INVALID_INPUT_REG1: no guest VM; REG2, REG3: unaligned, or out of range.
    """
    flags = mv.MV_DIRTY_LOG_ON if on else 0
    if all_written:
        flags |= mv.MV_DIRTY_LOG_ALL_WRITTEN
    with_handle(_OP | mv.MV_VM_OP_DIRTY_LOG_SET_IDX_VAL, vmid, gpa | flags, size)


def dirty_log_get(vmid: int, gpa: int, size: int) -> bytes:
    """A bit for each page of [gpa, gpa + size): whether it was written. Errors as above."""
    page, found = shared_page(), b""
    for start, length in _on_bitmaps(gpa, size):
        with_handle(_OP | mv.MV_VM_OP_DIRTY_LOG_GET_IDX_VAL, vmid, start, length)
        found += page.read_bytes(-(-length // mv.MV_PAGE_SIZE // 8))
    return found


def dirty_log_clear(vmid: int, gpa: int, size: int, bitmap: bytes) -> None:
    """Forgets the pages whose bits are set. What they hold is whole when it returns, and what is
    written from then on is logged again. Errors as above."""
    page, at = shared_page(), 0
    for start, length in _on_bitmaps(gpa, size):
        end = at + -(-length // mv.MV_PAGE_SIZE // 8)
        page.write_bytes(bitmap[at:end])
        with_handle(_OP | mv.MV_VM_OP_DIRTY_LOG_CLEAR_IDX_VAL, vmid, start, length)
        at = end


def dirty_log_note(vmid: int) -> None:
    """VSs tell by `dirty_log_take` which pages they write from now on. It cannot be undone.

    INVALID_INPUT_REG1: no guest VM.
    """
    with_handle(_OP | mv.MV_VM_OP_DIRTY_LOG_NOTE_IDX_VAL, vmid)


def dirty_log_clear_list(vmid: int, pages: Sequence[int]) -> None:
    """As `dirty_log_clear`, for pages anywhere. FAILURE_UNKNOWN: unaligned, or out of range."""
    page, most = shared_page(), len(mv.mv_written_t().pages)
    for start in range(0, len(pages), most):
        portion = pages[start : start + most]
        written = mv.mv_written_t(num_pages=len(portion))
        for number, gpa in enumerate(portion):
            written.pages[number] = gpa
        page.write(written)
        with_handle(_OP | mv.MV_VM_OP_DIRTY_LOG_CLEAR_LIST_IDX_VAL, vmid)


def _on_bitmaps(gpa: int, size: int) -> Iterable[tuple[int, int]]:
    step = mv.MV_DIRTY_LOG_MAX_PAGES * mv.MV_PAGE_SIZE
    return [(at, min(step, gpa + size - at)) for at in range(gpa, gpa + size, step)]


def msr_leave_set(vmid: int, reasons: int) -> None:
    """Which refused MSR accesses (MV_MSR_LEAVE_*) leave instead of raising #GP.

    INVALID_INPUT_REG1: no guest VM; INVALID_INPUT_REG2: an unknown reason.
    """
    with_handle(_OP | mv.MV_VM_OP_MSR_LEAVE_SET_IDX_VAL, vmid, reasons)


def msr_filter_set(vmid: int, ranges: Sequence[tuple[int, int, int, bytes]], *, deny: bool) -> None:
    """Which MSRs the guest may touch: ranges of (MV_MSR_FILTER_READ and _WRITE, first, count,
    bitmap of what is allowed); `deny` holds for all others.

    INVALID_INPUT_REG1: no guest VM; FAILURE_UNKNOWN: an unknown flag, more than
    MV_MSR_FILTER_MAX_RANGES, or more than MV_MSR_FILTER_MAX_MSRS in one.
    """
    parts = [*ranges] or [(0, 0, 0, b"")]
    for number, (kinds, first, count, bitmap) in enumerate(parts):
        flags = kinds
        if number == 0:
            flags |= mv.MV_MSR_FILTER_FIRST | (mv.MV_MSR_FILTER_DENY if deny else 0)
        if number == len(parts) - 1:
            flags |= mv.MV_MSR_FILTER_LAST
        part = mv.mv_msr_filter_t(flags=flags, first=first, count=count)
        ctypes.memmove(part.bitmap, bitmap, min(len(bitmap), len(part.bitmap)))
        shared_page().write(part)
        with_handle(_OP | mv.MV_VM_OP_MSR_FILTER_SET_IDX_VAL, vmid)


def platform_info_set(vmid: int, *, readable: bool) -> None:
    """Whether the guest can read the MSR PLATFORM_INFO. INVALID_INPUT_REG1: no guest VM."""
    with_handle(_OP | mv.MV_VM_OP_PLATFORM_INFO_SET_IDX_VAL, vmid, int(readable))


def quirks_set(vmid: int, quirks: int) -> None:
    """Where the processors of the VM are not like bare ones: MV_QUIRK_*; all are set to begin with.

    INVALID_INPUT_REG1: no guest VM; INVALID_INPUT_REG2: an unknown quirk.
    """
    with_handle(_OP | mv.MV_VM_OP_QUIRKS_SET_IDX_VAL, vmid, quirks)


def hyperv_connect(vmid: int, connection: int, *, known: bool) -> None:
    """Whether signals of Hyper-V's guests to a connection leave as MV_EXIT_HYPERV_SIGNAL.

    INVALID_INPUT_REG1: no guest VM; INVALID_INPUT_REG2: more than 24 bits.
    """
    with_handle(_OP | mv.MV_VM_OP_HYPERV_CONNECT_IDX_VAL, vmid, connection, known)


def stats_get(vmid: int) -> mv.mv_vm_stats_t:
    """What the VM has done so far. INVALID_INPUT_REG1: no guest VM."""
    page = shared_page()
    with_handle(_OP | mv.MV_VM_OP_STATS_GET_IDX_VAL, vmid)
    return page.read(mv.mv_vm_stats_t)


def clock_get(vmid: int) -> mv.mv_clock_t:
    """The VM's clock and the host's at one moment. INVALID_INPUT_REG1: no guest VM."""
    page = shared_page()
    with_handle(_OP | mv.MV_VM_OP_CLOCK_GET_IDX_VAL, vmid)
    return page.read(mv.mv_clock_t)


def clock_set(vmid: int, ns: int, realtime: int = 0) -> None:
    """Sets the clock, which goes on from there; `realtime` is when it had that value, 0 for now.

    INVALID_INPUT_REG1: no guest VM.
    """
    with_handle(_OP | mv.MV_VM_OP_CLOCK_SET_IDX_VAL, vmid, ns, realtime)


def _for_portion(group_index: int, vmid: int, portion: list[Run]) -> None:
    shared_page().write(mdl.to_page(portion))
    with_handle(group_index, vmid, mv.MV_SELF_ID)


def hypercall_leave_set(vmid: int, hypercalls: int) -> None:
    """MV_HYPERCALL_LEAVE_*: what the root answers. INVALID_INPUT_REG2: an unknown flag."""
    with_handle(_OP | mv.MV_VM_OP_HYPERCALL_LEAVE_SET_IDX_VAL, vmid, hypercalls)
