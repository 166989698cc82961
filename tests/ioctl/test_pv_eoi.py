"""MSR_KVM_PV_EOI_EN: interrupts whose end the guest tells by a bit in its memory."""

import threading

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import (
    kvm_irq_level,
    kvm_lapic_state,
)
from tests.ioctl.apic import EOI, MSI_ASSERT, load, message, send, write
from tests.kvm import System, Vcpu
from tests.machine import DATA, RAM_SIZE, Machine, Mode
from tests.paravirt import ENABLED, FEATURES_LEAF, PV_EOI_EN

MODE = Mode.PROTECTED
LOW = 0x41
HIGH = 0x91
GP = 13
ISR = 0x100
IRR = 0x200
INIT = 5 << 8

IOAPIC = 0xFEC0_0000
IOAPIC_DATA = IOAPIC + 0x10
IOAPIC_LEVEL = 1 << 15
PIN = 5


def end(last: str) -> str:
    """The end of an interrupt: by the bit, else by the register. In AL is whether by the bit."""
    by_register = write(EOI, 0)
    return f"btr dword ptr [{DATA}], 0; setc al; jc spared; {by_register} spared: {last}; iretd"


@pytest.fixture
def machine(system: System) -> Machine:
    """A guest that halts with interrupts on; at each it tells how it has ended it."""
    machine = Machine.of(system, controllers=True)
    load(machine, "", {LOW: end("out 0x81, al"), HIGH: end("out 0x82, al")})
    assert machine.vcpu.set_msrs([(PV_EOI_EN, DATA | ENABLED)]) == 1
    assert port(machine.vcpu) == 0x80
    return machine


def port(vcpu: Vcpu) -> int:
    assert vcpu.run() == kvm.KVM_EXIT_IO
    return vcpu.io.port


def told(vcpu: Vcpu) -> tuple[int, bool]:
    """The port of the next exit, and whether the interrupt was ended by the bit."""
    return port(vcpu), vcpu.io_data == b"\1"


def lapic(vcpu: Vcpu) -> bytes:
    state = kvm_lapic_state()
    vcpu.ioctl(nr.KVM_GET_LAPIC, state)
    return bytes(state)


def vectors(vcpu: Vcpu, register: int) -> list[int]:
    """Those in the ISR or IRR."""
    image = lapic(vcpu)
    words = [int.from_bytes(image[register + 16 * word :][:4], "little") for word in range(8)]
    return [vector for vector in range(256) if words[vector // 32] >> vector % 32 & 1]


def test_it_is_announced(system: System) -> None:
    leaf = next(e for e in system.supported_cpuid() if e.function == FEATURES_LEAF)
    assert leaf.eax >> 6 & 1


def test_a_lone_interrupt_needs_no_end(machine: Machine) -> None:
    for _ in range(3):
        assert send(machine.vm, message(LOW)) == 1
        assert told(machine.vcpu) == (0x81, True)
        assert vectors(machine.vcpu, ISR) == []
        assert machine.peek(DATA) == 0


def test_the_bit_is_the_lowest_of_a_byte(machine: Machine) -> None:
    machine.ram.write(DATA, b"\xfe\x55\x66\x77")
    source = f"mov eax, [{DATA}]; out 0x83, eax; hlt"
    machine.handle(LOW, source, MODE)
    send(machine.vm, message(LOW))
    assert port(machine.vcpu) == 0x83
    assert machine.vcpu.io_data == b"\1\x55\x66\x77"


def test_without_the_msr_every_interrupt_is_ended(machine: Machine) -> None:
    machine.vcpu.set_msrs([(PV_EOI_EN, DATA)])
    send(machine.vm, message(LOW))
    assert told(machine.vcpu) == (0x81, False)
    assert vectors(machine.vcpu, ISR) == []


def test_one_that_others_wait_behind_is_ended(machine: Machine) -> None:
    for vector in (LOW, HIGH):
        send(machine.vm, message(vector))
    assert told(machine.vcpu) == (0x82, False)
    assert told(machine.vcpu) == (0x81, True)


def test_one_of_a_level_line_is_ended(machine: Machine) -> None:
    """The I/O APIC waits for it."""
    entry = f"mov dword ptr [{IOAPIC:#x}], {0x10 + 2 * PIN};"
    entry += f"mov dword ptr [{IOAPIC_DATA:#x}], {LOW | IOAPIC_LEVEL:#x};"
    load(machine, entry, {LOW: end("out 0x81, al")})
    assert port(machine.vcpu) == 0x80
    machine.vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=PIN, level=1))
    assert told(machine.vcpu) == (0x81, False)
    machine.vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=PIN, level=0))
    assert told(machine.vcpu) == (0x81, False), "it was still high at the end of the first"


def test_the_bit_is_taken_back_when_the_guest_is_left(machine: Machine) -> None:
    machine.handle(LOW, "out 0x83, al;" + end("out 0x81, al"), MODE)
    send(machine.vm, message(LOW))
    assert port(machine.vcpu) == 0x83
    assert machine.peek(DATA) == 0
    assert vectors(machine.vcpu, ISR) == [LOW]
    assert told(machine.vcpu) == (0x81, False)
    assert vectors(machine.vcpu, ISR) == []


