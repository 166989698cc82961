"""Interrupt controllers: KVM_CREATE_IRQCHIP, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP.

`Documentation/virt/kvm/api.rst`; the order of checks is that of `kvm_arch_vm_ioctl` in
`arch/x86/kvm/x86.c`. Controllers come before the first vCPU.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_ioapic_state, kvm_irqchip, kvm_pic_state
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Irqchip, Vm
from microv import abi_gen as mv
from microv.ops import irqchip as irqchip_op

_CHIPS: Final = {
    kvm.KVM_IRQCHIP_PIC_MASTER: mv.MV_CHIP_PIC_MASTER,
    kvm.KVM_IRQCHIP_PIC_SLAVE: mv.MV_CHIP_PIC_SLAVE,
    kvm.KVM_IRQCHIP_IOAPIC: mv.MV_CHIP_IOAPIC,
}
_PIC_FLAGS: Final = {
    "read_reg_select": mv.MV_PIC_READ_ISR,
    "poll": mv.MV_PIC_POLL,
    "special_mask": mv.MV_PIC_SPECIAL_MASK,
    "auto_eoi": mv.MV_PIC_AUTO_EOI,
    "rotate_on_auto_eoi": mv.MV_PIC_ROTATE_ON_AUTO_EOI,
    "special_fully_nested_mode": mv.MV_PIC_SPECIAL_FULLY_NESTED,
    "init4": mv.MV_PIC_INIT4,
}
_PIC_BYTES: Final = (
    "last_irr",
    "irr",
    "imr",
    "isr",
    "priority_add",
    "irq_base",
    "init_state",
    "elcr",
    "elcr_mask",
)
_IOAPIC_WORDS: Final = ("base_address", "ioregsel", "id", "irr")


def handle_vm_create_irqchip(vm: Vm) -> int:
    """KVM_CREATE_IRQCHIP: PIC pair, IOAPIC and local APICs.

    Errors: EEXIST (there are controllers), EINVAL (there is a vCPU).
    """
    with vm.lock:
        vm.check_takes_irqchip()
        irqchip_op.irqchip_create(vm.vmid)
        vm.irqchip = Irqchip.KERNEL
    return 0


def handle_vm_get_irqchip(vm: Vm, chip: kvm_irqchip) -> kvm_irqchip:
    """KVM_GET_IRQCHIP. Errors: ENXIO (no PIC and IOAPIC here), EINVAL (no such chip)."""
    registers = irqchip_op.chip_get(vm.vmid, _chip(vm, chip))
    if isinstance(registers, mv.mv_ioapic_t):
        image = bytes(_ioapic_state(registers))
    else:
        image = bytes(_pic_state(registers))
    chip.chip[: len(image)] = list(image)
    return chip


def handle_vm_set_irqchip(vm: Vm, chip: kvm_irqchip) -> None:
    """KVM_SET_IRQCHIP. Errors: as KVM_GET_IRQCHIP."""
    number = _chip(vm, chip)
    image = bytes(chip.chip)
    registers: irqchip_op.Chip
    if number == mv.MV_CHIP_IOAPIC:
        registers = _ioapic(kvm_ioapic_state.from_buffer_copy(image))
    else:
        registers = _pic(kvm_pic_state.from_buffer_copy(image))
    irqchip_op.chip_set(vm.vmid, number, registers)


def _chip(vm: Vm, chip: kvm_irqchip) -> int:
    if vm.irqchip is not Irqchip.KERNEL:
        raise KvmError(errno.ENXIO, "the VM has no PIC and IOAPIC")
    number = _CHIPS.get(chip.chip_id)
    if number is None:
        raise KvmError(errno.EINVAL, f"chip {chip.chip_id:#x} is not there")
    return number


def _pic_state(registers: mv.mv_pic_t) -> kvm_pic_state:
    values = {name: getattr(registers, name) for name in _PIC_BYTES}
    flags = {name: int(registers.flags & flag != 0) for name, flag in _PIC_FLAGS.items()}
    return kvm_pic_state(**values, **flags)


def _pic(state: kvm_pic_state) -> mv.mv_pic_t:
    values = {name: getattr(state, name) for name in _PIC_BYTES}
    flags = sum(flag for name, flag in _PIC_FLAGS.items() if getattr(state, name))
    return mv.mv_pic_t(**values, flags=flags)


def _ioapic_state(registers: mv.mv_ioapic_t) -> kvm_ioapic_state:
    values = {name: getattr(registers, name) for name in _IOAPIC_WORDS}
    return kvm_ioapic_state(**values, redirtbl=registers.redirtbl)


def _ioapic(state: kvm_ioapic_state) -> mv.mv_ioapic_t:
    values = {name: getattr(state, name) for name in _IOAPIC_WORDS}
    return mv.mv_ioapic_t(**values, redirtbl=state.redirtbl)
