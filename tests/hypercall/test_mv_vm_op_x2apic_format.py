"""mv_vm_op_x2apic_format_set: how messages of devices name local APICs."""

import pytest

from microv import abi_gen as mv
from microv.call import with_handle
from microv.ops import irqchip, vp, vs
from microv.status import MvError

_OPCODE = mv.MV_VM_OP_VAL | mv.MV_VM_OP_X2APIC_FORMAT_SET_IDX_VAL
_MESSAGE = 0xFEE0_0000
_FAR_ID = 0x1_0000_0000
"""In an address: bit 8 of the destination, where IDs have 32 bits."""


def test_what_is_no_vm_is_refused(bad_vmid: int) -> None:
    with pytest.raises(MvError) as refusal:
        irqchip.x2apic_format_set(bad_vmid, wide_ids=False, byte_broadcast=True)
    assert refusal.value.status == mv.MV_STATUS_INVALID_INPUT_REG1


@pytest.mark.parametrize("flags", [mv.MV_X2APIC_ALL + 1, 1 << 63])
def test_unknown_flags_are_refused(vmid: int, flags: int) -> None:
    with pytest.raises(MvError) as refusal:
        with_handle(_OPCODE, vmid, flags)
    assert refusal.value.status == mv.MV_STATUS_INVALID_INPUT_REG2


@pytest.mark.parametrize("before", [True, False])
def test_it_counts_from_before_and_after_the_controllers(vmid: int, before: bool) -> None:
    if before:
        irqchip.x2apic_format_set(vmid, wide_ids=True, byte_broadcast=True)
    irqchip.irqchip_create(vmid)
    if not before:
        irqchip.x2apic_format_set(vmid, wide_ids=True, byte_broadcast=True)
    vpid = vp.create_vp(vmid)
    vsid = vs.create_vs(vpid)
    vs.apic_id_set(vsid, 0)
    far = _MESSAGE | _FAR_ID << 8
    assert irqchip.signal_msi(vmid, far, 0x31) is None, "it is for APIC 0x100"
    irqchip.x2apic_format_set(vmid, wide_ids=False, byte_broadcast=True)
    assert irqchip.signal_msi(vmid, far, 0x31) is not None
    vs.destroy_vs(vsid)
    vp.destroy_vp(vpid)
