"""`--cpu`: whose processor guests see. No ioctl; said once, before the first VM."""

from microv.ops import pp as pp_op


def choose_personality(cpu: str) -> None:
    """`intel` or `amd`: what KVM_GET_SUPPORTED_CPUID and KVM_GET_MSR_INDEX_LIST offer from now on,
    and what a vCPU is whose CPUID the client does not set."""
    pp_op.set_personality(pp_op.Personality[cpu.upper()])
