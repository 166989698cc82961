"""mv_vs_op_lvt_raise (extension): a source of the local vector table is active."""

import struct
from collections.abc import Iterator
from typing import Final

import pytest

from microv import abi_gen as mv
from microv.ops import irqchip, vm, vp, vs
from microv.status import MvError

_MCG_CAP: Final = 0x179
_CMCI_P: Final = 1 << 10
_LVT_CMCI: Final = 0x2F0
_IRR: Final = 0x200
_VECTOR: Final = 0x61
_SMI: Final = 0x200


@pytest.fixture
def apic_vsid() -> Iterator[int]:
    """A VS with a local APIC that has the entry for corrected machine checks."""
    vmid = vm.create_vm()
    irqchip.irqchip_create(vmid)
    vpid = vp.create_vp(vmid)
    vsid = vs.create_vs(vpid)
    vs.msr_set(vsid, _MCG_CAP, _CMCI_P | 1)
    yield vsid
    vs.destroy_vs(vsid)
    vp.destroy_vp(vpid)
    vm.destroy_vm(vmid)


def set_entry(vsid: int, entry: int) -> None:
    registers = bytearray(vs.lapic_get_all(vsid))
    struct.pack_into("<I", registers, _LVT_CMCI, entry)
    vs.lapic_set_all(vsid, bytes(registers))


def requests(vsid: int) -> set[int]:
    registers = vs.lapic_get_all(vsid)
    words = [struct.unpack_from("<I", registers, _IRR + 16 * word)[0] for word in range(8)]
    return {bit for bit in range(256) if words[bit // 32] >> bit % 32 & 1}


def test_entry_names_a_vector(apic_vsid: int) -> None:
    set_entry(apic_vsid, _VECTOR)
    vs.lvt_raise(apic_vsid, mv.mv_lvt_t_cmci)
    assert requests(apic_vsid) == {_VECTOR}


def test_entry_names_another_interrupt(apic_vsid: int) -> None:
    set_entry(apic_vsid, _SMI)
    vs.lvt_raise(apic_vsid, mv.mv_lvt_t_cmci)
    assert vs.event_get_all(apic_vsid).flags == mv.MV_EVENT_SMI
    assert requests(apic_vsid) == set()


def test_masked_entry_raises_nothing(apic_vsid: int) -> None:
    vs.lvt_raise(apic_vsid, mv.mv_lvt_t_cmci)
    assert requests(apic_vsid) == set()


@pytest.mark.parametrize("lvt", [mv.mv_lvt_t_cmci + 1, 2**64 - 1])
def test_source_that_is_none_is_refused(apic_vsid: int, lvt: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.lvt_raise(apic_vsid, lvt)


def test_without_a_local_apic_there_is_no_source(vsid: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.lvt_raise(vsid, mv.mv_lvt_t_cmci)


@pytest.mark.parametrize("wrong", [0, mv.MV_INVALID_ID, mv.MV_SELF_ID, mv.MV_MAX_VSS])
def test_a_vs_that_is_none_is_refused(wrong: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.lvt_raise(wrong, mv.mv_lvt_t_cmci)
