"""Changes of paging structures that the guest makes, and how it has translations forgotten.

SDM volume 3, "Invalidation of TLBs and Paging-Structure Caches". The model has no TLB, so what is
forgotten must be all that a change concerns: everything, or one page that alone is used before
everything is forgotten.
"""

from dataclasses import dataclass
from struct import pack_into
from typing import Final

from tests.guest.modes import Cr4
from tests.walk.control import Control
from tests.walk.model import PAGE, Step
from tests.walk.program import Action, Field, Forget
from tests.walk.tables import World, entry

_LEVEL: Final = {"PTE": 0, "PDE": 1, "PDPTE": 2, "PML4E": 3, "PML5E": 4}


@dataclass(frozen=True)
class Edit:
    """A new value for an entry, and what is forgotten: of `gla` and `pcid`, where it matters."""

    gpa: int
    width: int
    value: int
    forget: Forget
    pcid: int
    gla: int

    def record(self, into: bytearray, at: int) -> None:
        """The record that has the program do it."""
        wide = self.width == 8
        pack_into("<5Q", into, at, self.gpa, self.value, Action.EDIT, self.forget, wide)
        pack_into("<2Q", into, at + Field.PCID, self.pcid, self.gla)


def of_step(world: World, step: Step) -> int | None:
    """A new value for an entry, unless the guest's own pages hang on it."""
    if step.gpa & -PAGE in world.own or step.gpa & PAGE - 1 < step.width:
        return None
    if step.gpa & -PAGE not in world.tables:
        return None
    level = _LEVEL[step.name]
    below = world.pools[level - 1] if level else []
    return entry(world, level, below)


def everything(world: World, control: Control) -> Forget:
    """A way to forget all that may be cached."""
    ways = [Forget.INVPCID_ALL, Forget.PGE]
    if not control.cr4 & Cr4.PGE:
        ways.append(Forget.INVPCID_NON_GLOBAL)
        if not control.cr4 & Cr4.PCIDE:
            ways += [Forget.INVPCID_CONTEXT, Forget.CR3]
    return world.random.choice(ways)


def one_page(world: World, control: Control) -> tuple[Forget, int]:
    """A way to forget one page of the present identifier, and that identifier.

    INVPCID may leave a global page.
    """
    if control.cr4 & Cr4.PGE or world.random.random() < 0.5:
        return Forget.INVLPG, 0
    return Forget.INVPCID_ADDRESS, control.cr3 & 0xFFF if control.cr4 & Cr4.PCIDE else 0
