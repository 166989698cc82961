"""mv_vs_op: virtual-processor states.

Every call but `vsid` raises INVALID_INPUT_REG1 where the ID names no guest's object; all but `kick`
do so too while the VS runs on another thread.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from microv import abi_gen as mv
from microv import cdl, rdl
from microv.call import hypercall, process_handle, with_handle
from microv.cdl import CdlEntry
from microv.exits import Exit, exit_on_page
from microv.ops.pp import cdl_of_everything
from microv.shared_page import shared_page
from microv.status import MvError

_OP = mv.MV_VS_OP_VAL
_FXSAVE_SIZE: Final = 512
_LAPIC_SIZE: Final = 1024
_LEFT: Final = {mv.MV_STATUS_SUCCESS, mv.MV_STATUS_EXIT_FAILURE, mv.MV_STATUS_EXIT_UNKNOWN}


def create_vs(vpid: int) -> int:
    """A new VS of a VP, in its power-on state. FAILURE_UNKNOWN: MV_MAX_VSS exist."""
    return with_handle(_OP | mv.MV_VS_OP_CREATE_VS_IDX_VAL, vpid)


def destroy_vs(vsid: int) -> None:
    """Ends a VS. FAILURE_UNKNOWN: a root VS, or one that runs."""
    with_handle(_OP | mv.MV_VS_OP_DESTROY_VS_IDX_VAL, vsid)


def vmid(vsid: int) -> int:
    """The VM of a VS, MV_SELF_ID and root VSs included. FAILURE_UNKNOWN: no such VS."""
    return with_handle(_OP | mv.MV_VS_OP_VMID_IDX_VAL, vsid)


def vpid(vsid: int) -> int:
    """The VP of a VS, MV_SELF_ID and root VSs included. FAILURE_UNKNOWN: no such VS."""
    return with_handle(_OP | mv.MV_VS_OP_VPID_IDX_VAL, vsid)


def vsid() -> int:
    """The root VS of the calling thread."""
    return with_handle(_OP | mv.MV_VS_OP_VSID_IDX_VAL)


def gla_to_gpa(vsid: int, gla: int) -> tuple[int, int]:
    """The guest-physical page of a guest-linear page, and MV_MAP_FLAG_*.

    INVALID_INPUT_REG2: unaligned; FAILURE_UNKNOWN: not present.
    """
    answer = with_handle(_OP | mv.MV_VS_OP_GLA_TO_GPA_IDX_VAL, vsid, gla)
    flags = answer & (mv.MV_PAGE_SIZE - 1)
    return answer - flags, flags


def probe(vsid: int, gla: int, flags: int) -> mv.mv_probe_t:
    """What an access at a guest-linear address would find, which is not made: MV_PROBE_*.

    INVALID_INPUT_REG3: an unknown flag.
    """
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_PROBE_IDX_VAL, vsid, gla, flags)
    return page.read(mv.mv_probe_t)


def run(
    vsid: int,
    *,
    regs: Sequence[tuple[int, int]] = (),
    msrs: Sequence[tuple[int, int]] = (),
    iomem: bytes = b"",
    flags: int = 0,
) -> Exit:
    """Writes registers, finishes the instruction that left last time with `iomem`, runs the guest.

    `flags` are MV_RUN_FLAG_*. FAILURE_UNKNOWN: a register or MSR is refused, `iomem` is not as long
    as that instruction wants, another VS of the VP runs, or the VS waits for SIPI.
    """
    page = shared_page()
    page.write(_run_input(regs, msrs, iomem, flags))
    operation = _OP | mv.MV_VS_OP_RUN_IDX_VAL
    status, reason = hypercall(operation, process_handle(), vsid)
    if status not in _LEFT:
        raise MvError(status)
    return exit_on_page(reason, page)


def _run_input(
    regs: Sequence[tuple[int, int]], msrs: Sequence[tuple[int, int]], iomem: bytes, flags: int
) -> mv.mv_run_t:
    page = mv.mv_run_t(
        num_reg_entries=len(regs), num_msr_entries=len(msrs), num_iomem=len(iomem), flags=flags
    )
    for entries, pairs in ((page.reg_entries, regs), (page.msr_entries, msrs)):
        for entry, (entry_reg, entry_val) in zip(entries, pairs, strict=False):
            entry.reg, entry.val = entry_reg, entry_val
    page.iomem[: len(iomem)] = list(iomem)
    return page


def kick(vsid: int) -> None:
    """Makes a VS leave with exit reason interrupt, now or as soon as it runs next."""
    with_handle(_OP | mv.MV_VS_OP_KICK_IDX_VAL, vsid)


def queued_interrupt(vsid: int) -> int | None:
    """The vector of the interrupt that waits to be taken, if one does."""
    vector = with_handle(_OP | mv.MV_VS_OP_QUEUED_INTERRUPT_IDX_VAL, vsid)
    return None if vector == mv.MV_INVALID_ID else vector


def cpuid_get(vsid: int, function: int, index: int = 0) -> CdlEntry:
    """What CPUID answers to a leaf. FAILURE_UNKNOWN: it has none."""
    page = shared_page()
    page.write(cdl.to_page([CdlEntry(function, index)], 0))
    with_handle(_OP | mv.MV_VS_OP_CPUID_GET_IDX_VAL, vsid)
    return cdl.entries(page.read(mv.mv_cdl_t))[0]


def cpuid_set(vsid: int, entry: CdlEntry) -> None:
    """Changes what CPUID answers to one leaf, or to one subleaf of it."""
    shared_page().write(cdl.to_page([entry], 0))
    with_handle(_OP | mv.MV_VS_OP_CPUID_SET_IDX_VAL, vsid)


def cpuid_get_list(vsid: int) -> list[CdlEntry]:
    """All that CPUID answers."""
    return cdl_of_everything(_OP | mv.MV_VS_OP_CPUID_GET_LIST_IDX_VAL, vsid)


def cpuid_set_list(vsid: int, entries: Sequence[CdlEntry]) -> None:
    """Makes this all that CPUID answers. FAILURE_UNKNOWN: more than 256 entries."""
    size = mv.MV_CDL_MAX_ENTRIES
    flags = mv.MV_CDL_FLAG_ALL
    for start in range(0, max(len(entries), 1), size):
        shared_page().write(cdl.to_page(entries[start : start + size], flags))
        with_handle(_OP | mv.MV_VS_OP_CPUID_SET_LIST_IDX_VAL, vsid)
        flags = mv.MV_CDL_FLAG_APPEND


def reg_get(vsid: int, reg: int) -> int:
    """A register (mv_reg_t). FAILURE_UNKNOWN: no such register."""
    return with_handle(_OP | mv.MV_VS_OP_REG_GET_IDX_VAL, vsid, reg)


def reg_set(vsid: int, reg: int, value: int) -> None:
    """Writes a register. FAILURE_UNKNOWN: no such register, or it cannot hold the value."""
    with_handle(_OP | mv.MV_VS_OP_REG_SET_IDX_VAL, vsid, reg, value)


def reg_get_list(vsid: int, regs: Iterable[int]) -> list[int]:
    """The values of registers, in order. FAILURE_UNKNOWN: no such register."""
    found: list[int] = []
    for portion in rdl.portions(regs):
        page = shared_page()
        page.write(rdl.to_page([(reg, 0) for reg in portion]))
        with_handle(_OP | mv.MV_VS_OP_REG_GET_LIST_IDX_VAL, vsid)
        found += [value for _, value in rdl.entries(page.read(mv.mv_rdl_t))]
    return found


def reg_set_list(vsid: int, regs: Iterable[tuple[int, int]]) -> None:
    """Writes registers in order; up to MV_RDL_MAX_ENTRIES of them all or none.

    FAILURE_UNKNOWN: no such register, or one that cannot hold its value.
    """
    for portion in rdl.portions(regs):
        shared_page().write(rdl.to_page(portion))
        with_handle(_OP | mv.MV_VS_OP_REG_SET_LIST_IDX_VAL, vsid)


def msr_get(vsid: int, msr: int) -> int:
    """An MSR. FAILURE_UNKNOWN: there is none; INVALID_INPUT_REG2: beyond 32 bits."""
    return with_handle(_OP | mv.MV_VS_OP_MSR_GET_IDX_VAL, vsid, msr)


def msr_set(vsid: int, msr: int, value: int) -> None:
    """Writes an MSR. FAILURE_UNKNOWN: there is none, or it cannot hold the value."""
    with_handle(_OP | mv.MV_VS_OP_MSR_SET_IDX_VAL, vsid, msr, value)


class MsrRefusedError(MvError):
    """The MSR at `position` of a list was refused."""

    def __init__(self, position: int) -> None:
        super().__init__(mv.MV_STATUS_FAILURE_UNKNOWN)
        self.position = position


def msr_get_list(vsid: int, msrs: Iterable[int]) -> list[int]:
    """The values of MSRs, in order. MsrRefusedError: one does not exist."""
    found: list[int] = []
    for portion in rdl.portions(msrs):
        page = shared_page()
        page.write(rdl.to_page([(msr, 0) for msr in portion]))
        with_handle(_OP | mv.MV_VS_OP_MSR_GET_LIST_IDX_VAL, vsid)
        for msr, value in rdl.entries(page.read(mv.mv_rdl_t)):
            if msr & mv.MV_RDL_ENTRY_REFUSED:
                raise MsrRefusedError(len(found))
            found.append(value)
    return found


def msr_set_list(vsid: int, msrs: Iterable[tuple[int, int]]) -> None:
    """Writes MSRs in order. MsrRefusedError: one was refused; those before it are written."""
    before = 0
    for portion in rdl.portions(msrs):
        page = shared_page()
        page.write(rdl.to_page(portion))
        with_handle(_OP | mv.MV_VS_OP_MSR_SET_LIST_IDX_VAL, vsid)
        written = page.read(mv.mv_rdl_t).reg[0]
        if written < len(portion):
            raise MsrRefusedError(before + written)
        before += written


def fpu_get_all(vsid: int) -> bytes:
    """The 512-byte FXSAVE image."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_FPU_GET_ALL_IDX_VAL, vsid)
    return page.read_bytes(_FXSAVE_SIZE)


