"""KVM_RUN, FAIL_ENTRY: a guest state that the processor refuses to enter (APM 2, VMRUN checks)."""

from kvmshim.abi.constants_gen import KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT
from tests.machine import CODE, Machine, Mode

VMEXIT_INVALID = 0xFFFF_FFFF
"""Low half of the exit code that SVM gives for invalid guest state."""


def with_impossible_cs(machine: Machine, source: str) -> Machine:
    """In long mode a code segment of 64 and of 32 bits at once."""
    machine.load(source, Mode.LONG)
    sregs = machine.vcpu.sregs()
    sregs.cs.db = 1
    machine.vcpu.set_sregs(sregs)
    return machine


def test_impossible_state_is_not_entered(machine: Machine) -> None:
    with_impossible_cs(machine, "inc rbx; hlt")
    assert machine.vcpu.run() == KVM_EXIT_FAIL_ENTRY
    assert (machine.vcpu.regs().rip, machine.vcpu.regs().rbx) == (CODE, 0)


def test_reason_is_the_one_of_the_hardware(machine: Machine) -> None:
    with_impossible_cs(machine, "hlt")
    machine.vcpu.run()
    reason = machine.vcpu.fail_entry.hardware_entry_failure_reason
    assert reason & 0xFFFF_FFFF == VMEXIT_INVALID


def test_every_try_fails_the_same_way(machine: Machine) -> None:
    with_impossible_cs(machine, "hlt")
    assert [machine.vcpu.run() for _ in range(3)] == [KVM_EXIT_FAIL_ENTRY] * 3


def test_mended_state_is_entered(machine: Machine) -> None:
    with_impossible_cs(machine, "inc rbx; hlt")
    machine.vcpu.run()
    sregs = machine.vcpu.sregs()
    sregs.cs.db = 0
    machine.vcpu.set_sregs(sregs)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    assert machine.vcpu.regs().rbx == 1
