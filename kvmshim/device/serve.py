"""`kvmshim serve`: a door in the foreground, from start to stop.

Order of the start: the child that must know no FUSE connection is started (janitor), what a crashed
run left is removed, the door is opened, the world is told. The stop is the reverse.
Sessions of VMs that are still open end with the process: the kernel fails what their clients wait
for.
"""

import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from kvmshim.device import signal_ffi
from kvmshim.device.door import Door, DoorError
from kvmshim.device.janitor import Expect, Janitor
from kvmshim.device.opener import Opener
from kvmshim.device.sched_ffi import ask_for_short_slices
from kvmshim.device.workplace import Beside, Service, Workplace, nothing_beside
from kvmshim.loop import trio

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(
    make_door: Callable[[Workplace, Expect], Door],
    service: Callable[[], Service],
    beside: Beside = nothing_beside,
) -> None:
    """Serve until a stop signal; DoorError where that is impossible or ends early.

    `service` is called when all forking is done, so it may start threads.
    """
    janitor = Janitor()
    signals = signal_ffi.open_signals(STOP_SIGNALS)
    ask_for_short_slices()
    try:
        served = service()
        door = make_door(Workplace(served, Opener()), janitor.expect)
        door.check()
        trio.run(_serve, door, signals, partial(beside, served))
    finally:
        janitor.clean_up()


async def _serve(door: Door, signals: int, beside: Callable[[], Awaitable[None]]) -> None:
    ended = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def on_end() -> None:
        try:
            token.run_sync_soon(ended.set)
        except trio.RunFinishedError:
            return

    async def stop_signal() -> None:
        await trio.lowlevel.wait_readable(signals)

    await trio.to_thread.run_sync(door.open, on_end)
    try:
        announce(f"kvmshim: serving {door.label}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)
            nursery.start_soon(_cancel_after, nursery.cancel_scope, ended.wait)
            nursery.start_soon(_cancel_after, nursery.cancel_scope, stop_signal)
    finally:
        door.close()
    if ended.is_set():
        raise DoorError(f"{door.label} was taken away from outside")


async def _cancel_after(scope: trio.CancelScope, event: Callable[[], Awaitable[None]]) -> None:
    await event()
    scope.cancel()


def announce(line: str) -> None:
    """Tell whoever waits that clients can come: a line on stdout, and sd_notify(3) if asked."""
    print(line, flush=True)
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))