def fpu_set_all(vsid: int, image: bytes) -> None:
    """Loads a 512-byte FXSAVE image."""
    if len(image) != _FXSAVE_SIZE:
        raise ValueError(f"an FXSAVE image has {_FXSAVE_SIZE} bytes, not {len(image)}")
    shared_page().write_bytes(image)
    with_handle(_OP | mv.MV_VS_OP_FPU_SET_ALL_IDX_VAL, vsid)


def xsave_get_all(vsid: int) -> bytes:
    """The XSAVE area in standard format, MV_PAGE_SIZE bytes."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_XSAVE_GET_ALL_IDX_VAL, vsid)
    return page.read_bytes(mv.MV_PAGE_SIZE)


def xsave_set_all(vsid: int, area: bytes) -> None:
    """Loads an XSAVE area of MV_PAGE_SIZE bytes.

    FAILURE_UNKNOWN: no such component, compacted format, or reserved bits of MXCSR.
    """
    if len(area) != mv.MV_PAGE_SIZE:
        raise ValueError(f"an XSAVE area has {mv.MV_PAGE_SIZE} bytes here, not {len(area)}")
    shared_page().write_bytes(area)
    with_handle(_OP | mv.MV_VS_OP_XSAVE_SET_ALL_IDX_VAL, vsid)


def mp_state_get(vsid: int) -> int:
    """mv_mp_state_t."""
    return with_handle(_OP | mv.MV_VS_OP_MP_STATE_GET_IDX_VAL, vsid)


def mp_state_set(vsid: int, state: int, start_up_vector: int = 0) -> None:
    """Any mv_mp_state_t; coming to `init` resets the VS, if it has no local APIC.

    `start_up_vector`, 0 to 255: of the start-up that `sipi` lets come to a local APIC.
    INVALID_INPUT_REG2: no such state.
    """
    with_handle(_OP | mv.MV_VS_OP_MP_STATE_SET_IDX_VAL, vsid, state, start_up_vector)


def inject_exception(vsid: int, vector: int, error_code: int = 0) -> None:
    """Delivers an exception at the next run; vector 2 is NMI.

    INVALID_INPUT_REG2: a vector without an exception; INVALID_INPUT_REG3: an error code beyond 32
    bits for an exception that has one.
    """
    operation = _OP | mv.MV_VS_OP_INJECT_EXCEPTION_IDX_VAL
    with_handle(operation, vsid, vector, error_code)


def queue_interrupt(vsid: int, vector: int) -> None:
    """Delivers an external interrupt as soon as the guest takes one.

    INVALID_INPUT_REG2: beyond 255; FAILURE_UNKNOWN: no room, earlier ones still wait.
    """
    with_handle(_OP | mv.MV_VS_OP_QUEUE_INTERRUPT_IDX_VAL, vsid, vector)


def inject_smi(vsid: int) -> None:
    """Has the guest enter system management mode, as soon as it is not in that mode."""
    with_handle(_OP | mv.MV_VS_OP_INJECT_SMI_IDX_VAL, vsid)


def event_get_all(vsid: int) -> mv.mv_event_t:
    """Exceptions, interrupts, NMIs and SMIs that wait, and what keeps them."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_EVENT_GET_ALL_IDX_VAL, vsid)
    return page.read(mv.mv_event_t)


