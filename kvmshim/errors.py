"""KVM's errno for the client, and the one table from a hypercall's status to it."""

import errno
import os
from typing import Final

from microv import abi_gen as mv


class KvmError(Exception):
    """An ioctl's failure as its caller sees it: -1 with `errno`.

    Raised by handlers and by the client side; turned into a reply in `dispatch` alone.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or os.strerror(number))
        self.errno = number

    def __str__(self) -> str:
        return f"{errno.errorcode.get(self.errno, self.errno)}: {super().__str__()}"


_ERRNO: Final[dict[int, int]] = {
    mv.MV_STATUS_FAILURE_UNKNOWN: errno.EINVAL,
    mv.MV_STATUS_FAILURE_UNSUPPORTED: errno.EINVAL,
    mv.MV_STATUS_INVALID_PERM_DENIED: errno.EPERM,
    mv.MV_STATUS_INVALID_INPUT_REG1: errno.EINVAL,
    mv.MV_STATUS_INVALID_INPUT_REG2: errno.EINVAL,
    mv.MV_STATUS_INVALID_INPUT_REG3: errno.EINVAL,
}


def errno_of_status(status: int) -> int:
    """The errno a client sees for a hypercall that failed where no handler says more.

    A status that no correct call of ours can get, such as a bad handle, is EIO.
    """
    return _ERRNO.get(status, errno.EIO)
