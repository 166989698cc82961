"""KVM_RUN, INTR: how signals and immediate_exit end it, with EINTR."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT, KVM_EXIT_INTR
from kvmshim.abi.structs_gen import kvm_run
from tests.kvm import refused
from tests.leftovers import wait_until
from tests.machine import CODE, DATA, Machine, Mode

STOP = DATA + 4
OTHER_DATA = DATA + 8
SPIN = f"spin: inc dword ptr [{{}}]; cmp byte ptr [{STOP}], 0; je spin; hlt"
"""Counts at RBX and never leaves until the byte at STOP is set."""
REGISTER = {Mode.PROTECTED: "ebx", Mode.LONG: "rbx"}


def load_spin(machine: Machine, counter: int = DATA, mode: Mode = Mode.LONG) -> None:
    """Makes the guest count at `counter`."""
    machine.load(SPIN.format(REGISTER[mode]), mode)
    machine.vcpu.change_regs(rbx=counter)


@pytest.fixture(params=list(REGISTER), ids=["interpreted", "translated"])
def spinning(machine: Machine, request: pytest.FixtureRequest) -> Machine:
    load_spin(machine, mode=request.param)
    return machine


@pytest.fixture
def empty_handler() -> Iterator[None]:
    """SIGUSR1 has a handler that does nothing."""
    previous = signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    yield
    signal.signal(signal.SIGUSR1, previous)


@pytest.fixture
def ignored_signal() -> Iterator[None]:
    """SIGUSR1 is ignored."""
    previous = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGUSR1, previous)


def wait_for_guest(machine: Machine, counter: int = DATA) -> None:
    """Returns when the guest counts, that is inside KVM_RUN."""
    before = machine.peek(counter)
    wait_until(lambda: machine.peek(counter) != before)


def send_signal() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)


def meanwhile(*steps: Callable[[], None]) -> threading.Thread:
    """Does `steps` in another thread, while this one is in KVM_RUN."""

    def do_all() -> None:
        for step in steps:
            step()

    thread = threading.Thread(target=do_all, daemon=True)
    thread.start()
    return thread


@pytest.mark.usefixtures("empty_handler")
@pytest.mark.parametrize("restart", [False, True], ids=["plain", "SA_RESTART"])
def test_signal_interrupts_a_guest_that_never_exits(spinning: Machine, restart: bool) -> None:
    signal.siginterrupt(signal.SIGUSR1, not restart)
    thread = meanwhile(lambda: wait_for_guest(spinning), send_signal)
    with refused(errno.EINTR):
        spinning.vcpu.run()
    thread.join()
    assert spinning.vcpu.state.exit_reason == KVM_EXIT_INTR


@pytest.mark.usefixtures("empty_handler")
def test_guest_goes_on_where_it_was_interrupted(spinning: Machine) -> None:
    thread = meanwhile(lambda: wait_for_guest(spinning), send_signal)
    with refused(errno.EINTR):
        spinning.vcpu.run()
    thread.join()
    counted = spinning.peek(DATA)
    spinning.ram.write(STOP, b"\1")
    assert spinning.vcpu.run() == KVM_EXIT_HLT
    assert counted <= spinning.peek(DATA) <= counted + 1


@pytest.mark.usefixtures("ignored_signal")
def test_ignored_signal_does_not_interrupt(spinning: Machine) -> None:
    thread = meanwhile(
        lambda: wait_for_guest(spinning),
        send_signal,
        lambda: wait_for_guest(spinning),
        lambda: spinning.ram.write(STOP, b"\1"),
    )
    assert spinning.vcpu.run() == KVM_EXIT_HLT
    thread.join()


@pytest.mark.usefixtures("empty_handler")
def test_blocked_signal_does_not_interrupt(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    reason = machine.vcpu.run()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert reason == KVM_EXIT_HLT


def test_immediate_exit_lets_no_instruction_run(machine: Machine) -> None:
    machine.load("inc bx; hlt", Mode.REAL)
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    assert (machine.vcpu.regs().rbx, machine.vcpu.regs().rip) == (0, CODE)


def test_immediate_exit_stays_until_the_client_clears_it(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    machine.vcpu.state.immediate_exit = 1
    for _ in range(3):
        with refused(errno.EINTR):
            machine.vcpu.run()
    machine.vcpu.state.immediate_exit = 0
    assert machine.vcpu.run() == KVM_EXIT_HLT


def test_immediate_exit_leaves_the_exit_reason(machine: Machine) -> None:
    machine.load("hlt; inc bx; hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    machine.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    assert machine.vcpu.state.exit_reason == KVM_EXIT_HLT


def test_immediate_exit_counts_through_any_mapping(machine: Machine) -> None:
    machine.load("hlt", Mode.REAL)
    kvm_run.from_address(machine.vcpu.map_run()).immediate_exit = 1
    with refused(errno.EINTR):
        machine.vcpu.run()
    assert (machine.vcpu.regs().rbx, machine.vcpu.regs().rip) == (0, CODE)


@pytest.mark.usefixtures("empty_handler")
def test_signal_interrupts_one_vcpu_only(system_machines: tuple[Machine, Machine]) -> None:
    here, there = system_machines
    reasons: list[int] = []
    other = threading.Thread(target=lambda: reasons.append(there.vcpu.run()), daemon=True)
    other.start()
    wait_for_guest(there, OTHER_DATA)
    thread = meanwhile(lambda: wait_for_guest(here), send_signal)
    with refused(errno.EINTR):
        here.vcpu.run()
    thread.join()
    wait_for_guest(there, OTHER_DATA)
    there.ram.write(STOP, b"\1")
    other.join()
    assert reasons == [KVM_EXIT_HLT]


@pytest.fixture
def system_machines(machine: Machine) -> tuple[Machine, Machine]:
    """Two spinning vCPUs of one VM, which count and stop together."""
    second = Machine(machine.vm, machine.vm.create_vcpu(1), machine.ram)
    load_spin(machine)
    load_spin(second, OTHER_DATA)
    return machine, second
