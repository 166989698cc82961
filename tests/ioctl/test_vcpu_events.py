"""KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS: what waits to be delivered."""

import errno
from collections.abc import Callable

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_ENABLE_CAP,
    KVM_GET_VCPU_EVENTS,
    KVM_INTERRUPT,
    KVM_NMI,
    KVM_SET_VCPU_EVENTS,
)
from kvmshim.abi.structs_gen import kvm_enable_cap, kvm_interrupt, kvm_vcpu_events
from tests.kvm import System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

ALWAYS = (
    kvm.KVM_VCPUEVENT_VALID_NMI_PENDING
    | kvm.KVM_VCPUEVENT_VALID_SHADOW
    | kvm.KVM_VCPUEVENT_VALID_SMM
)
PAYLOAD = kvm.KVM_VCPUEVENT_VALID_PAYLOAD
TRIPLE_FAULT = kvm.KVM_VCPUEVENT_VALID_TRIPLE_FAULT


def events(vcpu: Vcpu) -> kvm_vcpu_events:
    found = kvm_vcpu_events()
    vcpu.ioctl(KVM_GET_VCPU_EVENTS, found)
    return found


def set_events(vcpu: Vcpu, wanted: kvm_vcpu_events) -> None:
    vcpu.ioctl(KVM_SET_VCPU_EVENTS, wanted)


def exception(
    vector: int, *, error_code: int | None = None, pending: bool = False, payload: int | None = None
) -> kvm_vcpu_events:
    """An exception alone; pending with a payload, or else injected."""
    wanted = kvm_vcpu_events(flags=ALWAYS | (PAYLOAD if pending else 0))
    wanted.exception.injected, wanted.exception.pending = not pending, pending
    wanted.exception.nr = vector
    wanted.exception.has_error_code = error_code is not None
    wanted.exception.error_code = error_code or 0
    wanted.exception_has_payload = payload is not None
    wanted.exception_payload = payload or 0
    return wanted


@pytest.fixture
def with_payloads(machine: Machine) -> Machine:
    for capability in (kvm.KVM_CAP_EXCEPTION_PAYLOAD, kvm.KVM_CAP_X86_TRIPLE_FAULT_EVENT):
        wanted = kvm_enable_cap(cap=capability)
        wanted.args[0] = 1
        machine.vm.ioctl(KVM_ENABLE_CAP, wanted)
    return machine


def test_capabilities_are_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_VCPU_EVENTS) == 1
    assert system.check_extension(kvm.KVM_CAP_INTR_SHADOW) == 1


def test_nothing_waits_at_power_on(vcpu: Vcpu) -> None:
    assert bytes(events(vcpu)) == bytes(kvm_vcpu_events(flags=ALWAYS))


def test_waiting_interrupt_and_nmi_are_shown(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_INTERRUPT, kvm_interrupt(irq=0x31))
    vcpu.ioctl(KVM_NMI)
    found = events(vcpu)
    assert (found.interrupt.injected, found.interrupt.nr, found.nmi.pending) == (1, 0x31, 1)


def test_interrupt_is_taken_back(vcpu: Vcpu) -> None:
    vcpu.ioctl(KVM_INTERRUPT, kvm_interrupt(irq=0x31))
    set_events(vcpu, kvm_vcpu_events(flags=ALWAYS))
    assert not any(vcpu.sregs().interrupt_bitmap)


def nmi_waits(wanted: kvm_vcpu_events) -> None:
    wanted.nmi.pending = 1


def nmi_is_served(wanted: kvm_vcpu_events) -> None:
    wanted.nmi.masked = 1


def nmi_is_on_its_way(wanted: kvm_vcpu_events) -> None:
    wanted.nmi.injected = wanted.nmi.masked = 1


def interrupt_waits(wanted: kvm_vcpu_events) -> None:
    wanted.interrupt.injected, wanted.interrupt.nr = 1, 0x80


def sti_just_done(wanted: kvm_vcpu_events) -> None:
    wanted.interrupt.shadow = kvm.KVM_X86_SHADOW_INT_STI


def ss_just_loaded(wanted: kvm_vcpu_events) -> None:
    wanted.interrupt.shadow = kvm.KVM_X86_SHADOW_INT_MOV_SS


def smi_waits(wanted: kvm_vcpu_events) -> None:
    wanted.smi.pending = 1


def smm_is_entered(wanted: kvm_vcpu_events) -> None:
    wanted.smi.smm = 1
    nmi_is_served(wanted)


def smm_is_entered_inside_nmi(wanted: kvm_vcpu_events) -> None:
    smm_is_entered(wanted)
    wanted.smi.smm_inside_nmi = wanted.smi.pending = 1


CHANGES = [
    nmi_waits,
    nmi_is_served,
    nmi_is_on_its_way,
    interrupt_waits,
    sti_just_done,
    ss_just_loaded,
    smi_waits,
    smm_is_entered,
    smm_is_entered_inside_nmi,
]