def event_set_all(vsid: int, events: mv.mv_event_t) -> None:
    """Replaces them. FAILURE_UNKNOWN: an unknown flag, or a vector out of range."""
    shared_page().write(events)
    with_handle(_OP | mv.MV_VS_OP_EVENT_SET_ALL_IDX_VAL, vsid)


def replace_interrupt(vsid: int, vector: int) -> None:
    """As `queue_interrupt`, in place of an earlier one that still waits."""
    events = event_get_all(vsid)
    events.flags |= mv.MV_EVENT_INTERRUPT
    events.interrupt_vector = vector
    event_set_all(vsid, events)


def debug_set(vsid: int, wanted: mv.mv_debug_t) -> None:
    """Steps and breakpoints that make `run` leave. FAILURE_UNKNOWN: an unknown flag."""
    shared_page().write(wanted)
    with_handle(_OP | mv.MV_VS_OP_DEBUG_SET_IDX_VAL, vsid)


def tsc_get_khz(vsid: int) -> int:
    """The frequency of the guest's time-stamp counter."""
    return with_handle(_OP | mv.MV_VS_OP_TSC_GET_KHZ_IDX_VAL, vsid)


def tsc_set_khz(vsid: int, khz: int) -> None:
    """Changes that frequency. INVALID_INPUT_REG2: 0, or beyond 32 bits."""
    with_handle(_OP | mv.MV_VS_OP_TSC_SET_KHZ_IDX_VAL, vsid, khz)


