"""`kvmshim.platform.vm_door.VmDoor`: the Rust side of the door, and the page that it shares."""

import mmap
import os
import weakref

from kvmshim.device import door_ffi


class NativeVmDoor:
    """One VM's."""

    def __init__(self, vmid: int) -> None:
        """OSError, MemoryError: no descriptor or memory for the page."""
        self._vmid = vmid
        self.coalesced_fd = os.memfd_create("kvmshim-coalesced", os.MFD_CLOEXEC)
        """A page of the ring that coalesced writes wait in; each vCPU's file shows it."""
        self._close_fd = weakref.finalize(self, os.close, self.coalesced_fd)
        os.ftruncate(self.coalesced_fd, mmap.PAGESIZE)
        door_ffi.begin_vm(vmid, self.coalesced_fd)

    def add_zone(self, address: int, size: int, *, port: bool) -> bool:
        """See `kvmshim.platform.vm_door`, as for the others."""
        return door_ffi.add_zone(self._vmid, address, size, port=port)

    def remove_zones(self, address: int, size: int, *, port: bool) -> None:
        door_ffi.remove_zones(self._vmid, address, size, port=port)

    def set_slot(self, number: int, gpa: int, size: int) -> None:
        door_ffi.set_slot(self._vmid, number, gpa, size)

    def reset_rings(self) -> int:
        return door_ffi.reset_rings(self._vmid)

    def close(self) -> None:
        door_ffi.end_vm(self._vmid)
        self._close_fd()
