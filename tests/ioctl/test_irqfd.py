"""KVM_IRQFD: eventfds that raise lines, by edge and by level, by the routing of the moment."""

import errno
import os
import select
import threading
from collections.abc import Iterator

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi.structs_gen import kvm_ioapic_state, kvm_irq_level, kvm_irqchip, kvm_irqfd
from tests.ioctl.apic import EOI, load, message, route, split_machine, write
from tests.kvm import System, Vm, refused
from tests.machine import Machine

RESAMPLE = kvm.KVM_IRQFD_FLAG_RESAMPLE
DEASSIGN = kvm.KVM_IRQFD_FLAG_DEASSIGN
GSI = 10
IOAPIC = 0xFEC0_0000
VECTOR = 0x41
OTHER_VECTOR = 0x42
IOAPIC_LEVEL = 1 << 15


@pytest.fixture
def machine(system: System) -> Machine:
    return Machine.of(system, controllers=True)


@pytest.fixture
def eventfds() -> Iterator[list[int]]:
    """Two eventfds: to raise, and to be told of the end."""
    fds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
    yield fds
    for fd in fds:
        os.close(fd)


def irqfd(vm: Vm, **fields: int) -> None:
    vm.ioctl(nr.KVM_IRQFD, kvm_irqfd(gsi=GSI, **fields))


def pin(number: int, low: int) -> str:
    """Instructions that write the lower half of a pin's entry in the IOAPIC."""
    select_ = f"mov dword ptr [{IOAPIC:#x}], {0x10 + 2 * number:#x};"
    return f"{select_} mov dword ptr [{IOAPIC + 0x10:#x}], {low:#x};"


def is_told(fd: int) -> bool:
    """Waits for the eventfd, and empties it."""
    ready, _, _ = select.select([fd], [], [], 10)
    return bool(ready) and os.eventfd_read(fd) > 0


def pulse(vm: Vm) -> None:
    """Raises the line by KVM_IRQ_LINE."""
    for level in (1, 0):
        vm.ioctl(nr.KVM_IRQ_LINE, kvm_irq_level(irq=GSI, level=level))


def is_high(vm: Vm) -> bool:
    """As the IOAPIC sees the line."""
    chip = kvm_irqchip(chip_id=kvm.KVM_IRQCHIP_IOAPIC)
    vm.ioctl(nr.KVM_GET_IRQCHIP, chip)
    return bool(kvm_ioapic_state.from_buffer_copy(bytes(chip)[8:]).irr >> GSI & 1)


def wait_until_high(vm: Vm) -> None:
    """An eventfd's signal raises the line a moment later."""
    while not is_high(vm):
        pass


def test_each_signal_is_a_pulse(machine: Machine, eventfds: list[int]) -> None:
    raise_, _ = eventfds
    handler = write(EOI, 0) + "out 0x81, al; iretd"
    load(machine, pin(GSI, VECTOR), {VECTOR: handler})
    irqfd(machine.vm, fd=raise_)
    assert machine.vcpu.port() == 0x80
    for _ in range(3):
        os.eventfd_write(raise_, 1)
        assert machine.vcpu.port() == 0x81


@pytest.mark.parametrize("trigger", [0, IOAPIC_LEVEL], ids=["edge", "level"])
def test_a_line_falls_with_its_end_and_the_end_is_told(
    machine: Machine, eventfds: list[int], trigger: int
) -> None:
    raise_, told = eventfds
    handler = "out 0x81, al;" + write(EOI, 0) + "out 0x82, al; iretd"
    load(machine, pin(GSI, VECTOR | trigger), {VECTOR: handler})
    irqfd(machine.vm, fd=raise_, resamplefd=told, flags=RESAMPLE)
    assert machine.vcpu.port() == 0x80
    for _ in range(3):
        os.eventfd_write(raise_, 1)
        assert machine.vcpu.port() == 0x81
        with pytest.raises(BlockingIOError):
            os.eventfd_read(told)
        assert machine.vcpu.port() == 0x82
        assert is_told(told)


def test_the_end_is_told_whoever_raised_the_line(machine: Machine, eventfds: list[int]) -> None:
    raise_, told = eventfds
    handler = write(EOI, 0) + "out 0x82, al; iretd"
    load(machine, pin(GSI, VECTOR), {VECTOR: handler})
    irqfd(machine.vm, fd=raise_, resamplefd=told, flags=RESAMPLE)
    assert machine.vcpu.port() == 0x80
    pulse(machine.vm)
    assert machine.vcpu.port() == 0x82
    assert is_told(told)


def test_a_level_that_ends_interrupts_once(machine: Machine, eventfds: list[int]) -> None:
    raise_, told = eventfds
    handler = "out 0x81, al;" + write(EOI, 0) + "iretd"
    source = pin(GSI, VECTOR | IOAPIC_LEVEL) + "out 0x80, al; sti; nop; out 0x83, al; out 0x84, al;"
    load(machine, source, {VECTOR: handler})
    irqfd(machine.vm, fd=raise_, resamplefd=told, flags=RESAMPLE)
    assert machine.vcpu.port() == 0x80
    os.eventfd_write(raise_, 1)
    wait_until_high(machine.vm)
    assert [machine.vcpu.port() for _ in range(3)] == [0x81, 0x83, 0x84]
    assert is_told(told)