@pytest.mark.parametrize("change", CHANGES)
def test_set_then_get_is_the_identity(
    vcpu: Vcpu, change: Callable[[kvm_vcpu_events], None]
) -> None:
    wanted = kvm_vcpu_events(flags=ALWAYS)
    change(wanted)
    set_events(vcpu, wanted)
    assert bytes(events(vcpu)) == bytes(wanted)


@pytest.mark.parametrize(
    "wanted", [exception(6), exception(13, error_code=0x18), exception(31)], ids=[6, 13, 31]
)
def test_injected_exception_reads_back(vcpu: Vcpu, wanted: kvm_vcpu_events) -> None:
    set_events(vcpu, wanted)
    assert bytes(events(vcpu)) == bytes(wanted)


def test_pending_exception_reads_back(with_payloads: Machine) -> None:
    wanted = exception(14, error_code=2, pending=True, payload=0x1234_5678)
    wanted.flags |= TRIPLE_FAULT
    set_events(with_payloads.vcpu, wanted)
    assert bytes(events(with_payloads.vcpu)) == bytes(wanted)
    assert with_payloads.vcpu.sregs().cr2 == 0


def test_what_flags_do_not_name_stays(vcpu: Vcpu) -> None:
    before = kvm_vcpu_events(flags=ALWAYS)
    smm_is_entered_inside_nmi(before)
    nmi_waits(before)
    sti_just_done(before)
    set_events(vcpu, before)
    set_events(vcpu, kvm_vcpu_events(nmi=before.nmi))
    assert bytes(events(vcpu)) == bytes(before)


def test_guest_takes_an_injected_exception(machine: Machine) -> None:
    machine.load("hlt", Mode.PROTECTED)
    machine.handle(13, "pop ebx; mov ecx, [esp]; hlt", Mode.PROTECTED)
    set_events(machine.vcpu, exception(13, error_code=0x18))
    machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert (regs.rbx, regs.rcx) == (0x18, 0x1000)
    assert not events(machine.vcpu).exception.injected


def test_pending_page_fault_sets_cr2_when_it_is_delivered(with_payloads: Machine) -> None:
    machine = with_payloads
    machine.load("hlt", Mode.PROTECTED)
    machine.handle(14, "pop ebx; mov ecx, cr2; hlt", Mode.PROTECTED)
    wanted = exception(14, error_code=2, pending=True, payload=0x1234_5678)
    set_events(machine.vcpu, wanted)
    machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert (regs.rbx, regs.rcx) == (2, 0x1234_5678)


def test_triple_fault_ends_the_next_run(with_payloads: Machine) -> None:
    vcpu = with_payloads.vcpu
    with_payloads.load("hlt", Mode.REAL)
    wanted = kvm_vcpu_events(flags=ALWAYS | TRIPLE_FAULT)
    wanted.triple_fault.pending = 1
    set_events(vcpu, wanted)
    assert events(vcpu).triple_fault.pending == 1
    assert vcpu.run() == kvm.KVM_EXIT_SHUTDOWN
    assert events(vcpu).triple_fault.pending == 0
    assert vcpu.run() == kvm.KVM_EXIT_HLT


def test_masked_nmi_waits_for_iret(machine: Machine) -> None:
    machine.load("pushfd; push cs; push offset back; iret; back: hlt", Mode.PROTECTED)
    machine.handle(2, "mov ebx, 1; hlt", Mode.PROTECTED)
    wanted = kvm_vcpu_events(flags=ALWAYS)
    wanted.nmi.masked = wanted.nmi.pending = 1
    set_events(machine.vcpu, wanted)
    machine.vcpu.run()
    assert machine.vcpu.regs().rbx == 1


def test_injected_nmi_does_not_wait(machine: Machine) -> None:
    machine.load("mov ecx, 1; hlt", Mode.PROTECTED)
    machine.handle(2, "mov ebx, 1; hlt", Mode.PROTECTED)
    wanted = kvm_vcpu_events(flags=ALWAYS)
    nmi_is_on_its_way(wanted)
    set_events(machine.vcpu, wanted)
    machine.vcpu.change_regs(rcx=0)
    machine.vcpu.run()
    regs = machine.vcpu.regs()
    assert (regs.rbx, regs.rcx) == (1, 0)


REFUSED = {
    "unknown flag": kvm_vcpu_events(flags=1 << 6),
    "exception payload not enabled": kvm_vcpu_events(flags=PAYLOAD),
    "triple fault not enabled": kvm_vcpu_events(flags=TRIPLE_FAULT),
    "vector of NMI": exception(2),
    "vector beyond exceptions": exception(32),
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(vcpu: Vcpu, wrong: kvm_vcpu_events) -> None:
    vcpu.ioctl(KVM_INTERRUPT, kvm_interrupt(irq=0x31))
    before = bytes(events(vcpu))
    with refused(errno.EINVAL):
        set_events(vcpu, wrong)
    assert bytes(events(vcpu)) == before


@pytest.mark.parametrize("number", [KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS], ids=hex)
def test_only_a_vcpu_has_them(system: System, vm: Vm, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_vcpu_events())
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_vcpu_events())
