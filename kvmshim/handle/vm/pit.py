"""The timer: KVM_CREATE_PIT2, KVM_GET_PIT2, KVM_SET_PIT2, KVM_REINJECT_CONTROL; and the older
KVM_CREATE_PIT, KVM_GET_PIT, KVM_SET_PIT, which know no flags.

`Documentation/virt/kvm/api.rst`. A restored timer starts to count anew, as in KVM.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import (
    kvm_pit_channel_state,
    kvm_pit_config,
    kvm_pit_state,
    kvm_pit_state2,
    kvm_reinject_control,
)
from kvmshim.errors import KvmError
from kvmshim.objects.vm import Irqchip, Vm
from kvmshim.platform.caller import Caller
from microv import abi_gen as mv
from microv.ops import irqchip as irqchip_op

_CHANNEL: Final = (
    "count",
    "latched_count",
    "count_latched",
    "status_latched",
    "status",
    "read_state",
    "write_state",
    "write_latch",
    "rw_mode",
    "mode",
    "bcd",
    "gate",
)
_FLAGS: Final = {
    kvm.KVM_PIT_FLAGS_HPET_LEGACY: mv.MV_PIT_HPET_LEGACY,
    kvm.KVM_PIT_FLAGS_SPEAKER_DATA_ON: mv.MV_PIT_SPEAKER_DATA_ON,
}


def handle_vm_create_pit2(vm: Vm, config: kvm_pit_config) -> None:
    """KVM_CREATE_PIT2. Port 61H is the timer's only with KVM_PIT_SPEAKER_DUMMY.

    Errors: EEXIST (there is a timer), ENOENT (no PIC here).
    """
    _create(vm, speaker=config.flags & kvm.KVM_PIT_SPEAKER_DUMMY != 0)


def handle_vm_create_pit(vm: Vm, _: int, __: Caller) -> None:
    """KVM_CREATE_PIT: with port 61H. Errors as `handle_vm_create_pit2`."""
    _create(vm, speaker=True)


def _create(vm: Vm, *, speaker: bool) -> None:
    with vm.lock:
        if vm.has_pit:
            raise KvmError(errno.EEXIST, "the VM has a timer")
        if vm.irqchip is not Irqchip.KERNEL:
            raise KvmError(errno.ENOENT, "the VM has no PIC")
        irqchip_op.pit_create(vm.vmid, speaker=speaker)
        vm.has_pit = True


def handle_vm_get_pit2(vm: Vm) -> kvm_pit_state2:
    """KVM_GET_PIT2. Errors: ENXIO (no timer here)."""
    _check(vm)
    registers = irqchip_op.pit_get(vm.vmid)
    state = kvm_pit_state2(flags=_swap(registers.flags, {b: a for a, b in _FLAGS.items()}))
    for channel, theirs in zip(registers.channels, state.channels, strict=True):
        for name in _CHANNEL:
            setattr(theirs, name, getattr(channel, name))
        theirs.count_load_time = channel.load_time_ns
    return state


def handle_vm_set_pit2(vm: Vm, state: kvm_pit_state2) -> None:
    """KVM_SET_PIT2. Errors: ENXIO (no timer here)."""
    _check(vm)
    registers = mv.mv_pit_t(flags=_swap(state.flags, _FLAGS))
    for channel, theirs in zip(registers.channels, state.channels, strict=True):
        _copy(theirs, channel)
    irqchip_op.pit_set(vm.vmid, registers)


def handle_vm_get_pit(vm: Vm, _: kvm_pit_state) -> kvm_pit_state:
    """KVM_GET_PIT: the channels. Errors: ENXIO (no timer here)."""
    return kvm_pit_state(channels=handle_vm_get_pit2(vm).channels)


def handle_vm_set_pit(vm: Vm, state: kvm_pit_state) -> None:
    """KVM_SET_PIT: the channels; the flags stay. Errors: ENXIO (no timer here)."""
    both = handle_vm_get_pit2(vm)
    both.channels = state.channels
    handle_vm_set_pit2(vm, both)


def _copy(theirs: kvm_pit_channel_state, channel: mv.mv_pit_channel_t) -> None:
    for name in _CHANNEL:
        setattr(channel, name, getattr(theirs, name))


def handle_vm_reinject_control(vm: Vm, control: kvm_reinject_control) -> None:
    """KVM_REINJECT_CONTROL. Errors: ENXIO (no timer here)."""
    _check(vm)
    irqchip_op.pit_reinject(vm.vmid, reinject=control.pit_reinject != 0)


def _check(vm: Vm) -> None:
    if not vm.has_pit:
        raise KvmError(errno.ENXIO, "the VM has no timer")


def _swap(flags: int, names: dict[int, int]) -> int:
    return sum(new for old, new in names.items() if flags & old)
