"""A guest that starts in any mode and privilege level, and halts where an exception takes it.

Its GDT, IDT, TSS and page tables are those of `layout`, `descriptors`, `task_state` and
`page_tables`. Every vector has an interrupt gate to a HLT of its own in ring 0, so that the place
where the guest stands tells the vector, and its stack what was pushed.
"""

from dataclasses import dataclass
from struct import unpack_from
from typing import Final

from microv import abi_gen as mv
from microv.exits import Exit, IoDetails
from microv.ops import vs
from tests.assembler import assemble
from tests.guest import layout, task_state
from tests.guest.descriptors import (
    CODE_RX,
    DATA_RW,
    FLAT32,
    FLAT64,
    Size,
    System,
    Type,
    gate,
    segment,
    system,
)
from tests.guest.modes import EFER, Mode, Rflags
from tests.guest.page_tables import PageTables
from tests.hypercall.guest import Guest

REGISTERS: Final[dict[str, int]] = {
    name.removeprefix("mv_reg_t_"): number
    for name, number in vars(mv).items()
    if name.startswith("mv_reg_t_")
}
GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
UNUSABLE: Final = 0x1_0000

WITH_ERROR_CODE: Final = {8, 10, 11, 12, 13, 14, 17, 21}
_VECTORS: Final = 256


def vector_of(handler_rip: int) -> int:
    """The vector whose handler has halted at this RIP."""
    return handler_rip - 1 - layout.HANDLERS


@dataclass(frozen=True)
class Trap:
    """What a handler finds: the vector, and what the processor pushed.

    RSP and SS are None where they are not pushed, `v86_segments` (ES, DS, FS, GS) outside
    virtual-8086 mode.
    """

    vector: int
    error_code: int | None
    rip: int
    cs: int
    rflags: int
    rsp: int | None = None
    ss: int | None = None
    v86_segments: tuple[int, int, int, int] | None = None

    @property
    def fault(self) -> tuple[int, int | None]:
        """Vector and error code."""
        return self.vector, self.error_code


