"""A client thread taken out of its ioctl and held on its way back to user space.

What a FUSE reply cannot do, the thread then does itself: receive an fd, map shared memory. The
request is answered when the thread is taken, so it is `finish` that gives the ioctl its result.
"""

import errno
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from kvmshim.client import fds, mapping_filter
from kvmshim.client.adopt import Private, adopt
from kvmshim.client.give_back import give_back
from kvmshim.client.inject import Injection
from kvmshim.client.process import Process
from kvmshim.client.ptrace_ffi import get_registers, set_registers
from kvmshim.client.shared import SharedFiles, SharedRange
from kvmshim.client.threads import (
    InFlight,
    ThreadGoneError,
    Tracee,
    Tracees,
    nobody,
    will_restart,
)
from kvmshim.client.tracer import Tracing
from kvmshim.errors import KvmError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_U64: Final = (1 << 64) - 1


class StoppedCaller:
    """The held thread; a context manager that gives it -EIO if it is left without `finish`.

    Every method raises ESRCH when the client was killed.
    """

    def __init__(self, process: Process, tracer: Tracing, files: SharedFiles) -> None:
        self._process = process
        self._tracer = tracer
        self._files = files
        self._tracee: Tracee | None = None

    def take(self, tid: int, answer: Callable[[], None]) -> None:
        """Stops the thread, which waits in a request; `answer` must end its wait, with EIO: what
        the client sees if we die now. It is called in the tracing thread, once, unless the thread
        cannot be traced (EPERM, ESRCH). EBUSY: its wait did not end.

        The kernel tells the server of the stop as if a signal had come (FUSE_INTERRUPT).
        """

        def job(tracees: Tracees) -> Tracee:
            tracee = tracees.attach(tid)
            try:
                answer()
                tracees.wait_all([tracee], nobody)
                if not tracee.stopped:
                    raise ThreadGoneError(tid)
                if will_restart(get_registers(tid)):
                    with Injection(self._process, tracee) as injection:
                        injection.finish_own_call()
            except BaseException:
                tracees.release(tracee)
                raise
            return tracee

        self._tracee = self._tracer.run(job)

    def give_fd(self, fd: int, *, cloexec: bool = True) -> int:
        """The number our `fd` gets in the client. EMFILE: the client's limit of fds."""
        return self._inject(lambda it: fds.give(self._process, it, fd, cloexec=cloexec))

    def call(self, number: int, *arguments: int) -> int:
        """A system call made by the thread, its result or -errno. It must not block."""

        def make_call(injection: Injection) -> int:
            try:
                return injection.call(number, *arguments)
            except OSError as error:
                return -(error.errno or errno.EIO)

        return self._inject(make_call)

    def filter_mappings(self, code: bytes) -> int | None:
        """Gives every thread of the client the filter `code`; our descriptor of its listener. None
        where the client cannot have it. See `mapping_filter`."""

        def install(injection: Injection) -> int | None:
            try:
                return mapping_filter.install(self._process, injection, code)
            except OSError as error:
                log.info("mappings of client %d go unseen: %s", self._process.tgid, error)
                return None

        return self._inject(install)

    def share(self, address: int, size: int, *, in_flight: InFlight) -> list[SharedRange]:
        """The files behind [address, address+size), put there first where there is none.

        For that all other threads are stopped, but those in `in_flight`: they wait in requests of
        ours and must get no answer meanwhile. Errors as `SharedFiles.ranges` and `adopt`; EBUSY: a
        thread does not stop.
        """

        def exchange(tracees: Tracees) -> list[SharedRange] | None:
            others = tracees.stop_all(in_flight)
            try:
                with self._files.exchanging:
                    self._files.trim()
                    self._give_back()
                    self._adopt_lacking(address, size)
                    return self._files.ranges(address, size)
            finally:
                tracees.release_all(others)

        with self._files.exchanging:
            ranges = self._files.ranges(address, size)
        if ranges is None:
            ranges = self._tracer.run(exchange)
        if ranges is None:
            raise KvmError(errno.EAGAIN, f"{address:#x} was mapped anew meanwhile")
        return ranges

    def _give_back(self) -> None:
        unused = self._files.unused_copies()
        if unused:
            with Injection(self._process, self._held()) as injection:
                for copy in unused:
                    give_back(self._process, injection, copy)
            self._files.trim()

    def _adopt_lacking(self, address: int, size: int) -> None:
        lacking = [
            Private(mapping.clipped(address, address + size), self._files.origin_of(mapping))
            for mapping in self._files.whole_mappings(address, size)
            if self._files.backing_of(mapping) is None
        ]
        if lacking:
            with Injection(self._process, self._held()) as injection:
                file = adopt(self._process, injection, lacking, self._files.ram_files)
                self._files.adopted(file)

    def finish(self, value: int) -> None:
        """Gives the ioctl its result (or -errno) and lets the thread go on."""

        def job(tracees: Tracees) -> None:
            tracee = self._held()
            self._tracee = None
            try:
                registers = get_registers(tracee.tid)
                # No system call to restart: the result stands whatever it looks like.
                set_registers(tracee.tid, registers._replace(rax=value & _U64, orig_rax=_U64))
            finally:
                tracees.release(tracee)

        self._tracer.run(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tracee is not None:
            self.finish(-errno.EIO)

    def _held(self) -> Tracee:
        assert self._tracee is not None, "the caller was let go already"
        return self._tracee

    def _inject(self, work: Callable[[Injection], _T]) -> _T:
        def job(_: Tracees) -> _T:
            with Injection(self._process, self._held()) as injection:
                return work(injection)

        return self._tracer.run(job)
