"""A vCPU: a virtual processor and its state (MicroV's VP and VS), one of each.

Its ioctls are serialised by the door (KVM's `vcpu->mutex`), so there is no lock here.
"""

from dataclasses import dataclass

from kvmshim.objects.vm import Vm
from kvmshim.platform.signals import Signals


@dataclass(eq=False, slots=True)
class Vcpu:
    """One vCPU. `vcpu_id` is the client's number (the APIC id), `vsid` the engine's."""

    vm: Vm
    vcpu_id: int
    vpid: int
    vsid: int
    sipi_vector: int = 0
    """Where a vCPU starts that is set to KVM_MP_STATE_SIPI_RECEIVED."""
    signals: Signals | None = None
    """From the moment on that the vCPU has a file."""
