"""The CUSE door: a character device made by the kernel's CUSE module.

devtmpfs makes and removes the node `/dev/NAME`, mode 0600 and root's; who may open it is set after.
Where `/dev` is another file system the node is made and removed here. Ioctls are unrestricted:
the kernel copies nothing and hands us the argument.
"""

import contextlib
import os
import stat
from collections.abc import Callable

from kvmshim.device.door import Access, DoorError
from kvmshim.device.files import system_node
from kvmshim.device.fuse_ffi import ROOT_INODE, FileAttributes
from kvmshim.device.janitor import Expect, Leftover
from kvmshim.device.session import Session
from kvmshim.device.workplace import Workplace

CUSE_DEVICE = "/dev/cuse"
_SYSFS_DEVICES = "/sys/class/cuse"
_SYSFS_NUMBERS = "/sys/dev/char"
_MAX_THREADS = 64
_READY_TIMEOUT_S = 10.0
_STATIC_KVM_NODE = os.makedev(10, 232)


class CuseDoor:
    """`kvmshim serve --cuse`."""

    def __init__(self, name: str, access: Access, workplace: Workplace, expect: Expect) -> None:
        self._name = name
        self._path = f"/dev/{name}"
        self._access = access
        self._workplace = workplace
        self._expect = expect

    @property
    def label(self) -> str:
        """Where clients find it and by what means."""
        return f"{self._path} (CUSE)"

    def check(self) -> None:
        """Remove the node of a device that is gone; DoorError if the name is taken."""
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            return
        if _is_orphan(status):
            os.unlink(self._path)
            return
        raise DoorError(
            f"{self._path} exists; stop or remove what it belongs to, or choose another --name"
        )

    def open(self, on_end: Callable[[], None]) -> None:
        """Make the device and serve it."""
        try:
            cuse_fd = os.open(CUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DoorError(f"cannot open {CUSE_DEVICE}: {error.strerror}") from error
        session = Session("kvmshim", max_threads=_MAX_THREADS, on_end=on_end)
        node = system_node(self._workplace, FileAttributes(ROOT_INODE, stat.S_IFCHR))
        session.start_device(cuse_fd, self._name, node)
        if not session.ready.wait(_READY_TIMEOUT_S):
            raise DoorError(f"the kernel does not make a device called {self._name}")
        try:
            self._settle_node(self._device_number())
        except OSError as error:
            raise DoorError(f"cannot set up {self._path}: {error}") from error

    def close(self) -> None:
        """Take the node away. The device itself goes with the process."""
        with contextlib.suppress(OSError):
            os.chmod(self._path, 0)

    def _device_number(self) -> int:
        with open(f"{_SYSFS_DEVICES}/{self._name}/dev", encoding="ascii") as number:
            major, minor = number.read().strip().split(":")
        return os.makedev(int(major), int(minor))

    def _settle_node(self, number: int) -> None:
        """Make sure that the node is there and is our device's, then let the right ones in."""
        if not os.path.lexists(self._path):
            self._expect(Leftover("node", self._path, number))
            with contextlib.suppress(FileExistsError):
                os.mknod(self._path, stat.S_IFCHR, number)
        if os.lstat(self._path).st_rdev != number:
            raise DoorError(f"{self._path} is another device's; choose another --name")
        os.chown(self._path, self._access.uid, self._access.gid)
        os.chmod(self._path, self._access.mode)


def _is_orphan(status: os.stat_result) -> bool:
    """Whether a node's device is gone. A node that was set up for the real KVM is not ours."""
    number = status.st_rdev
    if not stat.S_ISCHR(status.st_mode) or number == _STATIC_KVM_NODE:
        return False
    return not os.path.exists(f"{_SYSFS_NUMBERS}/{os.major(number)}:{os.minor(number)}")
