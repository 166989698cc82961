"""KVM_RUN, INTERNAL_ERROR: instructions that cannot be fetched or are not emulated."""

import ctypes

import pytest

from kvmshim.abi.constants_gen import (
    KVM_EXIT_HLT,
    KVM_EXIT_INTERNAL_ERROR,
    KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
)
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from tests.kvm import Vcpu
from tests.machine import CODE, RAM_SIZE, Machine, Mode

CPUID_FPU = 1 << 0
CPUID_FXSR = 1 << 24
CPUID_SSE = 1 << 25
CPUID_SSE2 = 1 << 26
CR4_OSFXSR = 1 << 9

# KVM has no form of this instruction that reads from a device.
NOT_EMULATED = f"mov eax, {RAM_SIZE}; addps xmm0, [eax]; hlt"


@pytest.fixture
def with_sse(machine: Machine) -> Machine:
    """A guest that is told of SSE and has switched it on, before an ADDPS from a device."""
    features = CPUID_FPU | CPUID_FXSR | CPUID_SSE | CPUID_SSE2
    machine.vcpu.set_cpuid(
        [kvm_cpuid_entry2(function=0, eax=1), kvm_cpuid_entry2(function=1, edx=features)]
    )
    machine.load(NOT_EMULATED, Mode.PROTECTED)
    sregs = machine.vcpu.sregs()
    sregs.cr4 |= CR4_OSFXSR
    machine.vcpu.set_sregs(sregs)
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


def test_instruction_that_is_not_emulated(with_sse: Machine) -> None:
    assert with_sse.vcpu.run() == KVM_EXIT_INTERNAL_ERROR
    assert with_sse.vcpu.internal.suberror == KVM_INTERNAL_ERROR_EMULATION


def test_rip_is_at_the_instruction(with_sse: Machine) -> None:
    with_sse.vcpu.run()
    assert with_sse.vcpu.regs().rip == CODE + 5


def test_bytes_of_the_instruction_are_reported(with_sse: Machine) -> None:
    with_sse.vcpu.run()
    flags = with_sse.vcpu.internal.data[0]
    assert flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    assert instruction_bytes(with_sse.vcpu).startswith(b"\x0f\x58\x00")


def test_client_may_step_over_the_instruction(with_sse: Machine) -> None:
    with_sse.vcpu.run()
    with_sse.vcpu.change_regs(rip=CODE + 8)
    assert with_sse.vcpu.run() == KVM_EXIT_HLT


def test_slot_added_later_mends_a_missing_page(machine: Machine) -> None:
    machine.load(f"mov eax, {RAM_SIZE}; jmp eax", Mode.PROTECTED)
    machine.vcpu.run()
    machine.vm.add_region(slot=1, gpa=RAM_SIZE, size=0x1000).write(0, b"\xf4")
    assert machine.vcpu.run() == KVM_EXIT_HLT
