"""Daemons to ask: their sockets, and questions as function calls."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kvmshim.control import address, protocol
from kvmshim.control.protocol import Json, RequestError

_LOG: Final = logging.getLogger(__name__)
_TIMEOUT_SECONDS: Final = 5
_LONGEST_ANSWER: Final = 64 << 20
_CHUNK: Final = 1 << 16


class ObserveError(Exception):
    """What was asked for cannot be shown; says what to do about it."""


class Daemon:
    """A connection to one daemon. For one thread; closed as a context."""

    def __init__(self, path: Path) -> None:
        """OSError: nobody is there. ObserveError: it is not one of ours, or does not want us."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lines = protocol.Lines(_LONGEST_ANSWER)
        self._come: list[bytes] = []
        try:
            self._socket.settimeout(_TIMEOUT_SECONDS)
            self._socket.connect(str(path))
            greeting = self._message()
        except BaseException:
            self._socket.close()
            raise
        if greeting.get("kvmshim") != protocol.VERSION:
            self._socket.close()
            raise ObserveError(
                f"{path}: the daemon speaks version {greeting.get('kvmshim')} of the protocol, "
                f"this is {protocol.VERSION}; use the kvmshim that started it"
            )
        self.pid: int = greeting["pid"]
        self.label: str = greeting["label"]

    @property
    def patience(self) -> float | None:
        """Seconds that it may take to say something; None: for ever."""
        return self._socket.gettimeout()

    def ask(self, do: str, **arguments: Any) -> Json:
        """One answer. ObserveError."""
        return next(self.listen(do, **arguments))

    def listen(self, do: str, **arguments: Any) -> Iterator[Json]:
        """Answers, one after the other, for as long as the daemon gives them. ObserveError."""
        try:
            self._socket.sendall(protocol.encode({"do": do, **arguments}))
            yield self._message()["answer"]
            # From now on it speaks when it has something to say.
            self._socket.settimeout(None)
            while True:
                yield self._message()["answer"]
        except OSError as error:
            raise ObserveError(f"{self.path}: the daemon does not answer: {error}") from error

    def _message(self) -> Json:
        while not self._come:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ObserveError(f"{self.path}: the daemon has hung up; it may have ended")
            self._come += self._lines.feed(data)
        try:
            message = protocol.decode(self._come.pop(0))
        except RequestError as error:
            raise ObserveError(f"{self.path}: {error}") from error
        if "error" in message:
            raise ObserveError(message["error"]["message"])
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._socket.close()


def daemons() -> Iterator[Daemon]:
    """A connection to each daemon that lives; closed when the next one is asked for.

    One that does not answer, a stopped one for instance, is left out with a warning.
    """
    for path in address.sockets():
        try:
            daemon = Daemon(path)
        except TimeoutError:
            _LOG.warning("%s: the daemon does not answer; is it stopped?", path)
        except OSError:
            # It has just ended, or was killed.
            continue
        else:
            with daemon:
                yield daemon
