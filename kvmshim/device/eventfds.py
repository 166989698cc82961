"""Eventfds of a client, taken over by pidfd_getfd(2) and served in Rust."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kvmshim.client.client import Client
from kvmshim.device import door_ffi
from kvmshim.errors import KvmError
from kvmshim.platform.eventfds import Watched

_IDENTITY: Final = "eventfd-id:"


class ClientEventfds:
    """`kvmshim.platform.eventfds.Eventfds` of one VM and its client."""

    def __init__(self, client: Client, vmid: int) -> None:
        self._client = client
        self._vmid = vmid

    def signal_on(self, watched: Watched, fd: int) -> None:
        """Signal `fd` for each such write; EEXIST."""
        with self._taken(fd) as (ours, identity):
            if not door_ffi.add_ioeventfd(self._vmid, watched, identity, ours):
                raise KvmError(errno.EEXIST, f"{watched} is waited for")

    def ignore(self, watched: Watched, fd: int) -> None:
        """Undo `signal_on`; ENOENT."""
        with self._taken(fd) as (_, identity):
            if not door_ffi.remove_ioeventfd(self._vmid, watched, identity):
                raise KvmError(errno.ENOENT, f"{watched} is not waited for")

    def signal_on_connection(self, number: int, fd: int) -> None:
        """Signal `fd` for each event of a connection; EEXIST."""
        with self._taken(fd) as (ours, _):
            if not door_ffi.add_connection(self._vmid, number, ours):
                raise KvmError(errno.EEXIST, f"connection {number} has an eventfd")

    def ignore_connection(self, number: int) -> None:
        """Undo `signal_on_connection`; ENOENT."""
        if not door_ffi.remove_connection(self._vmid, number):
            raise KvmError(errno.ENOENT, f"connection {number} has no eventfd")

    def raise_line(self, gsi: int, fd: int, resample_fd: int | None) -> None:
        """Raise a line whenever `fd` is signalled; EBUSY."""
        with self._taken(fd) as (ours, identity):
            if resample_fd is None:
                self._assign(gsi, identity, ours, None)
                return
            with self._taken(resample_fd) as (resample, _):
                self._assign(gsi, identity, ours, resample)

    def _assign(self, gsi: int, identity: int, fd: int, resample: int | None) -> None:
        if not door_ffi.assign_irqfd(self._vmid, gsi, identity, fd, resample):
            raise KvmError(errno.EBUSY, f"the eventfd raises a line of VM {self._vmid} already")

    def leave_line(self, gsi: int, fd: int) -> None:
        """Undo `raise_line`."""
        with self._taken(fd) as (_, identity):
            door_ffi.deassign_irqfd(self._vmid, gsi, identity)

    def close(self) -> None:
        """Undo everything."""
        door_ffi.forget_vm(self._vmid)

    @contextmanager
    def _taken(self, fd: int) -> Iterator[tuple[int, int]]:
        """A duplicate of the client's eventfd for the time of a call, and which one it is."""
        ours = self._client.take_fd(fd)
        try:
            yield ours, _identity(ours)
        finally:
            os.close(ours)


def _identity(fd: int) -> int:
    """The kernel's number of an eventfd, the same for all its descriptors; proc_pid_fdinfo(5)."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        if line.startswith(_IDENTITY):
            return int(line.removeprefix(_IDENTITY))
    raise KvmError(errno.EINVAL, f"fd {fd} is no eventfd")
