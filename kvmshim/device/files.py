"""What open files stand for: `/dev/kvm`, VMs and vCPUs, and how their ioctls reach dispatch.

A VM's or vCPU's file lives on a FUSE session of its own, on a mount that no path leads to. The
session begins when an ioctl makes the object and ends with the file's last use, which is when the
object is let go. A vCPU's file can be mapped: the first touch of a mapping exchanges it for the
pages that the engine writes (`kvm_run`), so the kernel never caches a page of the file itself.
"""

import contextlib
import errno
import os
import stat
import threading

from kvmshim.client.client import Client
from kvmshim.device.caller import RequestCaller
from kvmshim.device.fuse_ffi import FileAttributes, Pending
from kvmshim.device.mount import mount_detached, open_fuse_device
from kvmshim.device.opener import OpenedFile
from kvmshim.device.session import Node, OpenFile, Session
from kvmshim.device.workplace import RunDoor, Workplace
from kvmshim.dispatch.request import NewFile, Reply, Request, Target
from kvmshim.errors import KvmError
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm

_FILE_INODE = 2
_MAX_THREADS = 16
"""Of one private session: a KVM_RUN, the ioctls that wait behind it, faults and interrupts."""


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
        caller = RequestCaller(pending, client, self._workplace.service.gate(client.tgid))
        # A caller that was killed meanwhile has no use for the result.
        with contextlib.suppress(KvmError), caller.answered() as result:
            request = Request(self._target, command, argument, caller)
            reply = self._workplace.service.ioctl(request)
            result[0] = _result(reply, caller, self._workplace)

    def read(self, pending: Pending, span: slice) -> None:  # noqa: ARG002
        """KVM's files cannot be read, and only a vCPU's can be mapped."""
        pending.error(errno.EINVAL)

    def release(self) -> None:
        """`/dev/kvm` keeps nothing per open file."""


def _result(reply: Reply, caller: RequestCaller, workplace: Workplace) -> int:
    if not isinstance(reply, NewFile):
        return reply
    try:
        opened = PrivateFile(reply.target, workplace).open()
        try:
            return caller.give_file(opened.fd, opened.device)
        finally:
            os.close(opened.fd)
    except KvmError as error:
        return -error.errno
    except OSError as error:
        return -(error.errno or errno.EIO)


class PrivateFile(TargetFile):
    """The file of a VM or a vCPU, and the mount and session it lives on."""

    def __init__(self, target: Vm | Vcpu, workplace: Workplace) -> None:
        super().__init__(target, workplace)
        self._object = target
        self._name = f"kvm-vcpu:{target.vcpu_id}" if isinstance(target, Vcpu) else "kvm-vm"
        self._session = Session(self._name, max_threads=_MAX_THREADS, on_end=self._end)
        self._lock = threading.Lock()
        self._mount_fd = -1
        self._run_door: RunDoor | None = None
        self._identity: OpenedFile | None = None
        self._taken = False

    def open(self) -> OpenedFile:
        """Start the session and open its file; the caller owns the descriptor.

        OSError or KvmError, and then the object is released.
        """
        try:
            self._start()
        except BaseException:
            self.release()
            self._end()
            raise
        try:
            self._identity = self._workplace.opener.open(self._mount_fd, self._name)
        except BaseException:
            self.release()
            raise
        return self._identity

    def _start(self) -> None:
        size, slot = 0, None
        if isinstance(self._object, Vcpu):
            python_ioctl = self._session.callbacks.ioctl_address
            self._run_door = self._workplace.service.run_door(self._object, python_ioctl)
            size, slot = self._run_door.size, self._run_door.slot
        mode, uid, gid = stat.S_IFREG | 0o600, os.getuid(), os.getgid()
        attributes = FileAttributes(_FILE_INODE, mode, uid, gid, size)
        fuse_fd = open_fuse_device()
        try:
            self._mount_fd = mount_detached(fuse_fd)
            nodes = {self._name.encode(): Node(attributes, self._take)}
            self._session.start_files(fuse_fd, nodes, slot)
        except BaseException:
            os.close(fuse_fd)
            raise

    def _take(self, pending: Pending) -> OpenFile:
        """The one open there is. Through `/proc/PID/fd` anyone who may trace the client could ask
        for more; KVM's own files refuse that with ENXIO too."""
        with self._lock:
            if self._taken or pending.sender.tid != self._workplace.opener.pid:
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            self._taken = True
        return self

    def read(self, pending: Pending, span: slice) -> None:
        """Exchange the mapping that was touched; EINVAL for a VM's file, which has no page.

        The touch is answered with what the run pages hold, for a system call that had the fault
        uses the answer; user code repeats it on the exchanged mapping. The answer is dropped from
        the kernel's cache, so that the next mapping is noticed too.
        """
        tid = pending.sender.tid
        if self._run_door is None or self._identity is None:
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
        file, run_door = self._identity, self._run_door
        assert file is not None
        assert run_door is not None
        tid = pending.sender.tid
        gate = self._workplace.service.gate(client.tgid)

        def answer() -> None:
            gate.withdraw(tid)
            pending.data(os.pread(run_door.memfd, span.stop - span.start, span.start))

        gate.enter(tid)
        try:
            with gate.closed():
                client.replace_mapping_of(
                    tid,
                    file.device,
                    file.inode,
                    run_door.memfd,
                    answer,
                    exchanged=lambda: self._session.drop_pages(_FILE_INODE, span),
                    in_flight=gate.inside,
                )
        finally:
            gate.withdraw(tid)

    def release(self) -> None:
        """Let go of the mount, which ends the session. Idempotent."""
        with self._lock:
            mount_fd, self._mount_fd = self._mount_fd, -1
        if mount_fd >= 0:
            os.close(mount_fd)

    def _end(self) -> None:
        self._workplace.service.release(self._object)
