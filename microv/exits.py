"""What `run` comes back with."""

from dataclasses import dataclass

from microv import abi_gen as mv
from microv.shared_page import SharedPage

_OFFSET = mv.MV_RUN_RETURN_EXIT_OFFSET


@dataclass(frozen=True, slots=True)
class IoDetails:
    """The guest accesses a port; for IN, `size_bytes * reps` bytes go to the next run."""

    port: int
    is_write: bool
    size_bytes: int
    reps: int
    data: bytes


@dataclass(frozen=True, slots=True)
class MmioDetails:
    """The guest accesses memory that is not mapped; a read's data goes to the next run."""

    gpa: int
    is_write: bool
    size_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class UnknownDetails:
    """An instruction that is not emulated, as far as its bytes could be fetched."""

    kind: int
    instruction: bytes


@dataclass(frozen=True, slots=True)
class FailureDetails:
    """The processor could not be entered: MV_EXIT_FAILURE_*."""

    reason: int


Details = (
    IoDetails
    | MmioDetails
    | UnknownDetails
    | FailureDetails
    | mv.mv_exit_msr_t
    | mv.mv_exit_debug_t
    | mv.mv_exit_hypercall_t
    | mv.mv_exit_memory_fault_t
    | mv.mv_exit_hyperv_t
    | None
)


@dataclass(frozen=True, slots=True)
class Exit:
    """Why the guest left (mv_exit_reason_t) and where it stands."""

    reason: int
    details: Details
    rflags: int
    cr8: int
    apic_base: int
    interruptible: bool


def exit_on_page(reason: int, page: SharedPage) -> Exit:
    """The exit whose reason came in R10 and whose details are on the page."""
    head = page.read(mv.mv_run_return_t)
    return Exit(
        reason=reason,
        details=_details(reason, page),
        rflags=head.rflags,
        cr8=head.cr8,
        apic_base=head.apic_base,
        interruptible=bool(head.state & mv.MV_RUN_RETURN_STATE_INTERRUPTIBLE),
    )


def _details(reason: int, page: SharedPage) -> Details:
    match reason:
        case mv.mv_exit_reason_t_io:
            return _io(page.read(mv.mv_exit_io_t, _OFFSET))
        case mv.mv_exit_reason_t_mmio:
            return _mmio(page.read(mv.mv_exit_mmio_t, _OFFSET))
        case mv.mv_exit_reason_t_msr:
            return page.read(mv.mv_exit_msr_t, _OFFSET)
        case mv.mv_exit_reason_t_debug:
            return page.read(mv.mv_exit_debug_t, _OFFSET)
        case mv.mv_exit_reason_t_hypercall:
            return page.read(mv.mv_exit_hypercall_t, _OFFSET)
        case mv.mv_exit_reason_t_memory_fault:
            return page.read(mv.mv_exit_memory_fault_t, _OFFSET)
        case mv.mv_exit_reason_t_hyperv:
            return page.read(mv.mv_exit_hyperv_t, _OFFSET)
        case mv.mv_exit_reason_t_unknown:
            return _unknown(page.read(mv.mv_exit_unknown_t, _OFFSET))
        case mv.mv_exit_reason_t_failure:
            return FailureDetails(page.read(mv.mv_exit_failure_t, _OFFSET).reason)
        case _:
            return None


def _io(exit_io: mv.mv_exit_io_t) -> IoDetails:
    is_write = exit_io.type == mv.MV_EXIT_IO_OUT
    return IoDetails(
        port=exit_io.addr,
        is_write=is_write,
        size_bytes=1 << exit_io.size,
        reps=exit_io.reps,
        data=bytes(exit_io.data[: exit_io.bytes]) if is_write else b"",
    )


def _mmio(exit_mmio: mv.mv_exit_mmio_t) -> MmioDetails:
    is_write = exit_mmio.flags == mv.MV_EXIT_MMIO_WRITE
    size = exit_mmio.memory_access_size
    data = exit_mmio.data.to_bytes(8, "little")[:size] if is_write else b""
    return MmioDetails(exit_mmio.gpa, is_write, size, data)


def _unknown(exit_unknown: mv.mv_exit_unknown_t) -> UnknownDetails:
    words = (exit_unknown.info2, exit_unknown.info3)
    fetched = b"".join(word.to_bytes(8, "little") for word in words)
    return UnknownDetails(exit_unknown.info0, fetched[: exit_unknown.info1])
