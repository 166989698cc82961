"""Which bytes of an executable file are CPUID instructions.

Law: a byte that is not the start of one is never named; a missed one is the lesser evil. Every
0F A2 in an executable segment is a candidate and is one if
(1) the code that the unwind table says surrounds it leads there, following branches from its entry;
(2) else, decoding the function from its start meets it, and what runs on into it loads EAX: cases
    of a switch and the parts that compilers split off are entered where no branch can be seen;
(3) where no function is known (assembly without unwind information), decoding from many places
    before it always meets it, with the same about EAX.

Not found: instructions in 32-bit code, and with prefixes, which they never have.
"""

from collections.abc import Iterator
from typing import Final

from iced_x86 import (
    Code,
    Decoder,
    FlowControl,
    Instruction,
    InstructionInfoFactory,
    OpAccess,
    Register,
)

from kvmshim.client.cpuid_instruction import CPUID
from kvmshim.client.elf import Elf, Image, Part
from kvmshim.client.functions import FunctionTable

_BITS: Final = 64
_SYNC_DISTANCES: Final = range(40, 72)
_MAX_INSTRUCTIONS: Final = 50_000
_ENDS_OF_FLOW: Final = frozenset(
    {FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH, FlowControl.RETURN}
)
_BRANCHES: Final = frozenset({FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH})
_TRAPS: Final = frozenset({Code.INT3, Code.UD2, Code.HLT})
_EAX: Final = frozenset({Register.EAX, Register.RAX})
_WRITES: Final = frozenset({OpAccess.WRITE, OpAccess.READ_WRITE})


def cpuid_sites(image: Image) -> list[int]:
    """File offsets of the CPUID instructions of a 64-bit ELF file. ElfError."""
    elf = Elf(image)
    functions = FunctionTable(elf)
    return [
        offset
        for part in elf.code()
        for offset in _candidates(image, part)
        if _is_instruction(_Code(image, part), functions, part.address + offset - part.offset)
    ]


def _candidates(image: Image, part: Part) -> Iterator[int]:
    end = part.offset + part.size
    at = image.find(CPUID, part.offset, end)
    while at >= 0:
        yield at
        at = image.find(CPUID, at + 1, end)


class _Code:
    """A segment to decode from."""

    def __init__(self, image: Image, part: Part) -> None:
        self._image = image
        self._part = part

    def decode(self, start: int, end: int) -> Iterator[Instruction]:
        """From one address up to another or the first byte that is no instruction."""
        start, end = max(start, self._part.address), min(end, self._part.address + self._part.size)
        shift = self._part.offset - self._part.address
        decoder = Decoder(_BITS, bytes(self._image[start + shift : end + shift]), ip=start)
        for instruction in decoder:
            if instruction.is_invalid:
                return
            yield instruction


def _is_instruction(code: _Code, functions: FunctionTable, at: int) -> bool:
    function = functions.around(at)
    if function is None:
        return _is_met_from_anywhere(code, at)
    return _is_reached(code, function, at) or _loads_eax(_run_into(code, function.start, at))


def _is_reached(code: _Code, function: range, at: int) -> bool:
    """(1): at the end of a way through the function."""
    entries, seen = [function.start], set[int]()
    while entries and len(seen) < _MAX_INSTRUCTIONS:
        for instruction in code.decode(entries.pop(), function.stop):
            if instruction.ip in seen:
                break
            if instruction.ip == at:
                return True
            seen.add(instruction.ip)
            if instruction.flow_control in _BRANCHES:
                entries.append(instruction.near_branch_target)
            if _ends_flow(instruction):
                break
        entries = [entry for entry in entries if entry in function and entry not in seen]
    return False


def _is_met_from_anywhere(code: _Code, at: int) -> bool:
    """(3): the starts that decode to the end agree, and there are some."""
    runs = [_run_into(code, at - distance, at) for distance in _SYNC_DISTANCES]
    return all(_loads_eax(run) for run in runs)


def _run_into(code: _Code, start: int, at: int) -> list[Instruction]:
    """The instructions that lead on to the one at `at`, itself included, without a gap; empty:
    none is at `at`."""
    run: list[Instruction] = []
    for instruction in code.decode(start, at + len(CPUID)):
        run.append(instruction)
        if instruction.ip >= at:
            break
        if _ends_flow(instruction):
            run.clear()
    return run if run and run[-1].ip == at else []


def _loads_eax(run: list[Instruction]) -> bool:
    """Whether a run is likely to ask for a leaf: small numbers in a table are no such code."""
    usage = InstructionInfoFactory()
    before = [instruction for instruction in run[:-1] if instruction.code != Code.CPUID]
    return not any(_is_zeros(instruction) for instruction in before) and any(
        used.register in _EAX and used.access in _WRITES
        for instruction in before
        for used in usage.info(instruction).used_registers()
    )


def _is_zeros(instruction: Instruction) -> bool:
    """ADD [RAX], AL: what zero bytes decode to."""
    return (
        instruction.code == Code.ADD_RM8_R8
        and instruction.memory_base == Register.RAX
        and instruction.op1_register == Register.AL
    )


def _ends_flow(instruction: Instruction) -> bool:
    return instruction.flow_control in _ENDS_OF_FLOW or instruction.code in _TRAPS
