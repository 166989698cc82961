"""Guest memory that its client cannot map: what a guest_memfd stands for. It keeps its VM."""

from dataclasses import dataclass

from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import MemoryFile


@dataclass(eq=False, slots=True)
class GuestMemory:
    """One guest_memfd. Which slots use it is said by the slots (`Slot.private`)."""

    vm: Vm
    file: MemoryFile
