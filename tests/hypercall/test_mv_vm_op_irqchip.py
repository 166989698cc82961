"""mv_vm_op_irqchip_create, irq_line, gsi_list_set, signal_msi, chip_get and chip_set."""

from collections.abc import Callable
from typing import Any

import pytest

from microv import abi_gen as mv
from microv.call import with_handle
from microv.ops import irqchip, vp, vs
from microv.status import MvError

_CHIPS = [mv.MV_CHIP_PIC_MASTER, mv.MV_CHIP_PIC_SLAVE, mv.MV_CHIP_IOAPIC]
_UNMASKED_EDGE = 0x31


@pytest.fixture
def full(vmid: int) -> int:
    """A VM with all controllers."""
    irqchip.irqchip_create(vmid)
    return vmid


def _pic(vmid: int) -> mv.mv_pic_t:
    registers = irqchip.chip_get(vmid, mv.MV_CHIP_PIC_MASTER)
    assert isinstance(registers, mv.mv_pic_t)
    return registers


def _ioapic(vmid: int) -> mv.mv_ioapic_t:
    registers = irqchip.chip_get(vmid, mv.MV_CHIP_IOAPIC)
    assert isinstance(registers, mv.mv_ioapic_t)
    return registers


def _msi(gsi: int, **fields: int) -> mv.mv_gsi_entry_t:
    return mv.mv_gsi_entry_t(gsi=gsi, kind=mv.mv_gsi_t_msi, **fields)


_CALLS: list[Callable[[int], Any]] = [
    irqchip.irqchip_create,
    lambda vmid: irqchip.irq_line(vmid, 0, high=True),
    lambda vmid: irqchip.signal_msi(vmid, 0xFEE00000, 0x31),
    lambda vmid: irqchip.gsi_list_set(vmid, []),
    lambda vmid: irqchip.chip_get(vmid, mv.MV_CHIP_PIC_MASTER),
    lambda vmid: irqchip.chip_set(vmid, mv.MV_CHIP_IOAPIC, mv.mv_ioapic_t()),
    lambda vmid: irqchip.pit_create(vmid, speaker=True),
    irqchip.pit_get,
    lambda vmid: irqchip.pit_set(vmid, mv.mv_pit_t()),
    lambda vmid: irqchip.pit_reinject(vmid, reinject=True),
]


@pytest.mark.parametrize("call", _CALLS)
def test_what_is_no_vm_is_refused(call: Callable[[int], Any], bad_vmid: int) -> None:
    with pytest.raises(MvError) as refusal:
        call(bad_vmid)
    assert refusal.value.status == mv.MV_STATUS_INVALID_INPUT_REG1


@pytest.mark.parametrize("call", _CALLS[1:])
def test_a_vm_without_controllers_refuses(call: Callable[[int], Any], vmid: int) -> None:
    with pytest.raises(MvError) as refusal:
        call(vmid)
    assert refusal.value.status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_controllers_are_created_once(full: int) -> None:
    for create in (
        irqchip.irqchip_create,
        lambda vmid: irqchip.irqchip_create(vmid, split_pins=24),
    ):
        with pytest.raises(MvError):
            create(full)


def test_controllers_come_before_processors(vpid: int, vmid: int) -> None:
    vsid = vs.create_vs(vpid)
    with pytest.raises(MvError):
        irqchip.irqchip_create(vmid)
    vs.destroy_vs(vsid)
    irqchip.irqchip_create(vmid)
    assert vp.vmid(vpid) == vmid


@pytest.mark.parametrize(("model", "pins"), [(2, 0), (mv.MV_IRQCHIP_SPLIT, mv.MV_GSI_MAX + 1)])
def test_create_refuses_other_models(vmid: int, model: int, pins: int) -> None:
    with pytest.raises(MvError):
        with_handle(mv.MV_VM_OP_VAL | mv.MV_VM_OP_IRQCHIP_CREATE_IDX_VAL, vmid, model, pins)


def test_a_masked_line_is_ignored(full: int) -> None:
    assert irqchip.irq_line(full, 20, high=True) is None


def test_a_line_of_the_8259a_is_raised_once(full: int) -> None:
    irqchip.gsi_list_set(full, [mv.mv_gsi_entry_t(gsi=7, kind=mv.mv_gsi_t_pic, address=4)])
    assert [irqchip.irq_line(full, 7, high=True) for _ in range(2)] == [1, 0]
    assert _pic(full).irr == 1 << 4


