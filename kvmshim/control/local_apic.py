"""The registers of a vCPU's local APIC by their names in the SDM ("Local APIC Registers")."""

import struct
from typing import Any, Final

from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip
from microv.ops import observe

_REGISTERS: Final = {
    "id": 0x02,
    "version": 0x03,
    "tpr": 0x08,
    "ppr": 0x0A,
    "ldr": 0x0D,
    "dfr": 0x0E,
    "svr": 0x0F,
    "esr": 0x28,
    "lvt_cmci": 0x2F,
    "icr_low": 0x30,
    "icr_high": 0x31,
    "lvt_timer": 0x32,
    "lvt_thermal": 0x33,
    "lvt_pmc": 0x34,
    "lvt_lint0": 0x35,
    "lvt_lint1": 0x36,
    "lvt_error": 0x37,
    "timer_initial": 0x38,
    "timer_current": 0x39,
    "timer_divide": 0x3E,
}
_VECTORS: Final = {"isr": 0x10, "tmr": 0x18, "irr": 0x20}
"""The first of eight registers with a bit for each vector."""


def local_apic(vcpu: Vcpu) -> dict[str, Any]:
    """All of them, as they were at one moment; none where the client emulates it. MvError."""
    if vcpu.vm.irqchip is Irqchip.NONE:
        return {"registers": {}, "vectors": {}}
    words = [word for word, *_ in struct.iter_unpack("<4I", observe.lapic_peek_all(vcpu.vsid))]
    return {
        "registers": {name: hex(words[number]) for name, number in _REGISTERS.items()},
        "vectors": {name: _vectors(words[first : first + 8]) for name, first in _VECTORS.items()},
    }


def _vectors(words: list[int]) -> list[int]:
    return [vector for vector in range(256) if words[vector // 32] >> vector % 32 & 1]
