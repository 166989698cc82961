"""What this machine offers to the doors: each probe says yes or no, and what to do about a no."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from kvmshim.device import fuse_ffi
from kvmshim.device.cuse import CUSE_DEVICE
from kvmshim.device.mount import FUSE_DEVICE, mount_detached, open_fuse_device
from kvmshim.device.namespace import enter_private_mounts

OLDEST_KERNEL = (5, 6)
"""pidfd_getfd(2)."""
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"
_YAMA_MEANING = {
    0: "0: any process of the same user",
    1: "1: descendants only",
    2: "2: administrators only",
    3: "3: nobody",
}
_USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"


@dataclass(frozen=True, slots=True)
class Finding:
    """One probe's answer."""

    subject: str
    good: bool
    found: str
    advice: str = ""
    """What to do where it is not good."""
    for_run: bool = True
    """Whether `kvmshim run` needs it."""


def find_all() -> list[Finding]:
    """Probe everything, cheapest first. The process must have one thread."""
    return [kernel(), library(), fuse(), namespaces(), ptrace(), cuse()]


def kernel(release: str | None = None) -> Finding:
    """Linux 5.6 or later on x86-64."""
    release = release or os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    good = bool(match) and tuple(map(int, match.groups() if match else ())) >= OLDEST_KERNEL
    good = good and os.uname().machine == "x86_64"
    return Finding(
        "kernel", good, f"{release} {os.uname().machine}", "Linux 5.6 or later on x86-64 is needed"
    )


def library() -> Finding:
    """libfuse3."""
    advice = "install libfuse3 3.13 or later (Debian: apt install libfuse3-3)"
    try:
        number = fuse_ffi.version()
    except OSError as error:
        return Finding("libfuse3", False, str(error), advice)
    return Finding("libfuse3", True, f"{number // 100}.{number % 100}")


def fuse() -> Finding:
    """/dev/fuse can be opened."""
    advice = (
        "load the module (modprobe fuse); give a container the device (--device /dev/fuse); "
        "for ordinary users: chmod 666 /dev/fuse"
    )
    try:
        os.close(open_fuse_device())
    except OSError as error:
        return Finding("FUSE", False, f"{FUSE_DEVICE}: {error.strerror}", advice)
    return Finding("FUSE", True, f"{FUSE_DEVICE} can be opened")


def namespaces() -> Finding:
    """A private mount namespace, through a user namespace if need be, and FUSE mounts in it."""
    advice = (
        f"allow user namespaces ({_USER_NAMESPACES} above 0, kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0), or run as root; "
        "a container needs CAP_SYS_ADMIN or a seccomp profile that allows unshare and mount"
    )
    failure = _failure_in_child(_mount_privately)
    if failure:
        return Finding("namespaces", False, os.strerror(failure), advice)
    how = "as root" if os.geteuid() == 0 else "in a user namespace"
    return Finding("namespaces", True, f"private FUSE mounts work, {how}")


def _mount_privately() -> None:
    enter_private_mounts()
    mount_detached(open_fuse_device())


def _failure_in_child(action: Callable[[], None]) -> int:
    """The errno that `action` fails with in a process of its own, or 0."""
    child = os.fork()
    if child == 0:
        failure = 255
        try:
            action()
            failure = 0
        except OSError as error:
            failure = error.errno or failure
        finally:
            os._exit(failure)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ptrace() -> Finding:
    """Yama lets us trace our own child."""
    try:
        with open(_YAMA, encoding="ascii") as setting:
            scope = int(setting.read())
    except FileNotFoundError:
        return Finding("ptrace", True, "no restriction by Yama")
    return Finding(
        "ptrace",
        scope < 3,
        f"Yama scope {_YAMA_MEANING.get(scope, scope)}",
        "boot with kernel.yama.ptrace_scope at 2 or less; 3 cannot be changed while running",
    )


def cuse() -> Finding:
    """/dev/cuse can be opened, which `kvmshim serve --cuse` needs."""
    advice = "load the module (modprobe cuse) as root; without it use `kvmshim serve --fuse`"
    try:
        os.close(os.open(CUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        found = f"{CUSE_DEVICE}: {error.strerror}"
        return Finding("CUSE", False, found, advice, for_run=False)
    return Finding("CUSE", True, f"{CUSE_DEVICE} can be opened", for_run=False)