class Processor(Guest):
    """The VM, started in `mode` at privilege level `cpl` with the code at layout.CODE.

    RFLAGS is 2. Code is assembler text for the bits of the mode.
    """

    def __init__(self, mode: Mode, code: str = "hlt", *, cpl: int | None = None) -> None:
        super().__init__(memory=layout.MEMORY)
        self.mode = mode
        self.cpl = max(mode.code) if cpl is None and mode.v86 else cpl or 0
        self.tables = PageTables(mode.levels or 4)
        self.load(layout.HANDLERS, b"\xf4" * _VECTORS)
        self.load(layout.GDT, b"".join(_gdt(wide=mode.long)))
        self.load(layout.TSS, task_state.long_mode() if mode.long else task_state.protected())
        self.load(layout.PAGE_TABLES, self.tables.image())
        self._load_idt()
        self.assemble(code)
        self.start()

    def assemble(self, code: str, at: int = layout.CODE, bits: int | None = None) -> None:
        """Puts assembled code into memory."""
        self.load(at, assemble(code, bits=bits or self.mode.bits, origin=at))

    def refresh_tables(self) -> None:
        """Writes the page tables after a change of them; the next start() flushes the TLB."""
        self.load(layout.PAGE_TABLES, self.tables.image())

    def start(self) -> None:
        """Puts all registers but the vector ones into the state of the mode, RIP at CODE."""
        mode, cpl = self.mode, self.cpl
        vs.msr_set(self.vsid, EFER, mode.efer)
        self.set(
            cr0=mode.cr0,
            cr4=mode.cr4,
            cr3=layout.PAGE_TABLES,
            gdtr_base=layout.GDT,
            gdtr_limit=layout.GDT_ENTRIES * 8 - 1,
            idtr_base=layout.IDT if mode.protected else layout.IVT,
            idtr_limit=_VECTORS * (16 if mode.long else 8) - 1 if mode.protected else 0x3FF,
            rip=layout.CODE,
            rsp=layout.STACK_TOPS[cpl],
            rflags=Rflags.FIXED | (Rflags.VM if mode.v86 else 0),
            dr6=0xFFFF_0FF0,
            dr7=0x400,
            **dict.fromkeys(GENERAL, 0),
        )
        for name in SEGMENTS:
            self.set_segment(name, (mode.code if name == "cs" else mode.data)[cpl])
        if mode.protected:
            self.set_segment("tr", layout.TSS_SELECTOR)
            self.set_segment("ldtr", layout.LDT_SELECTOR)

    def set_segment(self, name: str, selector: int) -> None:
        """Loads a segment register from the GDT in memory, as real mode would outside of it."""
        real = not self.mode.protected or self.mode.v86
        if real and name not in ("tr", "ldtr"):
            attrib = 0xF3 if self.mode.v86 else 0x9B if name == "cs" else 0x93
            self.set_hidden(name, selector, attrib, 0xFFFF, selector << 4)
            return
        low = self.qword(layout.GDT + (selector & 0xFFF8))
        attrib = low >> 40 & 0xF0FF
        limit = low & 0xFFFF | low >> 32 & 0xF_0000
        if attrib & 0x8000:
            limit = limit << 12 | 0xFFF
        base = low >> 16 & 0xFF_FFFF | low >> 32 & 0xFF00_0000
        if name == "tr":
            attrib |= 2
        self.set_hidden(name, selector, attrib, limit, base)

    def set_hidden(self, name: str, selector: int, attrib: int, limit: int, base: int) -> None:
        """Sets all of a segment register."""
        self.set(
            **{
                f"{name}_selector": selector,
                f"{name}_attrib": attrib,
                f"{name}_limit": limit,
                f"{name}_base": base,
            }
        )

    def hidden(self, name: str) -> tuple[int, int, int, int]:
        """Selector, attributes, limit and base of a segment register."""
        fields = ("selector", "attrib", "limit", "base")
        selector, attrib, limit, base = self.get(*(f"{name}_{field}" for field in fields))
        return selector, attrib, limit, base

    def set(self, **values: int) -> None:
        """Sets registers by their names in mv_reg_t."""
        vs.reg_set_list(self.vsid, [(REGISTERS[name], value) for name, value in values.items()])

    def get(self, *names: str) -> list[int]:
        """Registers by their names in mv_reg_t."""
        return vs.reg_get_list(self.vsid, [REGISTERS[name] for name in names])

    def reg(self, name: str) -> int:
        """One register."""
        return vs.reg_get(self.vsid, REGISTERS[name])

    def put_descriptor(self, selector: int, descriptor: bytes) -> None:
        """Puts a descriptor into the GDT."""
        self.load(layout.GDT + (selector & 0xFFF8), descriptor)

    def put_gate(self, vector: int, descriptor: bytes) -> None:
        """Puts a gate into the IDT."""
        size = 16 if self.mode.long else 8
        self.load(layout.IDT + size * vector, descriptor.ljust(size, b"\0"))

    def run(self) -> Exit:
        """Runs to an exit."""
        return vs.run(self.vsid)

    def run_to_halt(self) -> int:
        """Runs to HLT; the address of that HLT."""
        exit_ = self.run()
        rip = self.reg("rip")
        assert exit_.reason == mv.mv_exit_reason_t_hlt, f"{exit_} at {rip:#x}"
        return rip - 1

    def run_to_out(self) -> IoDetails:
        """Runs to an OUT."""
        details = self.run().details
        assert isinstance(details, IoDetails), f"{details} at {self.reg('rip'):#x}"
        return details

    def run_to_trap(self, *, error_code: bool | None = None) -> Trap:
        """Runs until a handler halts. `error_code`: whether one is on its stack, by default
        where the vector is an exception that pushes one.
        """
        vector = self.run_to_halt() - layout.HANDLERS
        assert 0 <= vector < _VECTORS, f"halted at {vector + layout.HANDLERS:#x}"
        has_code = vector in WITH_ERROR_CODE if error_code is None else error_code
        return self.trap(vector, error_code=has_code and self.mode.protected)

    def trap(self, vector: int, *, error_code: bool) -> Trap:
        """What is on the stack of the handler that has halted."""
        size = 8 if self.mode.long else 4 if self.mode.protected else 2
        ss_base, rsp = self.get("ss_base", "rsp")
        words = self.words(ss_base + rsp if not self.mode.long else rsp, size, 10)
        code = words.pop(0) if error_code else None
        rip, cs, rflags, old_rsp, old_ss = words[:5]
        v86 = bool(rflags & Rflags.VM) and size == 4
        outer = v86 or (cs & 3) != (self.reg("cs_selector") & 3)
        if not self.mode.protected or not (outer or self.mode.long):
            return Trap(vector, code, rip, cs, rflags)
        es, ds, fs, gs = words[5:9]
        segments = (es, ds, fs, gs) if v86 else None
        return Trap(vector, code, rip, cs, rflags, old_rsp, old_ss, segments)

    def resume(self, trap: Trap) -> None:
        """Puts back what a handler's IRET would, for the next run."""
        frame = (5 if self.mode.long else 3) * (8 if self.mode.long else 4)
        code = 0 if trap.error_code is None else frame // (5 if self.mode.long else 3)
        rsp = self.reg("rsp") + frame + code if trap.rsp is None else trap.rsp
        self.set(rip=trap.rip, rflags=trap.rflags, rsp=rsp)
        self.set_segment("cs", trap.cs)
        if trap.ss is not None:
            self.set_segment("ss", trap.ss)

    def words(self, gpa: int, size_bytes: int, count: int) -> list[int]:
        """Little-endian words in memory; zeros behind its end."""
        raw = bytes(self.memory[gpa : gpa + size_bytes * count]).ljust(size_bytes * count, b"\0")
        code = {2: "H", 4: "I", 8: "Q"}[size_bytes]
        return list(unpack_from(f"<{count}{code}", raw))

    def qword(self, gpa: int) -> int:
        """Eight bytes of memory."""
        return int.from_bytes(self.memory[gpa : gpa + 8], "little")

    def _load_idt(self) -> None:
        mode = self.mode
        if not mode.protected:
            for vector in range(_VECTORS):
                self.load(layout.IVT + 4 * vector, (layout.HANDLERS + vector).to_bytes(4, "little"))
            return
        code = layout.CODE64 if mode.long else layout.CODE32
        for vector in range(_VECTORS):
            self.put_gate(
                vector,
                gate(
                    System.INTERRUPT_GATE,
                    code,
                    layout.HANDLERS + vector,
                    dpl=3,
                    wide=mode.long,
                ),
            )


