"""What open files stand for: `/dev/kvm`, VMs, vCPUs, statistics; how ioctls reach dispatch.

A file that an ioctl makes lives on a mount of its own (`private_mount`). A vCPU's can be mapped:
the first touch of a mapping exchanges it for the pages that the engine writes (`kvm_run`), so the
kernel never caches a page of the file itself. Of statistics it caches nothing either.
"""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator

from kvmshim.client.client import Client
from kvmshim.client.run_page import read_pieces
from kvmshim.device import dirty_ring_mappings
from kvmshim.device.caller import RequestCaller
from kvmshim.device.fuse_ffi import FileAttributes, Pending
from kvmshim.device.opener import OpenedFile
from kvmshim.device.private_mount import FILE_INODE, PrivateMount
from kvmshim.device.session import Node, OpenFile
from kvmshim.device.workplace import RunDoor, Workplace
from kvmshim.dispatch.request import Kept, NewFile, Reply, Request, Target
from kvmshim.errors import KvmError
from kvmshim.objects.guest_memory import GuestMemory
from kvmshim.objects.statistics import Statistics
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm


def system_node(workplace: Workplace, attributes: FileAttributes) -> Node:
    """`/dev/kvm` as a node of a session."""

    def open_system(_: Pending) -> OpenFile:
        return TargetFile(System(), workplace)

    return Node(attributes, open_system)


class TargetFile:
    """An open file whose ioctls go to dispatch; as it stands, `/dev/kvm`."""

    def __init__(self, target: Target, workplace: Workplace) -> None:
        self._target = target
        self._workplace = workplace

    def ioctl(self, pending: Pending, command: int, argument: int) -> None:
        """Answer an ioctl; EIO for a sender outside our PID namespace, whom we cannot reach."""
        tid = pending.sender.tid
        if tid == 0:
            pending.result(-errno.EIO)
            return
        try:
            client = self._workplace.find_client(tid)
        except KvmError as error:
            pending.result(-error.errno)
            return
        gate = self._workplace.service.gate(client.tgid)
        caller = RequestCaller(pending, client, gate, self._workplace.kept_files)
        # A caller that was killed meanwhile has no use for the result.
        with contextlib.suppress(KvmError), caller.answered() as result:
            request = Request(self._target, command, argument, caller)
            reply = self._workplace.service.ioctl(request)
            result[0] = _result(reply, caller, self._workplace)

    def read(self, pending: Pending, span: slice) -> None:  # noqa: ARG002
        """KVM's files cannot be read, and only a vCPU's can be mapped."""
        pending.error(errno.EINVAL)

    def allocate(self, pending: Pending, mode: int, span: slice) -> None:  # noqa: ARG002
        """There is no memory behind it."""
        pending.error(errno.EOPNOTSUPP)

    def release(self) -> None:
        """`/dev/kvm` keeps nothing per open file."""


def _result(reply: Reply, caller: RequestCaller, workplace: Workplace) -> int:
    if not isinstance(reply, NewFile):
        return reply
    try:
        opened = _new_file(reply.target, workplace).open()
        try:
            workplace.kept_files.add(opened.fd, reply.target)
            if workplace.judges_mappings:
                dirty_ring_mappings.judge(caller, reply.target, workplace.kept_files)
            return caller.give_file(opened.fd, cloexec=reply.close_on_exec)
        finally:
            os.close(opened.fd)
    except KvmError as error:
        return -error.errno
    except OSError as error:
        return -(error.errno or errno.EIO)


def _new_file(target: Kept, workplace: Workplace) -> "PrivateFile":
    match target:
        case Vcpu():
            return VcpuFile(target, workplace)
        case Vm():
            return VmFile(target, workplace)
        case Statistics():
            return StatisticsFile(target, workplace)
        case GuestMemory():
            return GuestMemoryFile(target, workplace)


class PrivateFile:
    """A file that an ioctl makes, and the mount it lives on. Without ioctls, as it stands."""

    def __init__(self, target: Kept, name: str, workplace: Workplace) -> None:
        """`name` is what the client's `/proc/PID/fd` shows, and our lists of threads."""
        self._kept = target
        self._workplace = workplace
        self._mount = PrivateMount(name, workplace.opener, self._end)

    def open(self) -> OpenedFile:
        """Start the session and open the file; the caller owns the descriptor.

        OSError or KvmError, and then the object is released.
        """
        return self._mount.open(self, mode=stat.S_IFREG | 0o600)

    def ioctl(self, pending: Pending, command: int, argument: int) -> None:  # noqa: ARG002
        """There is none."""
        pending.result(-errno.ENOTTY)

    def read(self, pending: Pending, span: slice) -> None:  # noqa: ARG002
        """It cannot be read."""
        pending.error(errno.EINVAL)

    def allocate(self, pending: Pending, mode: int, span: slice) -> None:  # noqa: ARG002
        """There is no memory behind it."""
        pending.error(errno.EOPNOTSUPP)

    def release(self) -> None:
        """Let go of the mount, which ends the session. Idempotent."""
        self._mount.release()

    def _end(self) -> None:
        self._workplace.kept_files.forget(self._kept)
        self._workplace.service.release(self._kept)

    @contextlib.contextmanager
    def _waiting(self, pending: Pending) -> Iterator[None]:
        """The time in which the sender, of whatever process, waits for us; then it is answered."""
        tid = pending.sender.tid
        gate = None
        # Whom we cannot see we cannot stop either.
        with contextlib.suppress(KvmError):
            gate = self._workplace.service.gate(self._workplace.find_client(tid).tgid)
        if gate:
            gate.enter(tid)
        try:
            yield
        finally:
            if gate:
                gate.leave(tid)


