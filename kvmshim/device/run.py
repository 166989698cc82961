"""`kvmshim run -- CMD`: a command with a `/dev/kvm` that only it and its children see.

This process serves, the command is its child; both live in one private mount namespace (and user
namespace, where one was needed), so the server may trace the command under any Yama scope but 3.
Signals of the terminal reach the command by themselves, being its group's; those that a process
sends to us are passed on.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from kvmshim.device import signal_ffi
from kvmshim.device.command import Command
from kvmshim.device.door import Access, DoorError
from kvmshim.device.fuse import FuseDoor
from kvmshim.device.namespace import enter_private_mounts, provide_mountpoint
from kvmshim.device.opener import Opener
from kvmshim.device.sched_ffi import ask_for_short_slices
from kvmshim.device.workplace import Beside, Service, Workplace, nothing_beside
from kvmshim.loop import trio

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

Accompany = Callable[[int, int], AbstractContextManager[None]]
"""What is done about the command while it lives: (its pid, a signalfd for SIGCHLD, which all
threads block)."""


def run(
    argv: Sequence[str],
    service: Callable[[], Service],
    prepare_command: Callable[[], None] = lambda: None,
    accompany: Accompany = lambda _pid, _child_signals: nullcontext(),
    beside: Beside = nothing_beside,
) -> int:
    """Run a command to its end; its wait status. DoorError where it cannot be started.

    `service` is called when all forking is done, so it may start threads; `prepare_command` in the
    child, last before exec. The command lives inside the context of `accompany`.
    """
    try:
        enter_private_mounts()
        provide_mountpoint("/dev", "kvm")
    except OSError as error:
        raise DoorError(
            f"cannot make a private /dev/kvm: {error}; `kvmshim check` says what is missing"
        ) from error
    command = Command(argv, prepare_command)
    signals = signal_ffi.open_signals(PASSED_ON)
    child_signals = signal_ffi.open_signals([signal.SIGCHLD])
    ask_for_short_slices()
    try:
        served = service()
        workplace = Workplace(served, Opener(), judges_mappings=True)
        access = Access(uid=os.getuid(), gid=os.getgid())
        # The namespace goes with its last process: nothing is left for a janitor.
        door = FuseDoor("/dev/kvm", access, workplace, lambda _leftover: None)
        door.open(lambda: None)
    except BaseException:
        command.abandon()
        raise
    with accompany(command.pid, child_signals):
        command.start()
        trio.run(_until_end, command.pid, signals, partial(beside, served))
    return command.wait()


async def _until_end(pid: int, signals: int, beside: Callable[[], Awaitable[None]]) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)
            nursery.start_soon(_pass_on, pid, signals)
            await trio.lowlevel.wait_readable(pidfd)
            nursery.cancel_scope.cancel()
    finally:
        os.close(pidfd)


async def _pass_on(pid: int, signals: int) -> None:
    while True:
        await trio.lowlevel.wait_readable(signals)
        received = signal_ffi.read_signal(signals)
        if received and received.from_process and received.sender != pid:
            # Not reaped before the nursery ends, so the number is still the command's.
            os.kill(pid, received.number)
