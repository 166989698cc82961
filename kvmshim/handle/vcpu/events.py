"""KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS: what waits to be delivered, and what keeps it.

`arch/x86/kvm/x86.c`, kvm_vcpu_ioctl_x86_get_vcpu_events and its twin. KVM_CAP_EXCEPTION_PAYLOAD
tells an exception that is pending, whose CR2 or DR6 is still to be set, from one that is injected;
without it a pending one gets its registers set when it is read, and reads as injected.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_vcpu_events
from kvmshim.errors import KvmError
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op
from microv.status import MvError

_VALID: Final = (
    kvm.KVM_VCPUEVENT_VALID_NMI_PENDING
    | kvm.KVM_VCPUEVENT_VALID_SIPI_VECTOR
    | kvm.KVM_VCPUEVENT_VALID_SHADOW
    | kvm.KVM_VCPUEVENT_VALID_SMM
    | kvm.KVM_VCPUEVENT_VALID_PAYLOAD
    | kvm.KVM_VCPUEVENT_VALID_TRIPLE_FAULT
)
_GIVEN: Final = (
    kvm.KVM_VCPUEVENT_VALID_NMI_PENDING
    | kvm.KVM_VCPUEVENT_VALID_SHADOW
    | kvm.KVM_VCPUEVENT_VALID_SMM
)
_SMM: Final = mv.MV_EVENT_SMI | mv.MV_EVENT_SMM | mv.MV_EVENT_SMM_INSIDE_NMI | mv.MV_EVENT_INIT
_DB, _NMI, _PF = 1, 2, 14
_LAST_EXCEPTION: Final = 31
_DR6_BREAKPOINTS: Final = 0xF


def handle_vcpu_get_vcpu_events(vcpu: Vcpu) -> kvm_vcpu_events:
    """KVM_GET_VCPU_EVENTS. Never fails."""
    page = vs_op.event_get_all(vcpu.vsid)
    if not vcpu.vm.exception_payload and page.flags & mv.MV_EVENT_EXCEPTION_HAS_PAYLOAD:
        page = _with_payload_settled(vcpu, page)
    return _to_kvm(vcpu, page)


def handle_vcpu_set_vcpu_events(vcpu: Vcpu, events: kvm_vcpu_events) -> None:
    """KVM_SET_VCPU_EVENTS. What `flags` does not name stays as it is.

    Errors: EINVAL (an unknown flag, or one whose capability is not enabled; an exception beyond
    vector 31, or vector 2; system management mode or an SMI where the vCPU waits for its
    start-up); nothing is changed then.
    """
    _check(vcpu, events)
    old = vs_op.event_get_all(vcpu.vsid)
    try:
        vs_op.event_set_all(vcpu.vsid, _to_page(events, old))
    except MvError as error:
        raise KvmError(errno.EINVAL, "no such event") from error
    if events.flags & kvm.KVM_VCPUEVENT_VALID_SIPI_VECTOR:
        vcpu.sipi_vector = events.sipi_vector & 0xFF


def _with_payload_settled(vcpu: Vcpu, page: mv.mv_event_t) -> mv.mv_event_t:
    """The exception as if its delivery had begun: CR2 or DR6 have their values."""
    if page.exception_vector == _PF:
        vs_op.reg_set(vcpu.vsid, mv.mv_reg_t_cr2, page.exception_payload)
    elif page.exception_vector == _DB:
        dr6 = vs_op.reg_get(vcpu.vsid, mv.mv_reg_t_dr6)
        dr6 = dr6 & ~_DR6_BREAKPOINTS | page.exception_payload
        vs_op.reg_set(vcpu.vsid, mv.mv_reg_t_dr6, dr6)
    page.flags &= ~mv.MV_EVENT_EXCEPTION_HAS_PAYLOAD
    page.exception_payload = 0
    vs_op.event_set_all(vcpu.vsid, page)
    return page


def _to_kvm(vcpu: Vcpu, page: mv.mv_event_t) -> kvm_vcpu_events:
    def has(flag: int) -> bool:
        return page.flags & flag != 0

    events = kvm_vcpu_events(flags=_GIVEN)
    injected = has(mv.MV_EVENT_EXCEPTION_INJECTED) or not vcpu.vm.exception_payload
    events.exception.injected = has(mv.MV_EVENT_EXCEPTION) and injected
    events.exception.pending = (
        vcpu.vm.exception_payload and has(mv.MV_EVENT_EXCEPTION) and not injected
    )
    events.exception.nr = page.exception_vector
    events.exception.has_error_code = has(mv.MV_EVENT_EXCEPTION_HAS_ERROR_CODE)
    events.exception.error_code = page.exception_error_code
    events.exception_has_payload = has(mv.MV_EVENT_EXCEPTION_HAS_PAYLOAD)
    events.exception_payload = page.exception_payload
    events.interrupt.injected = has(mv.MV_EVENT_INTERRUPT | mv.MV_EVENT_INTERRUPT_INJECTED)
    events.interrupt.nr = page.interrupt_vector
    events.interrupt.shadow = kvm.KVM_X86_SHADOW_INT_STI * has(
        mv.MV_EVENT_SHADOW_STI
    ) | kvm.KVM_X86_SHADOW_INT_MOV_SS * has(mv.MV_EVENT_SHADOW_MOV_SS)
    events.nmi.injected = has(mv.MV_EVENT_NMI_INJECTED)
    events.nmi.pending = has(mv.MV_EVENT_NMI)
    events.nmi.masked = has(mv.MV_EVENT_NMI_BLOCKED)
    events.smi.smm = has(mv.MV_EVENT_SMM)
    events.smi.pending = has(mv.MV_EVENT_SMI)
    events.smi.smm_inside_nmi = has(mv.MV_EVENT_SMM_INSIDE_NMI)
    events.smi.latched_init = has(mv.MV_EVENT_INIT)
    if vcpu.vm.exception_payload:
        events.flags |= kvm.KVM_VCPUEVENT_VALID_PAYLOAD
    if vcpu.vm.triple_fault_event:
        events.flags |= kvm.KVM_VCPUEVENT_VALID_TRIPLE_FAULT
        events.triple_fault.pending = has(mv.MV_EVENT_TRIPLE_FAULT)
    return events


def _check(vcpu: Vcpu, events: kvm_vcpu_events) -> None:
    if events.flags & ~_VALID:
        raise KvmError(errno.EINVAL, f"flags {events.flags:#x} are not known")
    if events.flags & kvm.KVM_VCPUEVENT_VALID_PAYLOAD and not vcpu.vm.exception_payload:
        raise KvmError(errno.EINVAL, "KVM_CAP_EXCEPTION_PAYLOAD is not enabled")
    vector = events.exception.nr
    if _exception_flags(events) and (vector > _LAST_EXCEPTION or vector == _NMI):
        raise KvmError(errno.EINVAL, f"vector {vector:#x} is no exception")
    smi = events.flags & kvm.KVM_VCPUEVENT_VALID_SMM and (events.smi.smm or events.smi.pending)
    if smi and vs_op.mp_state_get(vcpu.vsid) == mv.mv_mp_state_t_init:
        raise KvmError(errno.EINVAL, "a vCPU that waits for its start-up takes no SMI")
    if events.flags & kvm.KVM_VCPUEVENT_VALID_TRIPLE_FAULT and not vcpu.vm.triple_fault_event:
        raise KvmError(errno.EINVAL, "KVM_CAP_X86_TRIPLE_FAULT_EVENT is not enabled")


def _exception_flags(events: kvm_vcpu_events) -> int:
    """MV_EVENT_* of the exception; 0 where there is none."""
    pending = events.flags & kvm.KVM_VCPUEVENT_VALID_PAYLOAD and events.exception.pending
    if not pending and not events.exception.injected:
        return 0
    flags = mv.MV_EVENT_EXCEPTION
    if events.exception.has_error_code:
        flags |= mv.MV_EVENT_EXCEPTION_HAS_ERROR_CODE
    if not pending:
        flags |= mv.MV_EVENT_EXCEPTION_INJECTED
    elif events.exception_has_payload:
        flags |= mv.MV_EVENT_EXCEPTION_HAS_PAYLOAD
    return flags


def _smm_flags(events: kvm_vcpu_events) -> int:
    """MV_EVENT_* of system management mode. Without a local APIC no INIT is latched."""
    flags = mv.MV_EVENT_SMM if events.smi.smm else 0
    flags |= mv.MV_EVENT_INIT if events.smi.latched_init else 0
    if events.smi.smm and events.smi.smm_inside_nmi:
        flags |= mv.MV_EVENT_SMM_INSIDE_NMI
    return flags | (mv.MV_EVENT_SMI if events.smi.pending else 0)


def _to_page(events: kvm_vcpu_events, old: mv.mv_event_t) -> mv.mv_event_t:
    flags = _exception_flags(events)
    flags |= mv.MV_EVENT_INTERRUPT if events.interrupt.injected else 0
    flags |= mv.MV_EVENT_NMI_INJECTED if events.nmi.injected else 0
    flags |= mv.MV_EVENT_NMI_BLOCKED if events.nmi.masked else 0
    sti = events.interrupt.shadow & kvm.KVM_X86_SHADOW_INT_STI
    mov_ss = events.interrupt.shadow & kvm.KVM_X86_SHADOW_INT_MOV_SS
    chosen = (
        (
            kvm.KVM_VCPUEVENT_VALID_NMI_PENDING,
            mv.MV_EVENT_NMI,
            mv.MV_EVENT_NMI if events.nmi.pending else 0,
        ),
        (
            kvm.KVM_VCPUEVENT_VALID_SHADOW,
            mv.MV_EVENT_SHADOW_STI | mv.MV_EVENT_SHADOW_MOV_SS,
            (mv.MV_EVENT_SHADOW_STI if sti else 0) | (mv.MV_EVENT_SHADOW_MOV_SS if mov_ss else 0),
        ),
        (
            kvm.KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
            mv.MV_EVENT_TRIPLE_FAULT,
            mv.MV_EVENT_TRIPLE_FAULT if events.triple_fault.pending else 0,
        ),
        (kvm.KVM_VCPUEVENT_VALID_SMM, _SMM, _smm_flags(events)),
    )
    for valid, mask, new in chosen:
        flags |= new if events.flags & valid else old.flags & mask
    return mv.mv_event_t(
        flags=flags,
        exception_vector=events.exception.nr if flags & mv.MV_EVENT_EXCEPTION else 0,
        exception_error_code=events.exception.error_code,
        exception_payload=events.exception_payload,
        interrupt_vector=events.interrupt.nr,
    )
