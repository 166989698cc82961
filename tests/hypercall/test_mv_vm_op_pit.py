"""mv_vm_op_pit_create, pit_get, pit_set, pit_reinject."""

import pytest

from microv import abi_gen as mv
from microv.call import with_handle
from microv.ops import irqchip
from microv.status import MvError


@pytest.fixture
def with_pit(vmid: int) -> int:
    """A VM with controllers and a timer."""
    irqchip.irqchip_create(vmid)
    irqchip.pit_create(vmid, speaker=True)
    return vmid


def _requests(vmid: int) -> int:
    registers = irqchip.chip_get(vmid, mv.MV_CHIP_PIC_MASTER)
    assert isinstance(registers, mv.mv_pic_t)
    return registers.irr


def _without_time(registers: mv.mv_pit_t) -> bytes:
    for channel in registers.channels:
        channel.load_time_ns = 0
    return bytes(registers)


def test_a_timer_is_created_once(with_pit: int) -> None:
    with pytest.raises(MvError) as refusal:
        irqchip.pit_create(with_pit, speaker=False)
    assert refusal.value.status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_no_counter_runs_at_first(with_pit: int) -> None:
    channels = irqchip.pit_get(with_pit).channels
    assert [channel.count for channel in channels] == [0x10000] * 3
    assert [channel.gate for channel in channels] == [1, 1, 0]


def test_registers_read_back_as_they_were_set(with_pit: int) -> None:
    registers = irqchip.pit_get(with_pit)
    registers.channels[1].mode, registers.channels[1].count = 2, 18
    registers.channels[2].latched_count, registers.channels[2].count_latched = 0x1234, 3
    registers.flags = mv.MV_PIT_SPEAKER_DATA_ON | mv.MV_PIT_HPET_LEGACY
    irqchip.pit_set(with_pit, registers)
    assert _without_time(irqchip.pit_get(with_pit)) == _without_time(registers)


def test_a_tick_reaches_the_8259a(with_pit: int) -> None:
    registers = irqchip.pit_get(with_pit)
    registers.channels[0].mode, registers.channels[0].count = 2, 1193
    irqchip.pit_set(with_pit, registers)
    while not _requests(with_pit) & 1:
        pass


def test_a_vm_ends_while_its_timer_runs(with_pit: int) -> None:
    registers = irqchip.pit_get(with_pit)
    registers.channels[0].mode, registers.channels[0].count = 2, 1
    irqchip.pit_set(with_pit, registers)
    irqchip.pit_reinject(with_pit, reinject=False)


@pytest.mark.parametrize(
    "index", [mv.MV_VM_OP_PIT_CREATE_IDX_VAL, mv.MV_VM_OP_PIT_REINJECT_IDX_VAL]
)
def test_other_flags_are_refused(with_pit: int, index: int) -> None:
    with pytest.raises(MvError) as refusal:
        with_handle(mv.MV_VM_OP_VAL | index, with_pit, 2)
    assert refusal.value.status == mv.MV_STATUS_INVALID_INPUT_REG2
