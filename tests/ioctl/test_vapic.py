"""KVM_TPR_ACCESS_REPORTING and KVM_SET_VAPIC_ADDR: task priorities of guests that are patched."""

import errno
from ctypes import c_uint64

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.msr_index import MSR_IA32_APICBASE, X2APIC_ENABLE
from kvmshim.abi.structs_gen import (
    kvm_lapic_state,
    kvm_tpr_access_ctl,
)
from tests.assembler import assemble
from tests.ioctl.apic import APIC, EOI, MSI_ASSERT, load, message, send, write
from tests.kvm import Region, System, Vcpu, Vm, refused
from tests.machine import CODE, DATA, Machine, Mode

TPR = 0x80
X2APIC_TPR = 0x808
VECTOR = 0x41
INIT = 5 << 8
VAPIC_POLL_IRQ = 1
PLACE = DATA + 0x10


@pytest.fixture
def machine(system: System) -> Machine:
    machine = Machine.of(system, controllers=True)
    machine.vcpu.set_cpuid(system.supported_cpuid())
    return machine


@pytest.fixture
def apic_vcpu(vm: Vm, memory: Region) -> Vcpu:
    """With a page of memory at 64 KiB."""
    vm.ioctl(nr.KVM_CREATE_IRQCHIP)
    vm.set_region(gpa=0x10000, size=0x1000, address=memory.address)
    return vm.create_vcpu(0)


def report(vcpu: Vcpu, *, enabled: int = 1) -> None:
    vcpu.ioctl(nr.KVM_TPR_ACCESS_REPORTING, kvm_tpr_access_ctl(enabled=enabled))


def place(vcpu: Vcpu, address: int) -> None:
    vcpu.ioctl(nr.KVM_SET_VAPIC_ADDR, c_uint64(address))


def port(vcpu: Vcpu) -> int:
    assert vcpu.run() == kvm.KVM_EXIT_IO
    return vcpu.io.port


def task_priority(vcpu: Vcpu) -> int:
    state = kvm_lapic_state()
    vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    return bytes(state)[TPR]


def test_it_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_VAPIC) == 1


@pytest.mark.parametrize(
    ("access", "is_write", "left"),
    [
        (f"mov eax, [{APIC | TPR:#x}]", 0, 0),
        (f"mov al, [{APIC | TPR:#x} + 1]", 0, 0),
        (f"mov dword ptr [{APIC | TPR:#x}], 0x35", 1, 0x35),
        (f"or dword ptr [{APIC | TPR:#x}], 0x21", 1, 0x21),
        (f"push dword ptr [{APIC | TPR:#x}]", 0, 0),
    ],
)
def test_an_access_is_told_when_it_is_done(
    machine: Machine, access: str, is_write: int, left: int
) -> None:
    load(machine, f"nop; {access}; hlt;", {})
    before = assemble(write(0xF0, 0x1FF) + write(0x350, 1 << 16) + "nop", bits=32, origin=CODE)
    report(machine.vcpu)
    machine.vcpu.change_regs(rax=0)
    assert machine.vcpu.run() == kvm.KVM_EXIT_TPR_ACCESS
    told = machine.vcpu.tpr_access
    assert (told.rip, told.is_write) == (CODE + len(before), is_write)
    assert machine.vcpu.regs().rip > told.rip
    assert task_priority(machine.vcpu) == left


def test_the_guest_goes_on_behind_it(machine: Machine) -> None:
    read = f"mov eax, [{APIC | TPR:#x}];"
    load(machine, f"mov dword ptr [{APIC | TPR:#x}], 0x35;" + read, {})
    report(machine.vcpu)
    assert [machine.vcpu.run() for _ in range(2)] == [kvm.KVM_EXIT_TPR_ACCESS] * 2
    assert port(machine.vcpu) == 0x80
    assert machine.vcpu.regs().rax == 0x35