def test_saved_in_service_it_is_restored_in_service(system: System, machine: Machine) -> None:
    machine.handle(LOW, "out 0x83, al;" + end("out 0x81, al"), MODE)
    send(machine.vm, message(LOW))
    assert port(machine.vcpu) == 0x83
    image, ram = lapic(machine.vcpu), machine.ram.read(0, RAM_SIZE)
    regs, sregs = machine.vcpu.regs(), machine.vcpu.sregs()
    msrs = machine.vcpu.msrs([PV_EOI_EN])

    other = Machine.of(system, controllers=True)
    other.ram.write(0, ram)
    other.vcpu.set_sregs(sregs)
    other.vcpu.set_regs(regs)
    assert other.vcpu.set_msrs([(PV_EOI_EN, msrs[0])]) == 1
    other.vcpu.ioctl(nr.KVM_SET_LAPIC, kvm_lapic_state.from_buffer_copy(image))
    assert (lapic(other.vcpu), other.vcpu.msrs([PV_EOI_EN])) == (image, msrs)
    # The port write is the other machine's, which has it behind it.
    other.vcpu.change_regs(rip=regs.rip + 2)
    assert told(other.vcpu) == (0x81, False)
    other.handle(LOW, end("out 0x81, al"), MODE)
    send(other.vm, message(LOW))
    assert told(other.vcpu) == (0x81, True)


def test_a_look_at_the_local_apic_takes_it_back(machine: Machine) -> None:
    """The guest ends it by the bit, and then sees nothing in service."""
    look = f"mov eax, [{0xFEE0_0000 | ISR + 16 * (LOW // 32):#x}]; out 0x84, eax;"
    machine.handle(LOW, f"btr dword ptr [{DATA}], 0;" + look + "iretd", MODE)
    send(machine.vm, message(LOW))
    assert port(machine.vcpu) == 0x84
    assert machine.vcpu.io_data == bytes(4)


def test_one_that_is_interrupted_is_ended_by_the_register(machine: Machine) -> None:
    """The other one comes while the first is in service, and is spared alone."""
    nested = f"mov dword ptr [{0xFEE0_0000 | 0x300:#x}], {1 << 18 | HIGH:#x}; sti; nop;"
    machine.handle(LOW, nested + end("out 0x81, al"), MODE)
    send(machine.vm, message(LOW))
    assert told(machine.vcpu) == (0x82, True)
    assert vectors(machine.vcpu, ISR) == [LOW]
    assert told(machine.vcpu) == (0x81, False)
    assert vectors(machine.vcpu, ISR) == []


@pytest.mark.parametrize("msr", [DATA | 2, DATA | 3, RAM_SIZE | ENABLED, 1 << 60 | ENABLED])
def test_bad_values_are_refused(machine: Machine, msr: int) -> None:
    assert machine.vcpu.set_msrs([(PV_EOI_EN, msr)]) == 0
    source = f"mov ecx, {PV_EOI_EN}; mov eax, {msr & 0xFFFF_FFFF}; mov edx, {msr >> 32}; wrmsr;"
    load(machine, source, {GP: "out 0x85, al; hlt"})
    assert port(machine.vcpu) == 0x85
    assert machine.vcpu.msrs([PV_EOI_EN]) == [DATA | ENABLED]


def test_read_only_memory_is_refused(machine: Machine) -> None:
    machine.vm.set_region(
        slot=1,
        gpa=0x100000,
        size=0x1000,
        address=machine.ram.address,
        flags=kvm.KVM_MEM_READONLY,
    )
    assert machine.vcpu.set_msrs([(PV_EOI_EN, 0x100000 | ENABLED)]) == 0
    assert machine.vcpu.set_msrs([(PV_EOI_EN, 0x100000)]) == 1


def test_where_the_memory_has_gone_interrupts_are_ended(machine: Machine) -> None:
    page = machine.vm.add_region(slot=1, gpa=0x100000, size=0x1000)
    assert machine.vcpu.set_msrs([(PV_EOI_EN, 0x100000 | ENABLED)]) == 1
    machine.vm.set_region(slot=1, gpa=0x100000, size=0, address=page.address)
    send(machine.vm, message(LOW))
    assert told(machine.vcpu) == (0x81, False)
    assert vectors(machine.vcpu, ISR) == []


def test_init_ends_it(machine: Machine) -> None:
    other = machine.vm.create_vcpu(1)
    assert other.set_msrs([(PV_EOI_EN, DATA | ENABLED)]) == 1
    send(machine.vm, message(0, 1, INIT | MSI_ASSERT))
    assert other.mp_state() == kvm.KVM_MP_STATE_INIT_RECEIVED
    assert other.msrs([PV_EOI_EN]) == [0]


def test_nothing_is_lost_in_a_storm_of_two_priorities(machine: Machine) -> None:
    """Each thread sends its vector again as soon as it was handled; the lower is interrupted."""
    rounds = 300
    counters = {LOW: DATA + 8, HIGH: DATA + 12}

    def handler(vector: int, before: str) -> str:
        return f"push eax; {before} inc dword ptr [{counters[vector]}];" + end("pop eax")

    both = f"mov eax, [{counters[LOW]}]; add eax, [{counters[HIGH]}]; cmp eax, {2 * rounds};"
    wait = f"more: {both} jb more; out 0x86, al;"
    load(machine, "sti;" + wait, {LOW: handler(LOW, "sti;"), HIGH: handler(HIGH, "")})

    def storm(vector: int) -> None:
        for sent in range(1, rounds + 1):
            send(machine.vm, message(vector))
            while machine.peek(counters[vector]) < sent:
                pass

    threads = [threading.Thread(target=storm, args=(vector,)) for vector in counters]
    for thread in threads:
        thread.start()
    assert port(machine.vcpu) == 0x86
    for thread in threads:
        thread.join()
    assert [machine.peek(at) for at in counters.values()] == [rounds] * 2
    assert vectors(machine.vcpu, ISR) + vectors(machine.vcpu, IRR) == []
