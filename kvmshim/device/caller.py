"""The caller of a request: `kvmshim.platform.caller.Caller` on top of the client side.

Most requests only copy, and are simply answered. One that puts a descriptor into the caller or
changes its memory needs the calling thread held by ptrace on its way back to user space, which
takes the answer away: the request is then answered with EIO, what the client sees should we die,
and the real result is put into the held thread's registers.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from kvmshim.client import mapping_filter
from kvmshim.client.caller import StoppedCaller
from kvmshim.client.client import Client
from kvmshim.client.mapped import MappedRanges
from kvmshim.client.mapping_filter import Judge
from kvmshim.client.own_memory import OwnMemory
from kvmshim.device.eventfds import ClientEventfds
from kvmshim.device.fuse_ffi import Pending
from kvmshim.device.gate import Gate
from kvmshim.device.kept_files import KeptFiles
from kvmshim.device.vm_door import NativeVmDoor
from kvmshim.errors import KvmError


class RequestCaller:
    """The thread behind one pending ioctl."""

    def __init__(self, pending: Pending, client: Client, gate: Gate, kept_files: KeptFiles) -> None:
        self._pending = pending
        self._kept_files = kept_files
        self._client = client
        self._gate = gate
        self._held: StoppedCaller | None = None

    @property
    def tid(self) -> int:
        """Thread id in this process's PID namespace."""
        return self._pending.sender.tid

    @property
    def process(self) -> int:
        """Thread group id."""
        return self._client.tgid

    def eventfds(self, vmid: int) -> ClientEventfds:
        """The client's eventfds, to work with a VM of it."""
        return ClientEventfds(self._client, vmid)

    def vm_door(self, vmid: int) -> NativeVmDoor:
        """The door's part of a new VM; ENOMEM."""
        try:
            return NativeVmDoor(vmid)
        except (OSError, MemoryError) as error:
            raise KvmError(errno.ENOMEM) from error

    def copy_in(self, address: int, size: int) -> bytes:
        """Read the caller's memory; EFAULT."""
        return self._client.copy_in(address, size)

    def copy_out(self, address: int, data: bytes) -> None:
        """Write the caller's memory; EFAULT."""
        self._client.copy_out(address, data)

    def share_memory(self, address: int, size: int) -> MappedRanges:
        """Make a range of the caller's memory visible to both; EFAULT, EPERM, ENOMEM."""
        runs = self._client.shared(address, size)
        if runs is None:
            held = self._hold()
            with self._gate.closed():
                runs = held.share(address, size, in_flight=self._gate.inside)
        try:
            return MappedRanges(runs)
        except OSError as error:
            raise KvmError(error.errno or errno.ENOMEM) from error

    def make_memory(self, size: int) -> OwnMemory:
        """Memory that the client cannot map; ENOMEM."""
        try:
            return OwnMemory(size)
        except OSError as error:
            raise KvmError(errno.ENOMEM) from error

    def kept_file(self, fd: int) -> object:
        """What a descriptor of the caller stands for; EBADF."""
        return self._kept_files.find(self._client.tgid, fd)

    def give_file(self, fd: int, *, cloexec: bool = True) -> int:
        """Put a file of ours into the caller; its number there."""
        return self._hold().give_fd(fd, cloexec=cloexec)

    def judge_mappings(self, first: int, last: int, judge: Judge) -> None:
        """Have `judge` asked before the client makes a private or executable mapping that has a
        byte in [first, last) of a file; once, and where the client can be made to ask."""
        if self._client.judges_mappings:
            return
        self._client.judges_mappings = True
        listener = self._hold().filter_mappings(mapping_filter.program(first, last))
        if listener is not None:
            mapping_filter.judge_all(listener, judge)

    @contextmanager
    def answered(self) -> Iterator[list[int]]:
        """The time of the request. The body leaves its result in the list, which begins as EIO."""
        result = [-errno.EIO]
        self._gate.enter(self.tid)
        try:
            yield result
        finally:
            self._finish(result[0])

    def _hold(self) -> StoppedCaller:
        if self._held is None:
            self._held = self._client.stop_caller(self.tid, self._give_up_answer)
        return self._held

    def _give_up_answer(self) -> None:
        # Stopped is as good as waiting in a request, but ptrace must not be told to skip it.
        self._gate.withdraw(self.tid)
        self._pending.error(errno.EIO)

    def _finish(self, result: int) -> None:
        if self._held is not None:
            self._held.finish(result)
        elif not self._pending.answered:
            self._gate.leave(self.tid)
            self._pending.result(result)
