"""KVM_ENABLE_CAP: what a VM does only when its client asks for it."""

import errno
from collections.abc import Callable
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_enable_cap
from kvmshim.errors import KvmError
from kvmshim.handle.vm import dirty_ring
from kvmshim.objects.vm import Irqchip, Vm
from microv import abi_gen as mv
from microv.ops import irqchip as irqchip_op
from microv.ops import vm as vm_op


def handle_vm_enable_cap(vm: Vm, wanted: kvm_enable_cap) -> None:
    """KVM_ENABLE_CAP. Errors: EINVAL (unknown capability, a flag, an argument it does not take)."""
    enable = _ENABLE.get(wanted.cap)
    if enable is None or wanted.flags:
        raise KvmError(errno.EINVAL, f"capability {wanted.cap}, flags {wanted.flags:#x}")
    with vm.lock:
        enable(vm, wanted.args[0])


def _manual_dirty_log(vm: Vm, options: int) -> None:
    """KVM_GET_DIRTY_LOG leaves the log as it is; with an option, logs begin with all pages."""
    allowed = kvm.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
    if options & allowed:
        allowed |= kvm.KVM_DIRTY_LOG_INITIALLY_SET
    if options & ~allowed:
        raise KvmError(errno.EINVAL, f"options {options:#x} are not known")
    vm.manual_dirty_log = options


def _user_space_msr(vm: Vm, reasons: int) -> None:
    """Refused MSR accesses leave with KVM_EXIT_X86_RDMSR or _WRMSR."""
    if reasons & ~sum(_MSR_REASONS):
        raise KvmError(errno.EINVAL, f"reasons {reasons:#x} are not known")
    leave = sum(leave for reason, leave in _MSR_REASONS.items() if reasons & reason)
    vm_op.msr_leave_set(vm.vmid, leave)


def _platform_info(vm: Vm, readable: int) -> None:
    """Whether the guest can read MSR_PLATFORM_INFO; it can until told otherwise."""
    vm_op.platform_info_set(vm.vmid, readable=bool(readable))


def _max_vcpu_id(vm: Vm, bound: int) -> None:
    """Ids of vCPUs stay below `bound`, which is set once, before the first vCPU."""
    if bound > limits.KVM_MAX_VCPU_IDS:
        raise KvmError(errno.EINVAL, f"vCPU ids cannot reach {bound:#x}")
    if vm.vcpus and vm.vcpu_id_bound == 0:
        vm.vcpu_id_bound = limits.KVM_MAX_VCPU_IDS
    if vm.vcpu_id_bound not in (0, bound):
        raise KvmError(errno.EINVAL, f"vCPU ids are bound by {vm.vcpu_id_bound:#x}")
    vm.vcpu_id_bound = bound


def _exception_payload(vm: Vm, on: int) -> None:
    """KVM_GET_VCPU_EVENTS tells pending exceptions from injected ones."""
    vm.exception_payload = bool(on)


def _triple_fault_event(vm: Vm, on: int) -> None:
    """KVM_GET_VCPU_EVENTS tells of a triple fault."""
    vm.triple_fault_event = bool(on)


def _split_irqchip(vm: Vm, pins: int) -> None:
    """Local APICs only; `pins` routes are those of the client's IOAPIC, whose ends leave."""
    if pins > limits.KVM_MAX_IRQ_ROUTES:
        raise KvmError(errno.EINVAL, f"{pins} pins are too many")
    vm.check_takes_irqchip()
    irqchip_op.irqchip_create(vm.vmid, split_pins=pins)
    vm.irqchip = Irqchip.SPLIT


def _x2apic_api(vm: Vm, flags: int) -> None:
    """Devices' messages to local APICs in x2APIC mode: 32-bit IDs, and no broadcast by 0xFF."""
    wide, quiet = kvm.KVM_X2APIC_API_USE_32BIT_IDS, kvm.KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK
    if flags & ~(wide | quiet):
        raise KvmError(errno.EINVAL, f"flags {flags:#x} are not known")
    vm.x2apic_api |= flags
    irqchip_op.x2apic_format_set(
        vm.vmid,
        wide_ids=vm.x2apic_api & wide != 0,
        byte_broadcast=vm.x2apic_api & quiet == 0,
    )


