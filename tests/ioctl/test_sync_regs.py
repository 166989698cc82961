"""KVM_CAP_SYNC_REGS: registers that travel in `kvm_run`."""

import errno
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_VCPU_EVENTS
from kvmshim.abi.structs_gen import KVM_RUN_SYNC_OFFSET, kvm_sync_regs, kvm_vcpu_events
from tests.kvm import System, Vcpu, refused
from tests.machine import CODE, Machine, Mode

REGS: Final = kvm.KVM_SYNC_X86_REGS
SREGS: Final = kvm.KVM_SYNC_X86_SREGS
EVENTS: Final = kvm.KVM_SYNC_X86_EVENTS
ALL: Final = REGS | SREGS | EVENTS


def synced(vcpu: Vcpu) -> kvm_sync_regs:
    """The registers in `kvm_run`."""
    return kvm_sync_regs.from_address(vcpu.run_address + KVM_RUN_SYNC_OFFSET)


@pytest.fixture
def counting(machine: Machine) -> Machine:
    """A guest that leaves by HLT, and has added 1 to RBX before each."""
    machine.load("again: inc bx; hlt; jmp again", Mode.REAL)
    return machine


def test_capability_tells_the_sets(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_SYNC_REGS) == ALL


def test_valid_sets_are_stored_at_the_exit(counting: Machine) -> None:
    vcpu = counting.vcpu
    vcpu.state.kvm_valid_regs = ALL
    assert vcpu.run() == kvm.KVM_EXIT_HLT
    events = kvm_vcpu_events()
    vcpu.ioctl(KVM_GET_VCPU_EVENTS, events)
    assert bytes(synced(vcpu).regs) == bytes(vcpu.regs())
    assert bytes(synced(vcpu).sregs) == bytes(vcpu.sregs())
    assert bytes(synced(vcpu).events) == bytes(events)
    assert synced(vcpu).regs.rbx == 1


@pytest.mark.parametrize("valid", [0, REGS, SREGS, EVENTS])
def test_other_sets_stay_as_they_are(counting: Machine, valid: int) -> None:
    vcpu, marks = counting.vcpu, bytes([0xA5]) * 8
    parts = {REGS: kvm_sync_regs.regs, SREGS: kvm_sync_regs.sregs, EVENTS: kvm_sync_regs.events}
    image = (kvm_sync_regs).from_buffer_copy(b"\xa5" * len(bytes(kvm_sync_regs())))
    synced(vcpu).regs, synced(vcpu).sregs, synced(vcpu).events = (
        image.regs,
        image.sregs,
        image.events,
    )
    vcpu.state.kvm_valid_regs = valid
    vcpu.run()
    found = bytes(synced(vcpu))
    for field, part in parts.items():
        assert (found[part.offset : part.offset + 8] != marks) == (field == valid)


def test_dirty_registers_are_loaded_and_the_bits_cleared(counting: Machine) -> None:
    vcpu = counting.vcpu
    vcpu.state.kvm_valid_regs = REGS
    vcpu.run()
    synced(vcpu).regs.rbx = 0x41
    vcpu.state.kvm_dirty_regs = REGS
    assert vcpu.run() == kvm.KVM_EXIT_HLT
    assert vcpu.state.kvm_dirty_regs == 0
    assert synced(vcpu).regs.rbx == vcpu.regs().rbx == 0x42


def test_registers_that_are_not_dirty_are_not_loaded(counting: Machine) -> None:
    vcpu = counting.vcpu
    vcpu.state.kvm_valid_regs = REGS
    vcpu.run()
    synced(vcpu).regs.rbx = 0x41
    vcpu.run()
    assert synced(vcpu).regs.rbx == 2


def test_nothing_needs_to_be_valid_to_be_dirty(counting: Machine) -> None:
    vcpu = counting.vcpu
    synced(vcpu).regs = vcpu.regs()
    synced(vcpu).regs.rbx = 0x41
    vcpu.state.kvm_dirty_regs = REGS
    vcpu.run()
    assert vcpu.regs().rbx == 0x42
    assert synced(vcpu).regs.rbx == 0x41


def test_system_registers_are_loaded(counting: Machine) -> None:
    vcpu = counting.vcpu
    sregs = vcpu.sregs()
    sregs.cs.base = 0x10
    synced(vcpu).sregs = sregs
    counting.vcpu.change_regs(rip=CODE - 0x10)
    vcpu.state.kvm_dirty_regs = SREGS
    assert vcpu.run() == kvm.KVM_EXIT_HLT
    assert vcpu.sregs().cs.base == 0x10


def test_events_are_loaded(counting: Machine) -> None:
    counting.handle(6, "mov bx, 0x99; hlt", Mode.REAL)
    events = kvm_vcpu_events()
    events.exception.injected, events.exception.nr = 1, 6
    synced(counting.vcpu).events = events
    counting.vcpu.state.kvm_dirty_regs = EVENTS
    counting.vcpu.run()
    assert counting.vcpu.regs().rbx == 0x99


@pytest.mark.parametrize("field", ["kvm_valid_regs", "kvm_dirty_regs"])
@pytest.mark.parametrize("value", [8, 1 << 63, ALL | 8], ids=hex)
def test_unknown_sets_are_refused(counting: Machine, field: str, value: int) -> None:
    setattr(counting.vcpu.state, field, value)
    with refused(errno.EINVAL):
        counting.vcpu.run()
    assert counting.vcpu.regs().rip == CODE


def test_illegal_registers_are_refused_and_stay_dirty(counting: Machine) -> None:
    vcpu = counting.vcpu
    synced(vcpu).regs, synced(vcpu).sregs = vcpu.regs(), vcpu.sregs()
    synced(vcpu).sregs.cr4 = 1 << 63
    vcpu.state.kvm_dirty_regs = REGS | SREGS
    with refused(errno.EINVAL):
        vcpu.run()
    assert vcpu.state.kvm_dirty_regs == SREGS
    assert vcpu.sregs().cr4 == 0


def test_interrupted_run_stores_too(counting: Machine) -> None:
    vcpu = counting.vcpu
    vcpu.state.kvm_valid_regs = REGS
    vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        vcpu.run()
    assert bytes(synced(vcpu).regs) == bytes(vcpu.regs())
