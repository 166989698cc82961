"""Control registers of a world: which values it runs with, and what they mean to the model."""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from tests.guest.modes import Cr0, Cr4, Efer
from tests.walk.model import Memory, Mode, Registers
from tests.walk.tables import World

_PKE: Final = 1 << 22
_KEEP: Final = 1 << 63
_OFTEN: Final = 0.7


@dataclass(frozen=True)
class Control:
    """Values for CR0, CR3, CR4 and EFER."""

    cr0: int
    cr3: int
    cr4: int
    efer: int

    def __str__(self) -> str:
        return f"CR0 {self.cr0:#x} CR3 {self.cr3:#x} CR4 {self.cr4:#x} EFER {self.efer:#x}"


def initial(world: World, random: Random) -> Control:
    """Registers that a world starts with. PCIDE stays as it is."""
    cr4 = Cr4.PAE if world.mode is not Mode.LEGACY else 0
    efer = 0
    if world.mode.long:
        efer = Efer.LME | Efer.LMA
        cr4 |= Cr4.PCIDE if random.random() < 0.6 else 0
    if world.mode is Mode.LEVEL5:
        cr4 |= Cr4.LA57
    fixed = Control(Cr0.PE | Cr0.ET | Cr0.NE | Cr0.PG, world.roots[0], cr4, efer)
    started = changed(world, fixed, random)
    return replace(started, cr3=started.cr3 & ~_KEEP)


def changed(world: World, control: Control, random: Random) -> Control:
    """The same with other protection bits, and maybe another root.

    A root belongs to a process-context identifier: the model has no TLB, so no identifier may have
    two. Global pages are in all address spaces, so there are none with several roots.
    """

    def sometimes(bits: int) -> int:
        return bits if random.random() < _OFTEN else 0

    toggled = Cr4.PSE | Cr4.PGE | Cr4.SMEP | Cr4.SMAP | _PKE
    cr4 = control.cr4 & ~int(toggled)
    cr4 |= sometimes(Cr4.PSE) | sometimes(Cr4.SMEP) | sometimes(Cr4.SMAP)
    cr4 |= sometimes(_PKE) if world.mode.long else 0
    cr4 |= 0 if world.many_roots else sometimes(Cr4.PGE)
    number = random.randrange(len(world.roots))
    cr3 = world.roots[number]
    if control.cr4 & Cr4.PCIDE:
        pcid = number + 1 if world.many_roots else random.choice((0, 1, 0xABC, 0xFFF))
        cr3 |= pcid | (_KEEP if random.random() < 0.5 else 0)
    return Control(
        control.cr0 & ~int(Cr0.WP) | sometimes(Cr0.WP),
        cr3,
        cr4,
        control.efer & ~int(Efer.NXE) | sometimes(Efer.NXE),
    )


def registers(world: World, control: Control, pkru: int, memory: Memory) -> Registers:
    """What the model wants to know."""
    root = control.cr3 & (0xFFFF_FFE0 if world.mode is Mode.PAE else 0xF_FFFF_FFFF_F000)
    pdptes = None
    if world.mode is Mode.PAE and world.intel:
        pdptes = tuple(memory.read(root + 8 * number, 8) or 0 for number in range(4))
    return Registers(
        mode=world.mode,
        root=root,
        physical_bits=world.physical_bits,
        pages_1g=world.pages_1g,
        pdptes=pdptes,
        wp=bool(control.cr0 & Cr0.WP),
        pse=bool(control.cr4 & Cr4.PSE),
        smep=bool(control.cr4 & Cr4.SMEP),
        smap=bool(control.cr4 & Cr4.SMAP),
        pke=bool(control.cr4 & _PKE),
        nxe=bool(control.efer & Efer.NXE) and world.mode is not Mode.LEGACY,
        pkru=pkru,
    )
