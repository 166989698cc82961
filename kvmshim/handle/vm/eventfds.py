"""The eventfds of a VM, from the first ioctl that names one on."""

from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from kvmshim.platform.eventfds import Eventfds


def eventfds_of(vm: Vm, caller: Caller) -> Eventfds:
    """The VM's eventfds, which end with it."""
    with vm.lock:
        if vm.eventfds is None:
            vm.eventfds = caller.eventfds(vm.vmid)
        return vm.eventfds
