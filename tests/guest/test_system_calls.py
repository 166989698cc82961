"""SYSCALL, SYSRET, SYSENTER and SYSEXIT: targets, flags, segments, and the refusals.

SDM volume 2, the pages of the four instructions; APM volume 3 for compatibility mode.
"""

from typing import Final

import pytest

from microv.cdl import CdlEntry
from microv.ops import vs
from tests.guest import layout
from tests.guest.modes import COMPAT32, LONG64, PROTECTED32, REAL, Efer, Mode, Rflags
from tests.guest.processor import Processor

_STAR, _LSTAR, _CSTAR, _SFMASK = 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084
_SYSENTER_CS, _SYSENTER_ESP, _SYSENTER_EIP = 0x174, 0x175, 0x176
_GP, _UD = (13, 0), (6, None)
_SELECTORS: Final = layout.CODE64 << 32 | (layout.CODE32_RING3) << 48


def _calling(mode: Mode, code: str, *, cpl: int = 3, sce: bool = True) -> Processor:
    cpu = Processor(mode, code, cpl=cpl)
    cpu.assemble("hlt", at=layout.OTHER_CODE, bits=64)
    vs.msr_set_list(
        cpu.vsid,
        [
            (0xC000_0080, mode.efer | (Efer.SCE if sce else 0)),
            (_STAR, _SELECTORS),
            (_LSTAR, layout.OTHER_CODE),
            (_CSTAR, layout.OTHER_CODE + 1),
            (_SFMASK, Rflags.IF | Rflags.DF | Rflags.TF),
            (_SYSENTER_CS, layout.CODE32),
            (_SYSENTER_ESP, 0x7800),
            (_SYSENTER_EIP, layout.OTHER_CODE),
        ],
    )
    return cpu


def test_syscall_enters_ring_0_and_keeps_rip_and_rflags_in_registers() -> None:
    with _calling(LONG64, "syscall") as cpu:
        flags = Rflags.FIXED | Rflags.IF | Rflags.DF | Rflags.CF | Rflags.IOPL3
        cpu.set(rflags=flags)
        assert cpu.run_to_halt() == layout.OTHER_CODE
        assert cpu.get("rcx", "r11", "rsp") == [layout.CODE + 2, flags, layout.STACK_TOPS[3]]
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.CF | Rflags.IOPL3
        assert cpu.hidden("cs") == (layout.CODE64, 0xA09B, 0xFFFF_FFFF, 0)
        assert cpu.hidden("ss") == (layout.STACK64, 0xC093, 0xFFFF_FFFF, 0)


@pytest.mark.parametrize("mode", [LONG64, COMPAT32], ids=str)
@pytest.mark.parametrize("code", ["syscall", "sysret"])
def test_without_sce_they_are_undefined(mode: Mode, code: str) -> None:
    with _calling(mode, f".byte 0x0f, {5 if code == 'syscall' else 7}", cpl=0, sce=False) as cpu:
        assert cpu.run_to_trap().fault == _UD


@pytest.mark.parametrize("cpl", [1, 2, 3])
@pytest.mark.parametrize(
    ("mode", "code"), [(LONG64, "sysretq"), (PROTECTED32, ".byte 0x0f, 0x35")], ids=str
)
def test_the_returns_want_ring_0(mode: Mode, code: str, cpl: int) -> None:
    with _calling(mode, code, cpl=cpl) as cpu:
        assert cpu.run_to_trap().fault == _GP


def test_sysret_to_64_bit_code() -> None:
    with _calling(LONG64, "sysretq", cpl=0) as cpu:
        cpu.assemble("out 0x80, al", at=0xC100)
        cpu.set(
            rcx=0xC100, r11=int(Rflags.FIXED | Rflags.IOPL3 | Rflags.ZF | Rflags.RF | Rflags.VM)
        )
        cpu.run_to_out()
        assert cpu.reg("rip") == 0xC100
        # RF and VM are not loaded.
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.IOPL3 | Rflags.ZF
        assert cpu.hidden("cs") == (layout.CODE64_RING3, 0xA0FB, 0xFFFF_FFFF, 0)
        assert cpu.reg("ss_selector") == layout.DATA32_RING3
        assert cpu.reg("ss_attrib") >> 5 & 3 == 3


def test_sysret_to_compatibility_mode() -> None:
    with _calling(LONG64, ".byte 0x0f, 0x07", cpl=0) as cpu:
        cpu.assemble("out 0x80, al", at=0xC100)
        cpu.set(rcx=0x1234_0000_C100, r11=int(Rflags.FIXED | Rflags.IOPL3))
        cpu.run_to_out()
        assert cpu.reg("rip") == 0xC100
        assert cpu.hidden("cs") == (layout.CODE32_RING3, 0xC0FB, 0xFFFF_FFFF, 0)