def test_deassigned_it_lets_the_line_fall(machine: Machine, eventfds: list[int]) -> None:
    raise_, told = eventfds
    load(machine, "out 0x80, al;" + pin(GSI, VECTOR | IOAPIC_LEVEL), {VECTOR: "out 0x81, al; hlt"})
    irqfd(machine.vm, fd=raise_, resamplefd=told, flags=RESAMPLE)
    assert machine.vcpu.port() == 0x80
    os.eventfd_write(raise_, 1)
    wait_until_high(machine.vm)
    irqfd(machine.vm, fd=raise_, flags=DEASSIGN)
    assert not is_high(machine.vm)


def test_a_device_that_is_told_raises_again(machine: Machine, eventfds: list[int]) -> None:
    raise_, told = eventfds
    handler = "out 0x81, al;" + write(EOI, 0) + "iretd"
    load(machine, pin(GSI, VECTOR | IOAPIC_LEVEL), {VECTOR: handler})
    irqfd(machine.vm, fd=raise_, resamplefd=told, flags=RESAMPLE)
    assert machine.vcpu.port() == 0x80

    def raise_again() -> None:
        for _ in range(3):
            assert is_told(told)
            os.eventfd_write(raise_, 1)

    device = threading.Thread(target=raise_again)
    device.start()
    os.eventfd_write(raise_, 1)
    for _ in range(4):
        assert machine.vcpu.port() == 0x81
    device.join()


def test_a_signal_from_before_counts(machine: Machine, eventfds: list[int]) -> None:
    raise_, _ = eventfds
    load(machine, pin(GSI, VECTOR), {VECTOR: "out 0x81, al; iretd"})
    assert machine.vcpu.port() == 0x80
    os.eventfd_write(raise_, 1)
    irqfd(machine.vm, fd=raise_)
    assert machine.vcpu.port() == 0x81


def test_routing_replaced_while_live(machine: Machine, eventfds: list[int]) -> None:
    raise_, _ = eventfds
    end = write(EOI, 0)
    load(
        machine,
        "",
        {VECTOR: end + "out 0x81, al; iretd", OTHER_VECTOR: end + "out 0x82, al; iretd"},
    )
    irqfd(machine.vm, fd=raise_)
    assert machine.vcpu.port() == 0x80
    for vector, told in [(VECTOR, 0x81), (OTHER_VECTOR, 0x82), (VECTOR, 0x81)]:
        route(machine.vm, {GSI: message(vector)})
        os.eventfd_write(raise_, 1)
        assert machine.vcpu.port() == told


def test_deassigned_it_raises_nothing(machine: Machine, eventfds: list[int]) -> None:
    raise_, other = eventfds
    end = write(EOI, 0)
    load(machine, "", {VECTOR: end + "out 0x81, al; iretd", OTHER_VECTOR: "out 0x82, al; iretd"})
    route(machine.vm, {GSI: message(VECTOR), GSI + 1: message(OTHER_VECTOR)})
    irqfd(machine.vm, fd=raise_)
    irqfd(machine.vm, fd=raise_, flags=DEASSIGN)
    machine.vm.ioctl(nr.KVM_IRQFD, kvm_irqfd(fd=other, gsi=GSI + 1))
    assert machine.vcpu.port() == 0x80
    os.eventfd_write(raise_, 1)
    os.eventfd_write(other, 1)
    assert machine.vcpu.port() == 0x82
    assert os.eventfd_read(raise_) == 1, "nobody has read it"


def test_deassigning_what_was_not_assigned_is_no_error(
    machine: Machine, eventfds: list[int]
) -> None:
    irqfd(machine.vm, fd=eventfds[0], flags=DEASSIGN)


def test_one_eventfd_raises_one_line(machine: Machine, eventfds: list[int]) -> None:
    irqfd(machine.vm, fd=eventfds[0])
    with refused(errno.EBUSY):
        machine.vm.ioctl(nr.KVM_IRQFD, kvm_irqfd(fd=eventfds[0], gsi=GSI + 1))


def test_what_is_no_eventfd(machine: Machine) -> None:
    with open("/dev/null") as file, refused(errno.EINVAL):
        irqfd(machine.vm, fd=file.fileno())
    with refused(errno.EBADF):
        irqfd(machine.vm, fd=1 << 20)
    with refused(errno.EBADF):
        irqfd(machine.vm, fd=0xFFFF_FFFF)


def test_what_is_no_eventfd_to_be_told_by(machine: Machine, eventfds: list[int]) -> None:
    with open("/dev/null") as file, refused(errno.EINVAL):
        irqfd(machine.vm, fd=eventfds[0], resamplefd=file.fileno(), flags=RESAMPLE)
    with refused(errno.EBADF):
        irqfd(machine.vm, fd=eventfds[0], resamplefd=1 << 20, flags=RESAMPLE)


@pytest.mark.parametrize("flags", [4, 0x8000_0000])
def test_unknown_flags(machine: Machine, eventfds: list[int], flags: int) -> None:
    with refused(errno.EINVAL):
        irqfd(machine.vm, fd=eventfds[0], flags=flags)


def test_without_controllers(vm: Vm, eventfds: list[int]) -> None:
    with refused(errno.EINVAL):
        irqfd(vm, fd=eventfds[0])


def test_resampling_needs_the_ioapic(system: System, eventfds: list[int]) -> None:
    raise_, told = eventfds
    with refused(errno.EINVAL):
        irqfd(split_machine(system).vm, fd=raise_, resamplefd=told, flags=RESAMPLE)