def tsc_get_offset(vsid: int) -> int:
    """What that counter is ahead of the host's, once the host's is scaled; mod 2^64."""
    return with_handle(_OP | mv.MV_VS_OP_TSC_GET_OFFSET_IDX_VAL, vsid)


def tsc_set_offset(vsid: int, offset: int) -> None:
    """Moves the counter: `offset` mod 2^64 ahead of the host's, whatever it was."""
    with_handle(_OP | mv.MV_VS_OP_TSC_SET_OFFSET_IDX_VAL, vsid, offset)


def stats_get(vsid: int) -> mv.mv_vs_stats_t:
    """What the VS has done so far; also while it runs."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_STATS_GET_IDX_VAL, vsid)
    return page.read(mv.mv_vs_stats_t)


def dirty_log_take(vsid: int) -> list[int]:
    """The pages that the VS has written since they were cleared, each told once, in order; where
    `dirty_log_note` was called. At most as many as fit on a page."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_DIRTY_LOG_TAKE_IDX_VAL, vsid)
    written = page.read(mv.mv_written_t)
    return list(written.pages[: written.num_pages])


def clock_get(vsid: int) -> int:
    """Nanoseconds since the VS was created, or on from what was set."""
    return with_handle(_OP | mv.MV_VS_OP_CLOCK_GET_IDX_VAL, vsid)


def clock_set(vsid: int, ns: int) -> None:
    """Sets the clock, which goes on from there."""
    with_handle(_OP | mv.MV_VS_OP_CLOCK_SET_IDX_VAL, vsid, ns)