class VmFile(PrivateFile, TargetFile):
    """The file of a VM."""

    ioctl = TargetFile.ioctl

    def __init__(self, vm: Vm, workplace: Workplace) -> None:
        TargetFile.__init__(self, vm, workplace)
        PrivateFile.__init__(self, vm, "kvm-vm", workplace)
        self._vm = vm

    def open(self) -> OpenedFile:
        """See `PrivateFile.open`."""
        try:
            python_ioctl = self._mount.session.callbacks.ioctl_address
            slot = self._workplace.service.vm_slot(self._vm, python_ioctl)
        except BaseException:
            self._end()
            raise
        return self._mount.open(self, mode=stat.S_IFREG | 0o600, native=slot)


class StatisticsFile(PrivateFile):
    """The statistics of a VM or vCPU: only to be read, each time as they are."""

    def __init__(self, statistics: Statistics, workplace: Workplace) -> None:
        of = statistics.of
        name = f"kvm-vcpu-stats:{of.vcpu_id}" if isinstance(of, Vcpu) else "kvm-vm-stats"
        super().__init__(statistics, name, workplace)

    def open(self) -> OpenedFile:
        """See `PrivateFile.open`."""
        return self._mount.open(self, mode=stat.S_IFREG | 0o400, direct=True)

    def read(self, pending: Pending, span: slice) -> None:
        """Answer read(2); any process may have been given the file."""
        with self._waiting(pending):
            data = self._workplace.service.read(self._kept, span)
        pending.data(data)


class GuestMemoryFile(PrivateFile):
    """A guest_memfd: neither read nor mapped, only fallocate(2)."""

    _inodes = itertools.count(FILE_INODE + 1)

    def __init__(self, memory: GuestMemory, workplace: Workplace) -> None:
        super().__init__(memory, "[kvm-gmem]", workplace)
        self._memory = memory

    def open(self) -> OpenedFile:
        """See `PrivateFile.open`."""
        mode, size, inode = stat.S_IFREG | 0o600, self._memory.file.size, next(self._inodes)
        return self._mount.open(self, mode=mode, size=size, inode=inode, direct=True)

    def allocate(self, pending: Pending, mode: int, span: slice) -> None:
        """Answer fallocate(2)."""
        number = 0
        with self._waiting(pending):
            try:
                size = span.stop - span.start
                self._workplace.service.allocate(self._kept, mode, span.start, size)
            except KvmError as error:
                number = error.errno
        pending.error(number)


class VcpuFile(PrivateFile, TargetFile):
    """The file of a vCPU, which has run pages."""

    ioctl = TargetFile.ioctl

    def __init__(self, vcpu: Vcpu, workplace: Workplace) -> None:
        TargetFile.__init__(self, vcpu, workplace)
        PrivateFile.__init__(self, vcpu, f"kvm-vcpu:{vcpu.vcpu_id}", workplace)
        self._vcpu = vcpu
        self._run_door: RunDoor | None = None

    def open(self) -> OpenedFile:
        """See `PrivateFile.open`."""
        try:
            python_ioctl = self._mount.session.callbacks.ioctl_address
            self._run_door = self._workplace.service.run_door(self._vcpu, python_ioctl)
        except BaseException:
            self._end()
            raise
        door = self._run_door
        return self._mount.open(self, mode=stat.S_IFREG | 0o600, size=door.size, native=door.slot)

    def read(self, pending: Pending, span: slice) -> None:
        """Exchange the mapping that was touched; EINVAL before there are run pages.

        The touch is answered with what the run pages hold, for a system call that had the fault
        uses the answer; user code repeats it on the exchanged mapping. The answer is dropped from
        the kernel's cache, so that the next mapping is noticed too.
        """
        tid = pending.sender.tid
        if self._run_door is None or self._mount.opened is None:
            pending.error(errno.EINVAL)
            return
        try:
            # EDEADLK for our own threads, which copy from inside an untouched mapping.
            client = self._workplace.find_client(tid)
            self._exchange(client, pending, span)
        except KvmError as error:
            if not pending.answered:
                pending.error(error.errno)

    def _exchange(self, client: Client, pending: Pending, span: slice) -> None:
        file, run_door = self._mount.opened, self._run_door
        assert file is not None
        assert run_door is not None
        tid = pending.sender.tid
        gate = self._workplace.service.gate(client.tgid)

        def answer() -> None:
            gate.withdraw(tid)
            pending.data(read_pieces(run_door.pieces, span.start, min(span.stop, run_door.size)))

        gate.enter(tid)
        try:
            with gate.closed():
                client.replace_mapping_of(
                    tid,
                    file.device,
                    file.inode,
                    run_door.pieces,
                    answer,
                    exchanged=lambda: self._mount.session.drop_pages(FILE_INODE, span),
                    in_flight=gate.inside,
                )
        finally:
            gate.withdraw(tid)
