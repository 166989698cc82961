"""Interrupt controllers and timer of a VM: the part of mv_vm_op that MicroV leaves to come.

Every call raises INVALID_INPUT_REG1 where the ID names no guest VM, and FAILURE_UNKNOWN where the
VM has not what the call is about.
"""

from collections.abc import Sequence
from typing import Final

from microv import abi_gen as mv
from microv.call import with_handle
from microv.shared_page import shared_page

_OP: Final = mv.MV_VM_OP_VAL

Chip = mv.mv_pic_t | mv.mv_ioapic_t


def irqchip_create(vmid: int, *, split_pins: int | None = None) -> None:
    """8259A pair, I/O APIC and local APICs; with `split_pins` local APICs only.

    `split_pins`, up to MV_GSI_MAX, is how many lines are those of an I/O APIC elsewhere.
    FAILURE_UNKNOWN: the VM has controllers, or a VP.
    """
    model = mv.MV_IRQCHIP_FULL if split_pins is None else mv.MV_IRQCHIP_SPLIT
    with_handle(_OP | mv.MV_VM_OP_IRQCHIP_CREATE_IDX_VAL, vmid, model, split_pins or 0)


def irq_line(vmid: int, gsi: int, *, high: bool, resampled: bool = False) -> int | None:
    """Drives a line. How many interrupts were raised; None: masked, or it leads nowhere."""
    flags = mv.MV_IRQ_LEVEL * high | mv.MV_IRQ_RESAMPLED * resampled
    raised = with_handle(_OP | mv.MV_VM_OP_IRQ_LINE_IDX_VAL, vmid, gsi, flags)
    return None if raised == mv.MV_IRQ_IGNORED else raised


def signal_msi(vmid: int, address: int, data: int) -> int | None:
    """Delivers a message; as `irq_line`."""
    raised = with_handle(_OP | mv.MV_VM_OP_SIGNAL_MSI_IDX_VAL, vmid, address, data)
    return None if raised == mv.MV_IRQ_IGNORED else raised


def x2apic_format_set(vmid: int, *, wide_ids: bool, byte_broadcast: bool) -> None:
    """How messages of devices name local APICs in x2APIC mode.

    `wide_ids`: by 32 bits. `byte_broadcast`: destination 0xFF means all.
    """
    flags = mv.MV_X2APIC_WIDE_IDS * wide_ids
    flags |= mv.MV_X2APIC_NO_BYTE_BROADCAST * (not byte_broadcast)
    with_handle(_OP | mv.MV_VM_OP_X2APIC_FORMAT_SET_IDX_VAL, vmid, flags)


def gsi_list_set(vmid: int, entries: Sequence[mv.mv_gsi_entry_t]) -> None:
    """Replaces where lines lead. FAILURE_UNKNOWN: an entry cannot be; the old table stays."""
    size = mv.MV_GSI_LIST_MAX_ENTRIES
    starts = range(0, max(len(entries), 1), size)
    for start in starts:
        part = entries[start : start + size]
        page = mv.mv_gsi_list_t(num_entries=len(part))
        page.entries[: len(part)] = list(part)
        first = mv.MV_GSI_LIST_FIRST * (start == 0)
        last = mv.MV_GSI_LIST_LAST * (start == starts[-1])
        shared_page().write(page)
        with_handle(_OP | mv.MV_VM_OP_GSI_LIST_SET_IDX_VAL, vmid, first | last)


def chip_get(vmid: int, chip: int) -> Chip:
    """Registers of a chip (MV_CHIP_*)."""
    page = shared_page()
    with_handle(_OP | mv.MV_VM_OP_CHIP_GET_IDX_VAL, vmid, chip)
    return page.read(mv.mv_ioapic_t) if chip == mv.MV_CHIP_IOAPIC else page.read(mv.mv_pic_t)


def chip_set(vmid: int, chip: int, registers: Chip) -> None:
    """Replaces the registers of a chip (MV_CHIP_*); what is pending in them is raised."""
    shared_page().write(registers)
    with_handle(_OP | mv.MV_VM_OP_CHIP_SET_IDX_VAL, vmid, chip)


def pit_create(vmid: int, *, speaker: bool) -> None:
    """A timer. FAILURE_UNKNOWN: no full set of controllers, or there is a timer."""
    with_handle(_OP | mv.MV_VM_OP_PIT_CREATE_IDX_VAL, vmid, mv.MV_PIT_SPEAKER * speaker)


def pit_get(vmid: int) -> mv.mv_pit_t:
    """Registers of the timer."""
    page = shared_page()
    with_handle(_OP | mv.MV_VM_OP_PIT_GET_IDX_VAL, vmid)
    return page.read(mv.mv_pit_t)


def pit_set(vmid: int, registers: mv.mv_pit_t) -> None:
    """Replaces the registers of the timer; counting starts anew."""
    shared_page().write(registers)
    with_handle(_OP | mv.MV_VM_OP_PIT_SET_IDX_VAL, vmid)


def pit_reinject(vmid: int, *, reinject: bool) -> None:
    """Whether ticks that come too early are kept until they can be raised."""
    with_handle(_OP | mv.MV_VM_OP_PIT_REINJECT_IDX_VAL, vmid, int(reinject))


def lines_ended(vmid: int) -> list[int]:
    """Lines driven `resampled` whose interrupts have ended since the last call."""
    page = shared_page()
    with_handle(_OP | mv.MV_VM_OP_LINES_ENDED_IDX_VAL, vmid)
    ended = page.read(mv.mv_line_list_t)
    return list(ended.lines[: ended.num_entries])
