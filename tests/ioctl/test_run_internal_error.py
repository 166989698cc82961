"""KVM_RUN, INTERNAL_ERROR: instructions that cannot be fetched."""

import ctypes

import pytest

from kvmshim.abi.constants_gen import (
    KVM_EXIT_HLT,
    KVM_EXIT_INTERNAL_ERROR,
    KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
)
from tests.kvm import Vcpu
from tests.machine import CODE, RAM_SIZE, Machine, Mode

HEAD = bytes.fromhex("b811")
"""The first bytes of `mov eax, imm32`."""
SPLIT = RAM_SIZE - len(HEAD)
"""Where it stands: its other bytes are not in memory."""


@pytest.fixture
def split(machine: Machine) -> Machine:
    """A guest that jumps to an instruction of which only the first bytes are there."""
    machine.load(f"mov ecx, {SPLIT}; jmp ecx; hlt", Mode.PROTECTED)
    machine.ram.write(SPLIT, HEAD)
    return machine


def instruction_bytes(vcpu: Vcpu) -> bytes:
    """`emulation_failure.insn_bytes`: behind the flags, a length and up to 15 bytes."""
    failure = ctypes.string_at(ctypes.addressof(vcpu.internal.data), 24)
    return failure[9 : 9 + failure[8]]


def test_code_where_no_memory_is(machine: Machine) -> None:
    machine.load(f"mov eax, {RAM_SIZE}; jmp eax", Mode.PROTECTED)
    assert machine.vcpu.run() == KVM_EXIT_INTERNAL_ERROR
    assert machine.vcpu.internal.suberror == KVM_INTERNAL_ERROR_EMULATION
    assert machine.vcpu.regs().rip == RAM_SIZE


def test_vm_without_any_memory(machine: Machine) -> None:
    machine.vm.set_region(slot=0, size=0, address=0)
    assert machine.vcpu.run() == KVM_EXIT_INTERNAL_ERROR
    assert machine.vcpu.internal.suberror == KVM_INTERNAL_ERROR_EMULATION


def test_instruction_that_cannot_be_fetched_whole(split: Machine) -> None:
    assert split.vcpu.run() == KVM_EXIT_INTERNAL_ERROR
    assert split.vcpu.internal.suberror == KVM_INTERNAL_ERROR_EMULATION


def test_rip_is_at_the_instruction(split: Machine) -> None:
    split.vcpu.run()
    assert split.vcpu.regs().rip == SPLIT


def test_bytes_of_the_instruction_are_reported(split: Machine) -> None:
    split.vcpu.run()
    flags = split.vcpu.internal.data[0]
    assert flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    assert instruction_bytes(split.vcpu) == HEAD


def test_client_may_step_over_the_instruction(split: Machine) -> None:
    split.vcpu.run()
    split.vcpu.change_regs(rip=CODE + 7)
    assert split.vcpu.run() == KVM_EXIT_HLT