def guest_stopped(vsid: int) -> None:
    """Lets the guest's clock say that it was stopped. FAILURE_UNKNOWN: the guest has no clock."""
    with_handle(_OP | mv.MV_VS_OP_GUEST_STOPPED_IDX_VAL, vsid)


def wait_with(vsid: int, thread: int) -> None:
    """Lets the guest's steal time grow while a thread of the host, 0 for none, waits for a CPU.

    INVALID_INPUT_REG2: beyond 32 bits.
    """
    with_handle(_OP | mv.MV_VS_OP_WAIT_WITH_IDX_VAL, vsid, thread)


def paravirt_enforce(vsid: int, *, enforce: bool) -> None:
    """Whether the guest has only those paravirtual MSRs and hypercalls that its CPUID announces."""
    with_handle(_OP | mv.MV_VS_OP_PARAVIRT_ENFORCE_IDX_VAL, vsid, enforce)


def hyperv_enforce(vsid: int, *, enforce: bool) -> None:
    """Whether the guest has only those MSRs and hypercalls of Hyper-V that its CPUID announces."""
    with_handle(_OP | mv.MV_VS_OP_HYPERV_ENFORCE_IDX_VAL, vsid, enforce)


def hyperv_cpuid_get_supported_list(vsid: int) -> list[CdlEntry]:
    """The leaves that a guest of Hyper-V can have, in their order."""
    return cdl_of_everything(_OP | mv.MV_VS_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL, vsid)


def hyperv_synic_activate(vsid: int, *, keeps_pages: bool) -> None:
    """Gives the VS a synthetic interrupt controller. Pages that the guest names are cleared unless
    `keeps_pages`. FAILURE_UNKNOWN: there is no local APIC."""
    with_handle(_OP | mv.MV_VS_OP_HYPERV_SYNIC_ACTIVATE_IDX_VAL, vsid, keeps_pages)


def hyperv_flush_inhibit(vsid: int, *, inhibit: bool) -> None:
    """Whether no hypercall of Hyper-V may flush the VS: who wants to is suspended. On return the
    flushes are done that were asked for before. Legal while the VS runs."""
    with_handle(_OP | mv.MV_VS_OP_HYPERV_FLUSH_INHIBIT_IDX_VAL, vsid, inhibit)


def vapic_set(vsid: int, gpa: int) -> None:
    """The guest has its task priority at `gpa`, until INIT; 0 is no place. INVALID_INPUT_REG2: no
    memory there that can be written; FAILURE_UNKNOWN: there is no local APIC."""
    with_handle(_OP | mv.MV_VS_OP_VAPIC_SET_IDX_VAL, vsid, gpa)


def tpr_report_set(vsid: int, *, report: bool) -> None:
    """Whether the VS leaves when it has accessed the task priority of its local APIC."""
    with_handle(_OP | mv.MV_VS_OP_TPR_REPORT_SET_IDX_VAL, vsid, report)


def apic_id_set(vsid: int, apic_id: int) -> None:
    """Gives the local APIC an ID and the state after power-up. FAILURE_UNKNOWN: there is none."""
    with_handle(_OP | mv.MV_VS_OP_APIC_ID_SET_IDX_VAL, vsid, apic_id)


def lvt_raise(vsid: int, lvt: int) -> None:
    """The source mv_lvt_t of the local APIC is active: does what its entry in the local vector
    table says. INVALID_INPUT_REG2: no such source; FAILURE_UNKNOWN: there is no local APIC."""
    with_handle(_OP | mv.MV_VS_OP_LVT_RAISE_IDX_VAL, vsid, lvt)


def lapic_get_all(vsid: int) -> bytes:
    """The registers of the local APIC: 32 bits at each sixteenth byte. FAILURE_UNKNOWN: there is
    none."""
    page = shared_page()
    with_handle(_OP | mv.MV_VS_OP_LAPIC_GET_ALL_IDX_VAL, vsid)
    return page.read_bytes(_LAPIC_SIZE)


def lapic_set_all(vsid: int, registers: bytes) -> None:
    """Replaces the registers of the local APIC; its timer goes on from the current count."""
    assert len(registers) == _LAPIC_SIZE
    shared_page().write_bytes(registers)
    with_handle(_OP | mv.MV_VS_OP_LAPIC_SET_ALL_IDX_VAL, vsid)