def test_a_line_beyond_the_table_is_ignored(full: int) -> None:
    for gsi in (24, mv.MV_GSI_MAX, 0xFFFFFFFF):
        assert irqchip.irq_line(full, gsi, high=True) is None


@pytest.mark.parametrize("flags", [4, 1 << 63])
def test_irq_line_refuses_other_flags(full: int, flags: int) -> None:
    with pytest.raises(MvError) as refusal:
        with_handle(mv.MV_VM_OP_VAL | mv.MV_VM_OP_IRQ_LINE_IDX_VAL, full, 0, flags)
    assert refusal.value.status == mv.MV_STATUS_INVALID_INPUT_REG3


def test_a_message_without_a_processor_is_for_nobody(full: int) -> None:
    assert irqchip.signal_msi(full, 0xFEE00000, 0x31) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"gsi": mv.MV_GSI_MAX, "kind": mv.mv_gsi_t_msi},
        {"gsi": 0, "kind": mv.mv_gsi_t_pic, "address": 16},
        {"gsi": 0, "kind": mv.mv_gsi_t_ioapic, "address": 24},
        {"gsi": 0, "kind": mv.mv_gsi_t_sint, "data": 256},
        {"gsi": 0, "kind": 4},
    ],
)
def test_a_refused_entry_leaves_the_old_table(full: int, entry: dict[str, int]) -> None:
    irqchip.gsi_list_set(full, [mv.mv_gsi_entry_t(gsi=9, kind=mv.mv_gsi_t_pic, address=3)])
    with pytest.raises(MvError):
        irqchip.gsi_list_set(full, [mv.mv_gsi_entry_t(**entry)])
    assert irqchip.irq_line(full, 9, high=True) == 1


def test_a_table_may_be_longer_than_a_page(full: int) -> None:
    entries = [_msi(gsi, address=0xFEE00000, data=0x31) for gsi in range(mv.MV_GSI_MAX - 1)]
    entries.append(mv.mv_gsi_entry_t(gsi=mv.MV_GSI_MAX - 1, kind=mv.mv_gsi_t_pic, address=3))
    irqchip.gsi_list_set(full, entries)
    assert irqchip.irq_line(full, mv.MV_GSI_MAX - 1, high=True) == 1


def test_a_split_model_has_messages_only(vmid: int) -> None:
    irqchip.irqchip_create(vmid, split_pins=24)
    irqchip.gsi_list_set(vmid, [_msi(1, address=0xFEE00000, data=0x31)])
    for refused in (
        lambda: irqchip.gsi_list_set(vmid, [mv.mv_gsi_entry_t(kind=mv.mv_gsi_t_pic)]),
        lambda: irqchip.chip_get(vmid, mv.MV_CHIP_IOAPIC),
        lambda: irqchip.pit_create(vmid, speaker=False),
    ):
        with pytest.raises(MvError):
            refused()


@pytest.mark.parametrize("chip", _CHIPS)
def test_registers_read_back_as_they_were_set(full: int, chip: int) -> None:
    registers = irqchip.chip_get(full, chip)
    if isinstance(registers, mv.mv_ioapic_t):
        registers.id = 5
        registers.redirtbl[3] = 0x0100_0000_0001_0031
    else:
        registers.imr, registers.irq_base, registers.isr = 0xA5, 0x7A, 0x10
        registers.flags = mv.MV_PIC_AUTO_EOI | mv.MV_PIC_READ_ISR
    irqchip.chip_set(full, chip, registers)
    assert bytes(irqchip.chip_get(full, chip)) == bytes(registers)


def test_a_restored_level_request_is_pending(full: int) -> None:
    registers = _ioapic(full)
    registers.irr = 1 << 5
    registers.redirtbl[5] = 1 << 15 | _UNMASKED_EDGE
    irqchip.chip_set(full, mv.MV_CHIP_IOAPIC, registers)
    assert _ioapic(full).redirtbl[5] & 1 << 14


@pytest.mark.parametrize("chip", [3, 1 << 32])
def test_other_chips_are_refused(full: int, chip: int) -> None:
    with pytest.raises(MvError) as refusal:
        irqchip.chip_get(full, chip)
    assert refusal.value.status == mv.MV_STATUS_INVALID_INPUT_REG2
