"""MSR_KVM_STEAL_TIME: waiting for a CPU, and flushes asked of processors that do not run."""

import errno
import os
import signal
import struct
import threading
import time

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_SIGNAL_MSI
from kvmshim.abi.structs_gen import kvm_lapic_state, kvm_msi
from tests.kvm import System, Vcpu, refused
from tests.machine import DATA, RAM_SIZE, Machine, Mode
from tests.paravirt import ENABLED, FEATURES_LEAF, STEAL_TIME

PREEMPTED = 1
FLUSH = 2
VERSION, FLAGS, PREEMPTED_AT = DATA + 8, DATA + 12, DATA + 16

LOOK_SECONDS = 0.01
"""After which the server looks at the steal time of a guest that runs."""


@pytest.fixture
def counted(machine: Machine) -> Machine:
    """A guest that halts again and again, with its steal time at DATA."""
    machine.load("again: hlt; jmp again", Mode.LONG)
    machine.vcpu.set_msrs([(STEAL_TIME, DATA | ENABLED)])
    return machine


def run_delay() -> int:
    """Nanoseconds that this thread has waited for a CPU."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1])


def switch_on(vcpu: Vcpu) -> None:
    """The software-enable bit of the spurious-interrupt register."""
    state = kvm_lapic_state()
    vcpu.ioctl(KVM_GET_LAPIC, state)
    state.regs[0xF1] = 1
    vcpu.ioctl(KVM_SET_LAPIC, state)


def test_features_are_announced(system: System) -> None:
    leaf = next(e for e in system.supported_cpuid() if e.function == FEATURES_LEAF)
    steal_time, tlb_flush = 1 << 5, 1 << 9
    assert leaf.eax & (steal_time | tlb_flush) == steal_time | tlb_flush


def test_each_run_writes_a_version(counted: Machine) -> None:
    for run in range(1, 4):
        assert counted.vcpu.run() == kvm.KVM_EXIT_HLT
        assert counted.peek(VERSION) == 2 * run
        assert (counted.peek(FLAGS), counted.peek(PREEMPTED_AT)) == (0, 0)


def test_nothing_is_written_when_it_is_off(counted: Machine) -> None:
    counted.vcpu.set_msrs([(STEAL_TIME, DATA)])
    counted.vcpu.run()
    assert counted.ram.read(DATA, 64) == bytes(64)


def test_what_the_guest_has_counted_stays(counted: Machine) -> None:
    counted.ram.write(DATA, struct.pack("<QI", 5 * 10**12, 7))
    counted.vcpu.run()
    assert counted.peek(DATA, 8) >= 5 * 10**12
    assert counted.peek(VERSION) == 10


def test_waiting_of_the_clients_thread_is_stolen(counted: Machine) -> None:
    """Two threads on one CPU, until this one has waited for 20 ms."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    done = threading.Event()
    rival = threading.Thread(target=lambda: [None for _ in iter(done.is_set, True)])
    try:
        counted.vcpu.run()
        stolen, waited = counted.peek(DATA, 8), run_delay()
        rival.start()
        while run_delay() - waited < 20 * 10**6:
            time.sleep(0)
    finally:
        done.set()
        rival.join()
        os.sched_setaffinity(0, allowed)
    waited = run_delay() - waited
    counted.vcpu.run()
    assert counted.peek(DATA, 8) - stolen >= waited


def test_where_no_memory_is_nothing_happens(counted: Machine) -> None:
    gpa = RAM_SIZE
    counted.vcpu.set_msrs([(STEAL_TIME, gpa | ENABLED)])
    assert counted.vcpu.run() == kvm.KVM_EXIT_HLT
    assert counted.vcpu.msrs([STEAL_TIME]) == [gpa | ENABLED]


def test_a_processor_that_sleeps_looks_preempted(system: System) -> None:
    """It sleeps in HLT until its timer ends, and runs again behind it."""
    machine = Machine.of(system, controllers=True)
    machine.load("sti; hlt; out 0x55, al", Mode.LONG)
    machine.handle(0x20, "out 0x56, al", Mode.LONG)
    machine.vcpu.set_msrs([(STEAL_TIME, DATA | ENABLED)])
    seen = []

    def watch() -> None:
        while machine.peek(PREEMPTED_AT, 1) != PREEMPTED:
            pass
        seen.append(machine.peek(VERSION))
        machine.vm.ioctl(KVM_SIGNAL_MSI, kvm_msi(address_lo=0xFEE0_0000, data=0x20))

    thread = threading.Thread(target=watch)
    thread.start()
    switch_on(machine.vcpu)
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    thread.join()
    assert machine.vcpu.io.port == 0x56
    assert machine.peek(PREEMPTED_AT, 1) == 0
    assert seen == [2]
    assert machine.peek(VERSION) == 4


def test_a_signal_ends_a_halt_that_outlasted_the_look_at_steal_time(system: System) -> None:
    """A guest that halts for good while its steal time should be looked at every 10 ms."""
    machine = Machine.of(system, controllers=True)
    machine.load("cli; hlt", Mode.LONG)
    machine.vcpu.set_msrs([(STEAL_TIME, DATA | ENABLED)])
    previous = signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    kill = [threading.get_ident(), signal.SIGUSR1]
    timer = threading.Timer(3 * LOOK_SECONDS, signal.pthread_kill, kill)
    timer.start()
    with refused(errno.EINTR):
        machine.vcpu.run()
    timer.join()
    signal.signal(signal.SIGUSR1, previous)
    assert machine.peek(PREEMPTED_AT, 1) == PREEMPTED


def test_a_flush_that_was_asked_for_is_done(counted: Machine) -> None:
    """A page is read, moved behind the guest's back, and read again."""
    page_table = 0x73000
    source = "again: mov rax, [0x400000]; hlt; jmp again"
    counted.load(source, Mode.LONG)
    counted.ram.write(0x72000 + 16, struct.pack("<Q", page_table | 3))
    counted.ram.write(page_table, struct.pack("<Q", 0x5000 | 3))
    counted.ram.write(0x5000, b"old page")
    counted.ram.write(0x6000, b"new page")
    counted.vcpu.run()
    assert counted.vcpu.regs().rax == int.from_bytes(b"old page", "little")
    counted.ram.write(page_table, struct.pack("<Q", 0x6000 | 3))
    counted.ram.write(PREEMPTED_AT, bytes([PREEMPTED | FLUSH]))
    counted.vcpu.run()
    assert counted.vcpu.regs().rax == int.from_bytes(b"new page", "little")
    assert counted.peek(PREEMPTED_AT, 1) == 0
