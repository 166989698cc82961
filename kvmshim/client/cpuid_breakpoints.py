"""CPUID caught by breakpoints, for hosts whose processor cannot make it fault.

The first byte of every CPUID instruction becomes INT3 (SDM volume 2), in the process's own copy of
the page. Which ones there are is known when a program starts and each time its dynamic linker says
that it loaded something; both before the new code runs, but for what relocations execute
(resolvers of IFUNC).

What a program can notice: the changed byte, if it reads its own code, and that SIGTRAP is not
blocked any more where it was, as the kernel does with signals of instructions (where all such
signals are blocked, the mask is repaired; a handler of SIGTRAP is lost if that was blocked).
Not caught: code that is not in an ELF file or not loaded by the dynamic linker, 32-bit programs.
"""

import logging
import signal
import struct
from dataclasses import dataclass, field
from typing import Final

from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.code_files import CodeFiles
from kvmshim.client.cpuid_emulator import CpuidEmulator
from kvmshim.client.cpuid_instruction import CPUID
from kvmshim.client.maps import Mapping, parse_maps
from kvmshim.client.memory import read_available, read_exactly
from kvmshim.client.process import Process
from kvmshim.client.threads import Tracee

log = logging.getLogger(__name__)

_INT3: Final = 0xCC
_CAUGHT: Final = bytes([_INT3, CPUID[1]])
_RET: Final = 0xC3
_ENDBR64: Final = b"\xf3\x0f\x1e\xfa"
_PROT_EXEC: Final = 4
_AT_BASE: Final = 7
_SIGTRAP_BIT: Final = 1 << (signal.SIGTRAP - 1)
_FAULTS: Final = sum(
    1 << (number - 1)
    for number in (signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS)
)


@dataclass(slots=True)
class _Space:
    """What is changed in one address space: the byte that was there, by address."""

    sites: dict[int, int] = field(default_factory=dict)
    loader_notice: int = 0  # address of the dynamic linker's function for debuggers, or 0


class Breakpoints:
    """Implements `CpuidCatcher`."""

    def __init__(self, emulator: CpuidEmulator) -> None:
        self._emulator = emulator
        self._files = CodeFiles()
        self._spaces: dict[int, _Space] = {}

    def executed(self, process: Process) -> bool:
        self._begin(process, process.tgid)
        return False

    def enter(self, process: Process, tracee: Tracee) -> None:
        """Never wanted."""

    def forked(self, parent: int, child: int, *, shares_memory: bool) -> None:
        space = self._spaces.get(parent)
        if space is None:
            return
        copy = _Space(dict(space.sites), space.loader_notice)
        self._spaces[child] = space if shares_memory else copy

    def met(self, process: Process, tid: int) -> None:
        if process.tgid not in self._spaces:
            self._begin(process, tid)

    def signalled(self, process: Process, tid: int, number: int) -> int:
        if number != signal.SIGTRAP or not self.is_caught(process, tid):
            return number
        space = self._spaces[process.tgid]
        registers = ptrace.get_registers(tid)
        by_instruction = ptrace.signal_code(tid) == ptrace.SI_KERNEL
        address = registers.rip - 1
        if address == space.loader_notice:
            self._look_through(process, tid, space)
            registers = _after_first_instruction(tid, registers, space.sites[address])
        else:
            registers = self._emulator.executed(tid, registers, address + len(CPUID))
        ptrace.set_registers(tid, registers)
        if not by_instruction:
            return number  # somebody else's, taken here by chance
        _repair_mask(tid)
        return 0

    def is_caught(self, process: Process, tid: int) -> bool:
        space = self._spaces.get(process.tgid)
        return space is not None and ptrace.get_registers(tid).rip - 1 in space.sites

    def withdraw(self, process: Process, tracees: list[Tracee]) -> None:
        space = self._spaces.pop(process.tgid, _Space())
        tid = tracees[0].tid
        for address, byte in space.sites.items():
            if read_available(tid, address, 1) == bytes([_INT3]):
                ptrace.store_code(tid, address, byte)

    def gone(self, tgid: int) -> None:
        self._spaces.pop(tgid, None)

    def close(self) -> None:
        self._files.close()

    def _begin(self, process: Process, tid: int) -> None:
        space = self._spaces[process.tgid] = _Space()
        self._look_through(process, tid, space)
        self._watch_loader(process, tid, space)

    def _look_through(self, process: Process, tid: int, space: _Space) -> None:
        """Sets the breakpoints that are not there yet."""
        for mapping in _code_mappings(process):
            for offset in self._files.behind(process.tgid, mapping).sites:
                if 0 <= offset - mapping.offset < mapping.size:
                    self._catch(tid, mapping.start + offset - mapping.offset, space)

    def _catch(self, tid: int, address: int, space: _Space) -> None:
        found = read_available(tid, address, len(CPUID))
        if found == CPUID:
            ptrace.store_code(tid, address, _INT3)
        if found in (CPUID, _CAUGHT):
            space.sites[address] = CPUID[0]

    def _watch_loader(self, process: Process, tid: int, space: _Space) -> None:
        address = self._loader_notice(process)
        if not address:
            return
        first = read_exactly(tid, address, len(_ENDBR64))
        if first[0] == _INT3:  # met: a copy of a program that we had looked through
            first = _ENDBR64 if first[1:] == _ENDBR64[1:] else bytes([_RET])
        if first != _ENDBR64 and first[0] != _RET:
            log.debug("unknown dynamic linker: its notice begins with %s", first.hex())
            return
        ptrace.store_code(tid, address, _INT3)
        space.sites[address] = first[0]
        space.loader_notice = address

    def _loader_notice(self, process: Process) -> int:
        base = _auxiliary(process, _AT_BASE)
        mappings = parse_maps(process.read("maps").decode(errors="replace"))
        loader = next((it for it in mappings if it.start == base), None)
        for mapping in mappings:
            if not _is_code(mapping) or (loader and mapping.inode != loader.inode):
                continue
            offset = self._files.behind(process.tgid, mapping).loader_notice
            if offset is not None and 0 <= offset - mapping.offset < mapping.size:
                return mapping.start + offset - mapping.offset
        return 0


def _code_mappings(process: Process) -> list[Mapping]:
    mappings = parse_maps(process.read("maps").decode(errors="replace"))
    return [mapping for mapping in mappings if _is_code(mapping)]


def _is_code(mapping: Mapping) -> bool:
    # In a shared mapping the file itself would change.
    return bool(mapping.inode and mapping.protection & _PROT_EXEC and not mapping.shared)


def _auxiliary(process: Process, wanted: int) -> int:
    vector = process.read("auxv")
    for key, value in struct.iter_unpack("<QQ", vector[: len(vector) // 16 * 16]):
        if key == wanted:
            return int(value)
    return 0


def _after_first_instruction(tid: int, registers: ptrace.Registers, byte: int) -> ptrace.Registers:
    """The registers after RET or ENDBR64, of which the breakpoint replaced the first byte."""
    if byte == _RET:
        (target,) = struct.unpack("<Q", read_exactly(tid, registers.rsp, 8))
        return registers._replace(rip=target, rsp=registers.rsp + 8)
    return registers._replace(rip=registers.rip - 1 + len(_ENDBR64))


def _repair_mask(tid: int) -> None:
    """Blocks SIGTRAP again where it must have been: the kernel unblocks what it forces."""
    mask = ptrace.get_signal_mask(tid)
    if mask & _FAULTS == _FAULTS and not mask & _SIGTRAP_BIT:
        ptrace.set_signal_mask(tid, mask | _SIGTRAP_BIT)
