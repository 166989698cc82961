"""What CPUID shows to a command of `kvmshim run`: the host's processor, able to run guests.

SDM volume 2, CPUID; APM volume 3, appendix "Obtaining Processor Information Via the CPUID
Instruction". Programs that look for virtualization before they open /dev/kvm must find what the
emulated processor has. Pure: values in, values out; how the instruction is caught is the business
of `cpuid_breakpoints` and `cpuid_faulting`.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Cpuid(NamedTuple):
    """What one leaf says, 32 bits each."""

    eax: int
    ebx: int
    ecx: int
    edx: int


Execute = Callable[[int, int], Cpuid]
"""The CPUID instruction of the real processor: (leaf, subleaf)."""


@dataclass(frozen=True, slots=True)
class Override:
    """Bits of one register of one leaf, all subleaves, that are not the host's."""

    leaf: int
    register: str  # a field of Cpuid
    set: int = 0
    clear: int = 0

    def applied(self, host: Cpuid) -> Cpuid:
        value: int = getattr(host, self.register)
        return host._replace(**{self.register: value & ~self.clear | self.set})


FEATURES: Final = 0x1
EXTENDED_FEATURES: Final = 0x8000_0001
_FIRST_EXTENDED: Final = 0x8000_0000

_VMX: Final = Override(FEATURES, "ecx", set=1 << 5)
_SVM: Final = Override(EXTENDED_FEATURES, "ecx", set=1 << 2)
_VIRTUALIZATION: Final = {
    b"GenuineIntel": _VMX,
    b"CentaurHauls": _VMX,
    b"  Shanghai  ": _VMX,
    b"AuthenticAMD": _SVM,
    b"HygonGenuine": _SVM,
}


class CpuidPolicy:
    """The host's values with some bits changed."""

    def __init__(self, overrides: tuple[Override, ...]) -> None:
        self._overrides = overrides

    @classmethod
    def for_host(cls, execute: Execute) -> "CpuidPolicy":
        """Adds the virtualization bit that processors of the host's vendor have; of a vendor that
        makes none with virtualization, nothing."""
        bit = _VIRTUALIZATION.get(_vendor(execute(0, 0)))
        return cls(() if bit is None else (bit,))

    def shown(self, leaf: int, host: Cpuid) -> Cpuid:
        """What the command sees where the processor would say `host`."""
        for override in self._overrides:
            if override.leaf == leaf:
                host = override.applied(host)
        return host

    def differs(self, execute: Execute) -> bool:
        """Whether the command would see anything that the host does not show.

        A leaf that the processor does not have says nothing about it and is left alone.
        """
        return any(
            self.shown(leaf, host) != host
            for leaf in {override.leaf for override in self._overrides}
            if leaf <= execute(leaf & _FIRST_EXTENDED, 0).eax
            for host in [execute(leaf, 0)]
        )


def _vendor(leaf_0: Cpuid) -> bytes:
    return struct.pack("<III", leaf_0.ebx, leaf_0.edx, leaf_0.ecx)