def test_a_system_call_and_back() -> None:
    with _calling(LONG64, "mov eax, 5; syscall; mov ebx, eax; int 0x40") as cpu:
        cpu.assemble("add eax, 7; sysretq", at=layout.OTHER_CODE)
        trap = cpu.run_to_trap()
        assert (trap.vector, cpu.reg("rbx")) == (0x40, 12)
        assert (trap.cs, trap.ss) == (layout.CODE64_RING3, layout.DATA32_RING3)


@pytest.mark.parametrize("mode", [PROTECTED32, REAL], ids=str)
def test_sysenter_is_refused_without_a_code_segment_or_outside_protected_mode(mode: Mode) -> None:
    with _calling(mode, "sysenter", cpl=0) as cpu:
        vs.msr_set(cpu.vsid, _SYSENTER_CS, 0)
        trap = cpu.run_to_trap()
        assert trap.vector == 13
        assert trap.rip == layout.CODE


def test_sysenter_in_protected_mode() -> None:
    with _calling(PROTECTED32, "sysenter") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.IF | Rflags.CF)
        assert cpu.run_to_halt() == layout.OTHER_CODE
        assert cpu.reg("rsp") == 0x7800
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.CF
        assert cpu.hidden("cs") == (layout.CODE32, 0xC09B, 0xFFFF_FFFF, 0)
        assert cpu.hidden("ss") == (layout.CODE32 + 8, 0xC093, 0xFFFF_FFFF, 0)


def test_sysexit_in_protected_mode() -> None:
    with _calling(PROTECTED32, "sysexit", cpl=0) as cpu:
        cpu.assemble("out 0x80, al", at=0xC100)
        cpu.set(rdx=0xC100, rcx=0x9F00, rflags=Rflags.FIXED | Rflags.IOPL3)
        cpu.run_to_out()
        assert cpu.get("rip", "rsp") == [0xC100, 0x9F00]
        assert cpu.hidden("cs") == (layout.CODE32 + 16 | 3, 0xC0FB, 0xFFFF_FFFF, 0)
        assert cpu.hidden("ss") == (layout.CODE32 + 24 | 3, 0xC0F3, 0xFFFF_FFFF, 0)


_AMD: Final = (0x6874_7541, 0x444D_4163, 0x6974_6E65)
_INTEL: Final = (0x756E_6547, 0x6C65_746E, 0x4965_6E69)
"""EBX, ECX and EDX of CPUID leaf 0."""


def _as_vendor(cpu: Processor, vendor: tuple[int, int, int]) -> None:
    ebx, ecx, edx = vendor
    leaf = vs.cpuid_get(cpu.vsid, 0)
    vs.cpuid_set(cpu.vsid, CdlEntry(0, eax=leaf.eax, ebx=ebx, ecx=ecx, edx=edx))


def test_syscall_of_compatibility_mode_goes_to_cstar_on_amd_and_is_undefined_on_intel() -> None:
    with _calling(COMPAT32, ".byte 0x0f, 5") as cpu:
        cpu.load(layout.OTHER_CODE + 1, b"\xf4")
        _as_vendor(cpu, _AMD)
        assert cpu.run_to_halt() == layout.OTHER_CODE + 1
        assert cpu.reg("rcx") == layout.CODE + 2
        cpu.start()
        vs.msr_set(cpu.vsid, 0xC000_0080, COMPAT32.efer | Efer.SCE)
        _as_vendor(cpu, _INTEL)
        assert cpu.run_to_trap().fault == _UD


def test_sysenter_of_long_mode_is_undefined_on_amd_and_goes_to_64_bit_code_on_intel() -> None:
    with _calling(LONG64, "sysenter") as cpu:
        _as_vendor(cpu, _AMD)
        assert cpu.run_to_trap().fault == _UD
        cpu.start()
        _as_vendor(cpu, _INTEL)
        assert cpu.run_to_halt() == layout.OTHER_CODE
        assert cpu.hidden("cs") == (layout.CODE32, 0xA09B, 0xFFFF_FFFF, 0)


def test_sysret_to_a_non_canonical_address_faults_before_it_on_intel_behind_it_on_amd() -> None:
    with _calling(LONG64, "sysretq", cpl=0) as cpu:
        for vendor, rip, cs in (
            (_INTEL, layout.CODE, layout.CODE64),
            (_AMD, 1 << 47, layout.CODE64_RING3),
        ):
            cpu.start()
            vs.msr_set(cpu.vsid, 0xC000_0080, LONG64.efer | Efer.SCE)
            _as_vendor(cpu, vendor)
            cpu.set(rcx=1 << 47, r11=2)
            trap = cpu.run_to_trap()
            assert (trap.fault, trap.rip, trap.cs) == (_GP, rip, cs)
