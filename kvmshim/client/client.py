"""One client process: its memory, its fds, and the ways to change both from outside.

All ids are those of this process's PID namespace. Methods may be called from any thread. Every one
raises ESRCH when the client is gone and EPERM when it may not be touched, with the remedy in the
message.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from kvmshim.client import fds, memory, run_page
from kvmshim.client.caller import StoppedCaller
from kvmshim.client.process import Process, ThreadStatus
from kvmshim.client.ram_file import RamFiles
from kvmshim.client.run_page import Piece, RunFile
from kvmshim.client.shared import SharedFiles, SharedRange
from kvmshim.client.threads import InFlight, Tracees, nobody
from kvmshim.client.tracer import Tracer, Tracing
from kvmshim.client.watch import Watch
from kvmshim.errors import KvmError

_SEEN_THREADS: Final = 1024


class Client:
    """A thread group from its first request to its death."""

    def __init__(self, process: Process, tracer: Tracing, ram_files: RamFiles) -> None:
        """For `Clients`, which has one for each living process."""
        self._process = process
        self._tracer = tracer
        self._files = SharedFiles(self._process, ram_files)
        self.judges_mappings = False
        """Whether it was tried to give it a `mapping_filter`."""

    @staticmethod
    def of_thread(tid: int) -> "Client":
        """The client that thread `tid` belongs to, one object as long as it lives.

        ESRCH: there is no such thread. EDEADLK: it is one of ours.
        """
        return _CLIENTS.of_thread(tid)

    @staticmethod
    def traced_by(watch: Watch) -> None:
        """Leaves the tracing of the processes that `watch` traces anyway to it. Before the first
        of them becomes a client."""
        _CLIENTS.watch = watch

    @staticmethod
    def memory_from(ram_files: RamFiles) -> None:
        """The files that get under memory of clients to come."""
        _CLIENTS.ram_files = ram_files

    @property
    def tgid(self) -> int:
        return self._process.tgid

    @property
    def alive(self) -> bool:
        return self._process.alive

    def has_thread(self, tid: int) -> bool:
        """Whether thread `tid` is one of this client's."""
        # In this order: the process lived until then, so its number named nobody else.
        return self._process.has_thread(tid) and self.alive

    def copy_in(self, address: int, size: int) -> bytes:
        """EFAULT unless the client could read all of it."""
        return memory.read_exactly(self.tgid, address, size)

    def copy_out(self, address: int, data: bytes) -> None:
        """EFAULT unless the client could write all; what comes before the fault is written."""
        with self._files.exchanging:
            memory.write_exactly(self.tgid, address, data)

    def take_fd(self, fd: int) -> int:
        """A close-on-exec duplicate of the client's fd, ours to close. EBADF."""
        return fds.take(self._process, fd)

    def stop_caller(self, tid: int, answer: Callable[[], None]) -> StoppedCaller:
        """Takes a thread out of its request; see `StoppedCaller.take`. It must be finished."""
        caller = StoppedCaller(self._process, self._tracer, self._files)
        caller.take(tid, answer)
        return caller

    def give_fd(
        self, tid: int, fd: int, answer: Callable[[], None], *, cloexec: bool = True
    ) -> int:
        """Gives our `fd` to a thread that waits in a request, as the result of its ioctl; the
        number it has there. If that fails the ioctl's result is -errno, and it is raised here."""
        with self.stop_caller(tid, answer) as caller:
            try:
                number = caller.give_fd(fd, cloexec=cloexec)
            except KvmError as error:
                caller.finish(-error.errno)
                raise
            caller.finish(number)
        return number

    def shared(self, address: int, size: int) -> list[SharedRange] | None:
        """What `StoppedCaller.share` would return, if nobody has to be stopped for it."""
        with self._files.exchanging:
            return self._files.ranges(address, size)

    def trim(self) -> None:
        """Lets go of adopted memory that the client unmapped; for the end of a VM."""
        with self._files.exchanging:
            self._files.trim()

    def forget_files(self) -> None:
        """The client is gone: lets go of all adopted memory now, not when this object goes."""
        with self._files.exchanging:
            self._files.forget()

    def replace_mapping_of(
        self,
        tid: int,
        device: int,
        inode: int,
        pieces: Sequence[Piece],
        answer: Callable[[], None],
        *,
        exchanged: Callable[[], None] = lambda: None,
        in_flight: InFlight = nobody,
    ) -> int:
        """Maps our `pieces` wherever the client maps the FUSE file (st_dev, st_ino), inside the
        fault of thread `tid`; see `run_page`. The number of mappings exchanged."""
        file = RunFile(device, inode, pieces)

        def job(tracees: Tracees) -> int:
            return run_page.replace_mappings(tracees, tid, file, answer, exchanged, in_flight)

        return self._tracer.run(job)


class Clients:
    """The living clients by thread group id; safe against reuse of an id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[int, Client] = {}
        self._seen: dict[int, Client] = {}
        """By thread id; the number may be another one's by now."""
        self.watch: Watch | None = None
        self.ram_files = RamFiles()

    def of_thread(self, tid: int) -> Client:
        client = self._seen.get(tid)
        if client is None or not client.has_thread(tid):
            client = self._find(tid)
            if len(self._seen) >= _SEEN_THREADS:
                self._seen.clear()
            self._seen[tid] = client
        return client

    def _find(self, tid: int) -> Client:
        tgid = ThreadStatus.of(tid).tgid
        if tgid == os.getpid():
            raise KvmError(errno.EDEADLK, f"thread {tid} is one of the server's own")
        with self._lock:
            client = self._clients.get(tgid)
            if client is None or not client.alive:
                client = self._make(tgid)
        if ThreadStatus.of(tid).tgid != tgid:
            raise KvmError(errno.ESRCH, f"thread {tid} is gone")
        return client

    def _make(self, tgid: int) -> Client:
        # Those whose tracing thread is shared with others, or was not needed, end here.
        for dead in [client for client in self._clients.values() if not client.alive]:
            del self._clients[dead.tgid]
            dead.forget_files()
        process = Process(tgid)
        tracer: Tracing | None = self.watch.tracing(process) if self.watch else None
        if tracer is None:
            tracer = Tracer(process, lambda: self._drop(client))
        client = Client(process, tracer, self.ram_files)
        self._clients[tgid] = client
        return client

    def _drop(self, client: Client) -> None:
        """The process is gone, and what it had of us goes too."""
        with self._lock:
            # A new client may have found this one dead before.
            if self._clients.get(client.tgid) is client:
                del self._clients[client.tgid]
            self._seen.clear()
        client.forget_files()


_CLIENTS: Final = Clients()
