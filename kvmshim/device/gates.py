"""The gates of all clients, one a process, kept while something of the process is open."""

import threading
import weakref

from kvmshim.device.door_ffi import Gate


class Gates:
    """Finds a process's gate. Whoever uses it keeps it; the last one to forget it ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: weakref.WeakValueDictionary[int, Gate] = weakref.WeakValueDictionary()

    def of(self, process: int) -> Gate:
        """The gate of thread group `process`."""
        with self._lock:
            gate = self._gates.get(process)
            if gate is None:
                gate = self._gates[process] = Gate()
            return gate
