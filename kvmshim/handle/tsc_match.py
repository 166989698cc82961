"""Time-stamp counters of a VM's vCPUs that a client wants to be one.

As `kvm_synchronize_tsc` in `arch/x86/kvm/x86.c`: a client that restores a VM, or makes one, writes
each vCPU's counter a little later than the last one's. A write within a second of what the last
one would have come to means the same counter, and the vCPU gets exactly that.
"""

from kvmshim.abi.msr_index import MSR_IA32_TSC
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import TscWrite
from microv.ops import vs as vs_op

_COUNTS = 1 << 64


def write_tsc(vcpu: Vcpu, value: int) -> None:
    """Makes the vCPU's counter `value`, or that of the vCPU that was written last."""
    khz = vs_op.tsc_get_khz(vcpu.vsid)
    unmoved = _unmoved(vcpu)
    with vcpu.vm.lock:
        last = vcpu.vm.tsc_write
        matches = last is not None and last.khz == khz and last.is_near(value, unmoved)
        offset = last.offset if last is not None and matches else (value - unmoved) % _COUNTS
        vcpu.vm.tsc_write = TscWrite(khz, offset, value, unmoved)
    vs_op.tsc_set_offset(vcpu.vsid, offset)


def begin_tsc(vcpu: Vcpu) -> None:
    """A new vCPU counts with those that are there; under the VM's lock."""
    khz = vs_op.tsc_get_khz(vcpu.vsid)
    unmoved = _unmoved(vcpu)
    last = vcpu.vm.tsc_write
    if last is not None and last.khz == khz:
        vs_op.tsc_set_offset(vcpu.vsid, last.offset)
    vcpu.vm.tsc_write = TscWrite(khz, vs_op.tsc_get_offset(vcpu.vsid), 0, unmoved)


def _unmoved(vcpu: Vcpu) -> int:
    """The host's counter at the frequency of the vCPU's."""
    offset = vs_op.tsc_get_offset(vcpu.vsid)
    return (vs_op.msr_get(vcpu.vsid, MSR_IA32_TSC) - offset) % _COUNTS
