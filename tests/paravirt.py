"""KVM's paravirtual interface as a guest sees it: numbers, layouts, and guests that use it.

Linux, `Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst`.
"""

import struct
from dataclasses import dataclass
from typing import Final

from tests.machine import DATA, Machine, Mode

WALL_CLOCK: Final = 0x11
SYSTEM_TIME: Final = 0x12
WALL_CLOCK_NEW: Final = 0x4B564D00
SYSTEM_TIME_NEW: Final = 0x4B564D01
ASYNC_PF_EN: Final = 0x4B564D02
STEAL_TIME: Final = 0x4B564D03
PV_EOI_EN: Final = 0x4B564D04
POLL_CONTROL: Final = 0x4B564D05
ASYNC_PF_INT: Final = 0x4B564D06
ASYNC_PF_ACK: Final = 0x4B564D07
ALL_MSRS: Final = (WALL_CLOCK, SYSTEM_TIME, *range(WALL_CLOCK_NEW, ASYNC_PF_ACK + 1))

ENABLED: Final = 1
STABLE: Final = 1
STOPPED: Final = 2

FEATURES_LEAF: Final = 0x4000_0001

_READ_CLOCK: Final = f"""
again:
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [{DATA} + 8]
    mov cl, [{DATA} + 28]
    test cl, cl
    js right
    shl rax, cl
    jmp multiply
right:
    neg cl
    shr rax, cl
multiply:
    mov edx, [{DATA} + 24]
    mul rdx
    shrd rax, rdx, 32
    add rax, [{DATA} + 16]
    hlt
    jmp again
"""


@dataclass(frozen=True)
class TimeInfo:
    """`struct pvclock_vcpu_time_info`."""

    version: int
    tsc_timestamp: int
    system_time: int
    mul: int
    shift: int
    flags: int

    @classmethod
    def of(cls, raw: bytes) -> "TimeInfo":
        return cls(*struct.unpack("<I4xQQIbB2x", raw))


class Clock:
    """A machine whose guest has its clock at DATA and reads it at each run."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.load(_READ_CLOCK, Mode.LONG)
        machine.vcpu.set_msrs([(SYSTEM_TIME_NEW, DATA | ENABLED)])

    def read(self) -> int:
        """Nanoseconds, as the guest computes them."""
        self.machine.vcpu.run()
        return self.machine.vcpu.regs().rax

    @property
    def info(self) -> TimeInfo:
        return TimeInfo.of(self.machine.ram.read(DATA, 32))
