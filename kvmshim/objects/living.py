"""The VMs that there are, by the names that people call them.

A name is the process that made the VM and a number, `4711-0`: the lowest that no other living VM of
the process has.
"""

import itertools
import threading

from kvmshim.objects.vm import Vm


class Living:
    """The VMs of one service. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, Vm] = {}

    def add(self, vm: Vm) -> str:
        """A VM has been made; its name."""
        with self._lock:
            names = (f"{vm.process}-{number}" for number in itertools.count())
            name = next(name for name in names if name not in self._by_name)
            self._by_name[name] = vm
        return name

    def remove(self, vm: Vm) -> None:
        """A VM has ended. Nothing if it is not here."""
        with self._lock:
            self._by_name = {
                name: other for name, other in self._by_name.items() if other is not vm
            }

    def all(self) -> dict[str, Vm]:
        """Those that live now, by name."""
        with self._lock:
            return dict(self._by_name)

    def find(self, name: str) -> Vm | None:
        """The VM of a name."""
        with self._lock:
            return self._by_name.get(name)