def _disable_quirks(vm: Vm, disabled: int) -> None:
    """KVM does not do these things; it does all others."""
    quirks = sum(quirk for bit, quirk in _QUIRKS.items() if not disabled & bit)
    vm_op.quirks_set(vm.vmid, quirks)


def _disable_known_quirks(vm: Vm, disabled: int) -> None:
    """The same, for clients that know which there are."""
    if disabled & ~sum(_QUIRKS):
        raise KvmError(errno.EINVAL, f"quirks {disabled:#x} are not known")
    _disable_quirks(vm, disabled)


_QUIRKS: Final = {
    kvm.KVM_X86_QUIRK_LINT0_REENABLED: mv.MV_QUIRK_LINT0_OPEN,
    # Nothing is cached, whatever CR0.CD says.
    kvm.KVM_X86_QUIRK_CD_NW_CLEARED: 0,
    kvm.KVM_X86_QUIRK_LAPIC_MMIO_HOLE: mv.MV_QUIRK_APIC_HOLE,
    kvm.KVM_X86_QUIRK_OUT_7E_INC_RIP: mv.MV_QUIRK_OUT_7E_STEPS,
    kvm.KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT: mv.MV_QUIRK_MWAIT_BY_TABLE,
    kvm.KVM_X86_QUIRK_FIX_HYPERCALL_INSN: mv.MV_QUIRK_HYPERCALL_REPAIR,
    kvm.KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS: mv.MV_QUIRK_MWAIT_NEVER_UNDEFINED,
}
"""What KVM_CAP_DISABLE_QUIRKS2 reports."""


def _exit_hypercall(vm: Vm, hypercalls: int) -> None:
    """Hypercalls, by the bit of their number, that leave with KVM_EXIT_HYPERCALL."""
    if hypercalls & ~limits.KVM_EXIT_HYPERCALL_VALID_MASK:
        raise KvmError(errno.EINVAL, f"hypercalls {hypercalls:#x} are not the client's")
    vm_op.hypercall_leave_set(vm.vmid, hypercalls)


_MSR_REASONS: Final = {
    kvm.KVM_MSR_EXIT_REASON_INVAL: mv.MV_MSR_LEAVE_INVALID,
    kvm.KVM_MSR_EXIT_REASON_UNKNOWN: mv.MV_MSR_LEAVE_UNKNOWN,
    kvm.KVM_MSR_EXIT_REASON_FILTER: mv.MV_MSR_LEAVE_DENIED,
}

_ENABLE: Final[dict[int, Callable[[Vm, int], None]]] = {
    kvm.KVM_CAP_DISABLE_QUIRKS: _disable_quirks,
    kvm.KVM_CAP_DISABLE_QUIRKS2: _disable_known_quirks,
    kvm.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: _manual_dirty_log,
    kvm.KVM_CAP_DIRTY_LOG_RING: dirty_ring.enable,
    kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL: dirty_ring.enable,
    kvm.KVM_CAP_X86_USER_SPACE_MSR: _user_space_msr,
    kvm.KVM_CAP_MSR_PLATFORM_INFO: _platform_info,
    kvm.KVM_CAP_SPLIT_IRQCHIP: _split_irqchip,
    kvm.KVM_CAP_X2APIC_API: _x2apic_api,
    kvm.KVM_CAP_MAX_VCPU_ID: _max_vcpu_id,
    kvm.KVM_CAP_EXIT_HYPERCALL: _exit_hypercall,
    kvm.KVM_CAP_EXCEPTION_PAYLOAD: _exception_payload,
    kvm.KVM_CAP_X86_TRIPLE_FAULT_EVENT: _triple_fault_event,
}
