"""The control socket of a daemon: answers who may ask, and is gone with the daemon.

It lives beside the door in its trio loop. Each client is a task of its own, so one that hangs keeps
nobody waiting; questions go to threads of their own, few at a time. Whatever a client sends, the
worst that happens is that it is cut off. Only the user of the daemon and root are answered.
"""

import contextlib
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Final

from kvmshim.control import address, protocol
from kvmshim.control.protocol import Request, RequestError
from kvmshim.control.queries import Queries
from kvmshim.control.tracing import Tracing
from kvmshim.loop import trio
from kvmshim.objects.living import Living

_LOG: Final = logging.getLogger(__name__)
_CLIENTS: Final = 64
_THREADS: Final = 2
_IDLE_SECONDS: Final = 30
_SEND_SECONDS: Final = 10
_CREDENTIALS: Final = struct.Struct("3i")
_CHUNK: Final = 4096
_POLL_SECONDS: Final = 0.02
_SLOW_SECONDS: Final = 0.1
"""A client that reads nothing for so long is slow."""
_MUCH: Final = 64 * 1024
"""Characters of records after which more of them wait."""


async def serve(directory: Path, living: Living, label: str) -> None:
    """Serve until cancelled; a daemon without its control socket is a daemon all the same."""
    try:
        address.prepare(directory)
        listener, path = address.listen(directory)
    except address.AddressError as error:
        _LOG.warning("no control socket, so `kvmshim ps` will not find this: %s", error)
        return
    try:
        await _Server(living, label).run(listener)
    except Exception:
        _LOG.exception("the control socket has failed")
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _may_ask(client: trio.SocketStream) -> bool:
    packed = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(packed)
    return uid in (os.geteuid(), 0) or uid == _unmapped_root()


def _unmapped_root() -> int | None:
    """How root looks from inside a user namespace that has no number for it.

    As everybody else who has none; but of those only root gets into our directory.
    """
    if len(Path("/proc/self/uid_map").read_text().split()) == 3 and os.geteuid() != 0:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    return None


class _Server:
    def __init__(self, living: Living, label: str) -> None:
        self._queries = Queries(living)
        self._label = label
        self._clients = 0
        self._threads = trio.CapacityLimiter(_THREADS)

    async def run(self, listener: socket.socket) -> None:
        await trio.serve_listeners(
            self._serve, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
        )

    async def _serve(self, client: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with client:
                await self._converse(client)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except* Exception:
            _LOG.exception("a client of the control socket met a bug")
        finally:
            self._clients -= 1

    async def _converse(self, client: trio.SocketStream) -> None:
        if not _may_ask(client):
            error = RequestError("not-allowed", "the daemon is another user's; ask as that or root")
            await _send(client, protocol.refusal(None, error))
            return
        if self._clients > _CLIENTS:
            error = RequestError("busy", "too many clients; end some `kvmshim trace`")
            await _send(client, protocol.refusal(None, error))
            return
        await _send(client, protocol.greeting(os.getpid(), self._label))
        lines = protocol.Lines()
        while data := await _receive(client):
            try:
                for line in lines.feed(data):
                    await self._answer(client, line)
            except RequestError as error:
                await _send(client, protocol.refusal(None, error))
                return

    async def _answer(self, client: trio.SocketStream, line: bytes) -> None:
        request = protocol.parse_request(line)
        if request.do == "trace":
            await self._trace(client, request)
            return
        try:
            value = await trio.to_thread.run_sync(
                self._queries.answer, request, limiter=self._threads, abandon_on_cancel=True
            )
        except RequestError as error:
            await _send(client, protocol.refusal(request.number, error))
        else:
            await _send(client, protocol.answer(request, value))

    async def _trace(self, client: trio.SocketStream, request: Request) -> None:
        """Send a trace until the client hangs up, whatever else it says, or the VM ends."""
        try:
            tracing = await trio.to_thread.run_sync(self._queries.trace, request)
        except RequestError as error:
            await _send(client, protocol.refusal(request.number, error))
            return
        try:
            await _send(client, protocol.answer(request, tracing.beginning))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_at_hang_up, client, nursery.cancel_scope)
                await self._stream(client, request, tracing)
                nursery.cancel_scope.cancel()
        finally:
            tracing.close()

    async def _stream(self, client: trio.SocketStream, request: Request, tracing: Tracing) -> None:
        while True:
            portions = await trio.to_thread.run_sync(tracing.read, limiter=self._threads)
            if portions is None:
                await _send(client, protocol.answer(request, {"ended": True}))
                return
            for portion in portions:
                await _send_trace(client, protocol.answer(request, portion), tracing)
            full = any(len(portion["records"]) >= _MUCH for portion in portions)
            await trio.sleep(0 if full else _POLL_SECONDS)


async def _cancel_at_hang_up(client: trio.SocketStream, scope: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while await client.receive_some(_CHUNK):
            pass
    scope.cancel()


async def _send_trace(client: trio.SocketStream, line: bytes, tracing: Tracing) -> None:
    """As `_send`; while the client does not read, its trace does not slow the guest."""
    rest, paused = memoryview(line), False
    with trio.fail_after(_SEND_SECONDS):
        while rest:
            sent = 0
            with trio.move_on_after(_SLOW_SECONDS):
                sent = await client.socket.send(rest)
            rest = rest[sent:]
            if not sent and not paused:
                paused = True
                tracing.pause()
    if paused:
        tracing.resume()


async def _receive(client: trio.SocketStream) -> bytes:
    """b"" at the end, and when nothing comes for long."""
    with trio.move_on_after(_IDLE_SECONDS):
        return bytes(await client.receive_some(_CHUNK))
    return b""


async def _send(client: trio.SocketStream, line: bytes) -> None:
    with trio.fail_after(_SEND_SECONDS):
        await client.send_all(line)
