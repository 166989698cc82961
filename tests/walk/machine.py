"""A vCPU with the tables of a world and the program of the walk tests, started by its registers."""

import mmap
from struct import pack_into
from types import TracebackType
from typing import Final, Self

from microv import abi_gen as mv
from microv import engine_ffi
from microv.cdl import CdlEntry
from microv.ops import vm, vs
from tests.guest.descriptors import CODE_RX, DATA_RW, FLAT64, System, gate, segment, system
from tests.guest.modes import EFER
from tests.hypercall.guest import RWX, Guest
from tests.walk import layout, program
from tests.walk.control import Control
from tests.walk.model import PAGE
from tests.walk.program import RECORD, Handler
from tests.walk.tables import World

_UNUSABLE: Final = 0x1_0000
_VECTORS: Final = 0x81
_TSS_SIZE: Final = 104
_GATES: Final = {
    3: (Handler.BREAKPOINT, 3),
    13: (Handler.PROTECTION, 0),
    14: (Handler.PAGE_FAULT, 0),
    0x80: (Handler.SYSTEM_CALL, 3),
}
_INTEL: Final = b"GenuineIntel"
_AMD: Final = b"AuthenticAMD"
_PAGES_1G: Final = 1 << 26
_PKU: Final = 1 << 3


class Machine(Guest):
    """Holds the memory of a world, until closed."""

    def __init__(self, world: World, control: Control) -> None:
        super().__init__(memory=layout.MEMORY)
        self._wide = world.mode.long
        self._far = {window: mmap.mmap(-1, layout.DATA_PAGES * PAGE) for window in layout.DATA[1:]}
        for window, memory in self._far.items():
            vm.mmio_map(self.vmid, [(window, engine_ffi.address_of(memory), len(memory), RWX)])
        for gpa, page in world.memory.pages.items():
            self._page(gpa)[:] = page
        self._load_program()
        vs.cpuid_set_list(self.vsid, _cpuid(world, vs.cpuid_get_list(self.vsid)))
        self._start(control)

    def page(self, gpa: int) -> bytes:
        """The present contents of a page."""
        return bytes(self._page(gpa))

    def _page(self, gpa: int) -> memoryview:
        for window, memory in self._far.items():
            if window <= gpa < window + len(memory):
                return memoryview(memory)[gpa - window : gpa - window + PAGE]
        return memoryview(self.memory)[gpa : gpa + PAGE]

    def run(self, records: bytes) -> bytes:
        """Lets the program work through records; the records as it left them.

        Raises RuntimeError where it does not reach its end.
        """
        self.load(layout.RECORDS, records)
        self._set(rip=layout.CODE, rsi=layout.RECORDS)
        exit_ = vs.run(self.vsid)
        rip = vs.reg_get(self.vsid, mv.mv_reg_t_rip)
        unexpected = layout.CODE + Handler.UNEXPECTED
        if exit_.reason != mv.mv_exit_reason_t_hlt or rip > unexpected:
            at = vs.reg_get(self.vsid, mv.mv_reg_t_rsi) - layout.RECORDS
            raise RuntimeError(f"{exit_} at {rip:#x}, record {at // RECORD}")
        return bytes(self.memory[layout.RECORDS : layout.RECORDS + len(records)])

    def _load_program(self) -> None:
        bits = 64 if self._wide else 32
        self.load(layout.CODE, program.kernel(bits))
        self.load(layout.USER_CODE, program.user(bits))
        tables = {
            layout.CODE32: segment(CODE_RX),
            layout.DATA32: segment(DATA_RW),
            layout.CODE64: segment(CODE_RX, FLAT64),
            layout.CODE32_USER: segment(CODE_RX, dpl=3),
            layout.CODE64_USER: segment(CODE_RX, FLAT64, dpl=3),
            layout.DATA_USER: segment(DATA_RW, dpl=3),
            layout.LDT_SELECTOR: system(System.LDT, 0, 7, wide=self._wide),
        }
        for selector, descriptor in tables.items():
            self.load(layout.GDT + (selector & -8), descriptor)
        size = 16 if self._wide else 8
        for vector in range(_VECTORS):
            handler, dpl = _GATES.get(vector, (Handler.UNEXPECTED, 0))
            selector = layout.CODE64 if self._wide else layout.CODE32
            offset = layout.CODE + handler
            descriptor = gate(System.INTERRUPT_GATE, selector, offset, dpl=dpl, wide=self._wide)
            self.load(layout.IDT + vector * size, descriptor)
        task = bytearray(_TSS_SIZE)
        pack_into("<QI", task, 4, layout.STACK, 0)
        if not self._wide:
            pack_into("<II", task, 4, layout.STACK, layout.DATA32)
        self.load(layout.TSS, bytes(task))

    def _start(self, control: Control) -> None:
        vs.msr_set(self.vsid, EFER, control.efer)
        code = layout.CODE64 if self._wide else layout.CODE32
        self._set(
            cr0=control.cr0,
            cr4=control.cr4,
            cr3=control.cr3,
            gdtr_base=layout.GDT,
            gdtr_limit=layout.GDT_LIMIT,
            idtr_base=layout.IDT,
            idtr_limit=_VECTORS * (16 if self._wide else 8) - 1,
            rflags=2,
            rbp=control.cr4,
        )
        self._segment("cs", code, 0xA09B if self._wide else 0xC09B, 0, 0xFFFF_FFFF)
        self._segment("ss", layout.DATA32, 0xC093, 0, 0xFFFF_FFFF)
        for name in ("ds", "es"):
            # A return to user code would take segments of the kernel away.
            self._segment(name, layout.DATA_USER, 0xC0F3, 0, 0xFFFF_FFFF)
        for name in ("fs", "gs", "ldtr"):
            self._segment(name, 0, _UNUSABLE, 0, 0)
        self._segment("tr", layout.TSS_SELECTOR, 0x8B, layout.TSS, _TSS_SIZE - 1)

    def _segment(self, name: str, selector: int, attrib: int, base: int, limit: int) -> None:
        values = {"selector": selector, "attrib": attrib, "base": base, "limit": limit}
        self._set(**{f"{name}_{field}": value for field, value in values.items()})

    def _set(self, **values: int) -> None:
        numbers = vars(mv)
        pairs = [(numbers[f"mv_reg_t_{name}"], value) for name, value in values.items()]
        vs.reg_set_list(self.vsid, pairs)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)

    def __enter__(self) -> Self:
        return self


def _cpuid(world: World, table: list[CdlEntry]) -> list[CdlEntry]:
    """The engine's own table, as the processor of the world has it."""
    return [_leaf(world, entry) for entry in table]


def _leaf(world: World, entry: CdlEntry) -> CdlEntry:
    fields = {"eax": entry.eax, "ebx": entry.ebx, "ecx": entry.ecx, "edx": entry.edx}
    if entry.function in (0, 0x8000_0000):
        name = _INTEL if world.intel else _AMD
        for register, at in (("ebx", 0), ("edx", 4), ("ecx", 8)):
            fields[register] = int.from_bytes(name[at : at + 4], "little")
    if (entry.function, entry.index) == (7, 0):
        fields["ecx"] |= _PKU
    if entry.function == 0x8000_0001 and not world.pages_1g:
        fields["edx"] &= ~_PAGES_1G
    if entry.function == 0x8000_0008:
        fields["eax"] = fields["eax"] & ~0xFF | world.physical_bits
    return CdlEntry(entry.function, entry.index, entry.flags, **fields)
