"""What a statistics file shows: a VM or a vCPU.

Such a file keeps the VM, as in KVM.
"""

from dataclasses import dataclass

from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm


@dataclass(eq=False, slots=True)
class Statistics:
    """The statistics of `of`."""

    of: Vm | Vcpu

    @property
    def vm(self) -> Vm:
        """The VM that the file keeps."""
        return self.of.vm if isinstance(self.of, Vcpu) else self.of