def _gdt(*, wide: bool) -> list[bytes]:
    """All descriptors, eight bytes each."""
    bits16 = Size.BITS16
    conforming = CODE_RX | Type.CONFORMING
    table = {
        layout.CODE32: segment(CODE_RX),
        layout.DATA32: segment(DATA_RW),
        layout.CODE64: segment(CODE_RX, FLAT64),
        layout.STACK64: segment(DATA_RW),
        layout.CODE16: segment(CODE_RX, bits16, limit=0xFFFF),
        layout.CODE32_RING3: segment(CODE_RX, dpl=3),
        layout.DATA32_RING3: segment(DATA_RW, dpl=3),
        layout.CODE64_RING3: segment(CODE_RX, FLAT64, dpl=3),
        layout.CODE16_RING3: segment(CODE_RX, bits16, dpl=3, limit=0xFFFF),
        layout.DATA16: segment(DATA_RW, bits16, limit=0xFFFF),
        layout.DATA16_RING3: segment(DATA_RW, bits16, dpl=3, limit=0xFFFF),
        layout.CODE32_CONFORMING: segment(conforming, FLAT32),
        layout.CODE64_CONFORMING: segment(conforming, FLAT64),
        layout.CODE32_RING1: segment(CODE_RX, dpl=1),
        layout.DATA32_RING1: segment(DATA_RW, dpl=1),
        layout.CODE32_RING2: segment(CODE_RX, dpl=2),
        layout.DATA32_RING2: segment(DATA_RW, dpl=2),
        layout.CODE64_RING1: segment(CODE_RX, FLAT64, dpl=1),
        layout.CODE64_RING2: segment(CODE_RX, FLAT64, dpl=2),
        layout.CODE32_CONFORMING_RING1: segment(conforming, FLAT32, dpl=1),
        layout.TSS_SELECTOR: system(System.TSS, layout.TSS, task_state.TSS32_SIZE - 1, wide=wide),
        layout.LDT_SELECTOR: system(System.LDT, layout.LDT, 0x7FF, wide=wide),
    }
    entries = [bytes(8)] * layout.GDT_ENTRIES
    for selector, descriptor in table.items():
        for part in range(0, len(descriptor), 8):
            entries[(selector >> 3) + part // 8] = descriptor[part : part + 8]
    return entries
