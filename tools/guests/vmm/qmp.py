"""QEMU's machine protocol: JSON lines on a socket. QEMU's manual, "QEMU Machine Protocol"."""

import json
import socket
import time
from pathlib import Path
from typing import Any

from tools.guests.console import Deadline, Failed


class Qmp:
    """A connection to one QEMU."""

    def __init__(self, path: Path, deadline: Deadline) -> None:
        """Waits until QEMU listens there. Failed."""
        self._socket = _connected(path, deadline)
        self._lines = self._socket.makefile("rb")
        self._events: list[str] = []
        self._message(deadline)
        self.execute("qmp_capabilities", deadline)

    def close(self) -> None:
        """Leaves; QEMU goes on."""
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, deadline: Deadline, **arguments: object) -> Any:
        """What a command returns. Failed."""
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._message(deadline)
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise Failed(f"{command}: {message['error']['desc']}")

    def monitor(self, command: str, deadline: Deadline) -> str:
        """A command of the human monitor: its answer, empty where all went well. Failed."""
        said: str = self.execute("human-monitor-command", deadline, **{"command-line": command})
        return said

    def wait_for_event(self, name: str, deadline: Deadline) -> None:
        """Until QEMU has told of an event. Failed."""
        while name not in self._events:
            self._message(deadline)
        self._events.remove(name)

    def _message(self, deadline: Deadline) -> dict[str, Any]:
        """The next message; an event is noted."""
        self._socket.settimeout(deadline.left())
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise Failed("QEMU does not answer on its QMP socket") from None
        except ConnectionError:
            line = b""
        if not line:
            raise Failed("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self._events.append(message["event"])
        return message


def _connected(path: Path, deadline: Deadline) -> socket.socket:
    """QEMU makes the socket early, but not before it runs."""
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            deadline.left()
            time.sleep(0.05)
        else:
            return connection
