"""The registers of a vCPU by their names in the SDM, as a client of the control socket sees them.

Numbers are texts in hex, for not every reader of JSON has 64 bits.
"""

from typing import Any, Final

from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import observe

GENERAL: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rflags"),
)
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_FIELDS: Final = ("selector", "base", "limit", "attrib")
TABLES: Final = ("gdtr", "idtr")
_TABLE_FIELDS: Final = ("base", "limit")
CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "cr8", "xcr0")
DEBUG: Final = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
MSRS: Final = {
    "ia32_efer": 0xC000_0080,
    "ia32_star": 0xC000_0081,
    "ia32_lstar": 0xC000_0082,
    "ia32_cstar": 0xC000_0083,
    "ia32_fmask": 0xC000_0084,
    "ia32_fs_base": 0xC000_0100,
    "ia32_gs_base": 0xC000_0101,
    "ia32_kernel_gs_base": 0xC000_0102,
    "ia32_tsc_aux": 0xC000_0103,
    "ia32_sysenter_cs": 0x174,
    "ia32_sysenter_esp": 0x175,
    "ia32_sysenter_eip": 0x176,
    "ia32_time_stamp_counter": 0x10,
    "ia32_apic_base": 0x1B,
    "ia32_misc_enable": 0x1A0,
    "ia32_pat": 0x277,
    "ia32_tsc_deadline": 0x6E0,
}

_NAMES: Final = (
    *GENERAL,
    *(f"{segment}_{field}" for segment in SEGMENTS for field in _FIELDS),
    *(f"{table}_{field}" for table in TABLES for field in _TABLE_FIELDS),
    *CONTROL,
    *DEBUG,
)
_NUMBERS: Final = [int(getattr(mv, f"mv_reg_t_{name}")) for name in _NAMES]


def registers(vcpu: Vcpu) -> dict[str, Any]:
    """All of them, as they were at one moment. MvError."""
    values = observe.peek_list(vcpu.vsid, _NUMBERS, MSRS.values())
    found = {
        name: hex(value)
        for name, value in zip((*_NAMES, *MSRS), values, strict=True)
        if value is not None
    }
    return {
        "general": {name: found[name] for name in GENERAL},
        "segments": {
            segment: {field: found[f"{segment}_{field}"] for field in _FIELDS}
            for segment in SEGMENTS
        },
        "tables": {
            table: {field: found[f"{table}_{field}"] for field in _TABLE_FIELDS} for table in TABLES
        },
        "control": {name: found[name] for name in CONTROL},
        "debug": {name: found[name] for name in DEBUG},
        "msrs": {name: found[name] for name in MSRS if name in found},
    }
