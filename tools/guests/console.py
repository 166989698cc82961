"""A guest's serial console, as the host reads it from the VMM's standard output.

It also watches what goes wrong: a guest that panics, or a VMM that ends, fails what waits for
something else. A guest may say one byte at a time, and its processor waits for who reads it, so
little is done for each: trouble is looked for in whole lines.
"""

import contextlib
import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Final

_TROUBLE: Final = re.compile(
    rb"Kernel panic|Oops[: ]|BUG: |general protection fault|Call Trace|soft lockup"
    rb"|detected stall|unchecked MSR|WARNING: CPU|KVM internal error|Hardware error"
)
_CHUNK: Final = 1 << 16
_SPAN: Final = 1024
"""Bytes that what is looked for has at most."""
_AFTERMATH_SECONDS: Final = 5
"""How long the guest may go on to say what is the matter."""


class Failed(Exception):
    """The guest did not do what it should have; the text says what."""


class Deadline:
    """A moment after which nobody waits any more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then. Failed when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Failed(f"not done after {self._seconds:.0f} s")
        return left


class Console:
    """The console of one guest; everything read is also written to a log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """`process` is the VMM; its standard output and input are the guest's serial line."""
        assert process.stdout is not None
        self._process = process
        self._output = process.stdout.fileno()
        self._log = log.open("wb", buffering=0)
        self._text = b""
        """What has been read and not been looked for yet."""

    def close(self) -> None:
        """Ends the log."""
        self._log.close()

    def wait_for(self, pattern: bytes, deadline: Deadline) -> re.Match[bytes]:
        """Reads up to and with what the regular expression finds. Failed."""
        compiled = re.compile(pattern)
        searched = trouble_searched = 0
        while True:
            found = compiled.search(self._text, max(0, searched - _SPAN))
            searched = len(self._text)
            end = found.start() if found else self._text.rfind(b"\n") + 1
            trouble = _TROUBLE.search(self._text, trouble_searched, end)
            trouble_searched = end
            if trouble:
                self._read_on(_AFTERMATH_SECONDS)
                raise Failed(_line_around(self._text, trouble.start()))
            if found:
                self._text = self._text[found.end() :]
                return found
            self._read(deadline, pattern)

    def wait_for_end(self, deadline: Deadline) -> None:
        """Reads until the VMM has closed its standard output. Failed."""
        while self._append(deadline):
            pass

    def rest(self) -> str:
        """What else has come, in one line."""
        self._read_on(_AFTERMATH_SECONDS)
        return " ".join(self._text.decode(errors="replace").split())

    def type(self, text: bytes) -> None:
        """Sends to the guest."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), text)

    def _read_on(self, seconds: float) -> None:
        """What comes within a time, for the log."""
        deadline = Deadline(seconds)
        with contextlib.suppress(Failed):
            while self._append(deadline):
                pass

    def _read(self, deadline: Deadline, pattern: bytes) -> None:
        try:
            more = self._append(deadline)
        except Failed as failed:
            last = _line_around(self._text, len(self._text.rstrip()))
            raise Failed(f"{failed}: no {pattern.decode()!r} behind {last!r}") from None
        if not more:
            last = _line_around(self._text, len(self._text.rstrip()))
            raise Failed(f"the VMM has ended behind {last!r}")

    def _append(self, deadline: Deadline) -> bool:
        readable, _, _ = select.select([self._output], [], [], deadline.left())
        if not readable:
            deadline.left()
        data = os.read(self._output, _CHUNK) if readable else b""
        self._log.write(data)
        self._text += data
        return bool(data)


def _line_around(text: bytes, at: int) -> str:
    start = text.rfind(b"\n", 0, at) + 1
    end = text.find(b"\n", at)
    line = text[start : end if end >= 0 else len(text)]
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", line).decode(errors="replace").strip()