def test_other_registers_and_times_are_not_told(machine: Machine) -> None:
    others = f"mov eax, [{APIC | 0xA0:#x}]; mov eax, [{APIC | 0x84:#x}];" + write(EOI, 0)
    load(machine, others, {})
    report(machine.vcpu)
    assert port(machine.vcpu) == 0x80
    load(machine, write(TPR, 0x20), {})
    report(machine.vcpu, enabled=0)
    assert port(machine.vcpu) == 0x80
    assert task_priority(machine.vcpu) == 0x20


def test_in_x2apic_mode_it_is_told_too(machine: Machine) -> None:
    base = machine.vcpu.msrs([MSR_IA32_APICBASE])[0]
    machine.vcpu.set_msrs([(MSR_IA32_APICBASE, base | X2APIC_ENABLE)])
    machine.load(f"mov ecx, {X2APIC_TPR}; mov eax, 0x45; wrmsr; rdmsr; hlt", Mode.LONG)
    machine.vcpu.change_regs(rdx=0)
    report(machine.vcpu)
    writes = []
    for _ in range(2):
        assert machine.vcpu.run() == kvm.KVM_EXIT_TPR_ACCESS
        writes.append(machine.vcpu.tpr_access.is_write)
    assert writes == [1, 0]
    assert (task_priority(machine.vcpu), machine.vcpu.regs().rax) == (0x45, 0x45)
    assert machine.vcpu.sregs().cr8 == 4


def test_by_cr8_it_is_not_told(machine: Machine) -> None:
    machine.load("mov eax, 3; mov cr8, rax; mov rax, cr8; out 0x80, al", Mode.LONG)
    report(machine.vcpu)
    assert port(machine.vcpu) == 0x80


def test_flags_are_refused(machine: Machine) -> None:
    with refused(errno.EINVAL):
        machine.vcpu.ioctl(nr.KVM_TPR_ACCESS_REPORTING, kvm_tpr_access_ctl(enabled=1, flags=1))


def test_reports_need_no_local_apic(vcpu: Vcpu) -> None:
    report(vcpu)
    report(vcpu, enabled=0)


@pytest.mark.parametrize("address", [0, 0x10000, 0x10FFC], ids=hex)
def test_address_is_taken(apic_vcpu: Vcpu, address: int) -> None:
    place(apic_vcpu, address)


@pytest.mark.parametrize("address", [0xF000, 0x10FFD, 0x11000, 1 << 52, (1 << 64) - 4], ids=hex)
def test_address_without_memory_is_refused(apic_vcpu: Vcpu, address: int) -> None:
    with refused(errno.EINVAL):
        place(apic_vcpu, address)


def test_read_only_memory_is_refused(machine: Machine) -> None:
    machine.vm.set_region(
        slot=1,
        gpa=0x100000,
        size=0x1000,
        address=machine.ram.address,
        flags=kvm.KVM_MEM_READONLY,
    )
    with refused(errno.EINVAL):
        place(machine.vcpu, 0x100000)


def test_without_a_local_apic_it_is_refused(vcpu: Vcpu) -> None:
    with refused(errno.EINVAL):
        place(vcpu, 0)


@pytest.mark.parametrize("number", [nr.KVM_SET_VAPIC_ADDR, nr.KVM_TPR_ACCESS_REPORTING], ids=hex)
def test_only_a_vcpu_has_it(system: System, vm: Vm, number: int) -> None:
    with refused(errno.EINVAL):
        system.ioctl(number, kvm_tpr_access_ctl())
    with refused(errno.ENOTTY):
        vm.ioctl(number, kvm_tpr_access_ctl())


@pytest.mark.parametrize("address", [PLACE, PLACE + 1, 0x4FFE], ids=hex)
def test_guest_sees_its_task_priority_there(machine: Machine, address: int) -> None:
    """At any address, that of two pages too."""
    load(machine, write(TPR, 0x35), {})
    place(machine.vcpu, address)
    assert port(machine.vcpu) == 0x80
    assert machine.ram.read(address, 4) == b"\x35\0\0\0"


