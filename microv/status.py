"""mv_status_t as an exception."""

from typing import Final

from microv import abi_gen as mv

_MEANINGS: Final[dict[int, str]] = {
    mv.MV_STATUS_FAILURE_UNKNOWN: "refused: state, page contents or exhausted IDs",
    mv.MV_STATUS_FAILURE_INVALID_HANDLE: "the handle is not open",
    mv.MV_STATUS_FAILURE_UNSUPPORTED: "no such hypercall or flag",
    mv.MV_STATUS_INVALID_PERM_DENIED: "the caller may not",
    mv.MV_STATUS_INVALID_INPUT_REG0: "R10 is bad",
    mv.MV_STATUS_INVALID_INPUT_REG1: "R11 is bad",
    mv.MV_STATUS_INVALID_INPUT_REG2: "R12 is bad",
    mv.MV_STATUS_INVALID_INPUT_REG3: "R13 is bad",
    mv.MV_STATUS_RETRY_CONTINUATION: "make the identical call again",
    mv.MV_STATUS_EXIT_FAILURE: "the virtual processor could not be entered",
    mv.MV_STATUS_EXIT_UNKNOWN: "the guest did what the processor cannot do",
}

_NAMES: Final[dict[int, str]] = {
    value: name for name, value in vars(mv).items() if name.startswith("MV_STATUS_")
}


def status_name(status: int) -> str:
    """The name in the specification, or the number where it has none.

    >>> status_name(0xDEAD000000020003)
    'MV_STATUS_INVALID_INPUT_REG1'
    >>> status_name(0x1234)
    '0x1234'
    """
    return _NAMES.get(status, f"{status:#x}")


class MvError(Exception):
    """A hypercall was refused; `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status_name(status)} ({_MEANINGS.get(status, 'no known status')})")
        self.status = status

    @property
    def name(self) -> str:
        """The status by its name."""
        return status_name(self.status)