def test_guest_sees_what_is_requested_and_in_service(machine: Machine) -> None:
    load(machine, "", {VECTOR: f"mov eax, [{PLACE}]; out 0x81, eax;" + write(EOI, 0) + "iretd"})
    place(machine.vcpu, PLACE)
    assert port(machine.vcpu) == 0x80
    send(machine.vm, message(VECTOR))
    assert port(machine.vcpu) == 0x81
    assert machine.vcpu.io_data == bytes([0, VECTOR & 0xF0, 0, 0])


def test_what_the_guest_writes_there_holds_interrupts_back(
    system: System, machine: Machine
) -> None:
    """It calls when it has made it lower."""
    is_amd = system.supported_cpuid()[0].ebx == int.from_bytes(b"Auth", "little")
    call = f"mov eax, {VAPIC_POLL_IRQ}; {'vmmcall' if is_amd else 'vmcall'};"
    source = f"mov byte ptr [{PLACE}], 0x50; sti; out 0x82, al; nop; out 0x83, al;"
    source += f"mov byte ptr [{PLACE}], 0x3F; {call}"
    load(machine, source, {VECTOR: write(EOI, 0) + "out 0x81, al; iretd"})
    place(machine.vcpu, PLACE)
    assert port(machine.vcpu) == 0x82
    send(machine.vm, message(VECTOR))
    assert port(machine.vcpu) == 0x83
    assert task_priority(machine.vcpu) == 0x50
    assert machine.vcpu.sregs().cr8 == 5
    assert machine.ram.read(PLACE, 4) == bytes([0x50, 0, 0, VECTOR])
    assert port(machine.vcpu) == 0x81
    assert task_priority(machine.vcpu) == 0x3F


def test_a_write_of_the_register_counts_too(machine: Machine) -> None:
    load(machine, f"mov byte ptr [{PLACE}], 0x50;" + write(TPR, 0x23), {})
    place(machine.vcpu, PLACE)
    assert port(machine.vcpu) == 0x80
    assert (machine.peek(PLACE), task_priority(machine.vcpu)) == (0x23, 0x23)


def test_between_runs_the_register_counts(machine: Machine) -> None:
    load(machine, "", {})
    place(machine.vcpu, PLACE)
    machine.ram.write(PLACE, b"\x50")
    machine.vcpu.mp_state()
    assert task_priority(machine.vcpu) == 0
    assert port(machine.vcpu) == 0x80
    state = kvm_lapic_state()
    machine.vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    state.regs[TPR] = 0x61
    machine.vcpu.ioctl(nr.KVM_SET_LAPIC, state)
    machine.ram.write(PLACE, b"\x50")
    machine.vcpu.mp_state()
    image = bytes(state)
    machine.vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    assert bytes(state)[TPR] == image[TPR]


def test_no_place_is_left_alone(machine: Machine) -> None:
    place(machine.vcpu, PLACE)
    place(machine.vcpu, 0)
    machine.ram.write(PLACE, b"\x50\1\2\3")
    load(machine, write(TPR, 0x23), {})
    assert port(machine.vcpu) == 0x80
    assert machine.ram.read(PLACE, 4) == b"\x50\1\2\3"
    assert task_priority(machine.vcpu) == 0x23


def test_init_ends_it(machine: Machine) -> None:
    machine.ram.write(0x3000, assemble("out 0x82, al; hlt", bits=16, origin=0))
    machine.ram.write(PLACE, b"\x50\1\2\3")
    other = machine.vm.create_vcpu(1)
    place(other, PLACE)
    send(machine.vm, message(0, 1, INIT | MSI_ASSERT))
    send(machine.vm, message(3, 1, 6 << 8))
    assert port(other) == 0x82
    assert machine.ram.read(PLACE, 4) == b"\x50\1\2\3"
    assert other.sregs().cr8 == 0


def test_where_the_memory_has_gone_the_register_counts(machine: Machine) -> None:
    page = machine.vm.add_region(slot=1, gpa=0x100000, size=0x1000)
    place(machine.vcpu, 0x100000)
    machine.vm.set_region(slot=1, gpa=0x100000, size=0, address=page.address)
    load(machine, write(TPR, 0x23), {})
    assert port(machine.vcpu) == 0x80
    assert task_priority(machine.vcpu) == 0x23
