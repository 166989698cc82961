"""KVM_SET_SIGNAL_MASK: which signals end KVM_RUN, whatever the thread blocks."""

import ctypes
import errno
import signal
import threading
from collections.abc import Iterator

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT, KVM_EXIT_INTR
from kvmshim.abi.ioctls_gen import KVM_SET_SIGNAL_MASK
from tests.kvm import System, Vcpu, Vm, refused
from tests.leftovers import wait_until
from tests.machine import DATA, Machine, Mode

NOTHING = 0
ALL = (1 << 64) - 1
SET_BYTES = 8
USR1 = 1 << signal.SIGUSR1 - 1
STOP = DATA + 4


def signal_mask(blocked: int, length: int = SET_BYTES) -> ctypes.Array[ctypes.c_char]:
    """`struct kvm_signal_mask` and its set."""
    packed = length.to_bytes(4, "little") + blocked.to_bytes(SET_BYTES, "little")
    return ctypes.create_string_buffer(packed, len(packed))


def set_mask(vcpu: Vcpu, blocked: int) -> None:
    vcpu.ioctl(KVM_SET_SIGNAL_MASK, signal_mask(blocked))


@pytest.fixture
def blocked_signal() -> Iterator[None]:
    """SIGUSR1 is blocked, and none is left pending."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    yield
    while signal.SIGUSR1 in signal.sigpending():
        signal.sigwait([signal.SIGUSR1])
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def spinning(machine: Machine) -> Machine:
    """A guest that counts at DATA until the byte at STOP is set."""
    machine.load(
        f"spin: inc dword ptr [{DATA}]; cmp byte ptr [{STOP}], 0; je spin; hlt", Mode.PROTECTED
    )
    return machine


def send_signal() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)


def when_it_runs(machine: Machine, *, then_stop: bool = False) -> threading.Thread:
    """Sends SIGUSR1 once the guest counts; and ends the guest after it has counted on."""

    def wait_for_guest() -> None:
        before = machine.peek(DATA)
        wait_until(lambda: machine.peek(DATA) != before)

    def act() -> None:
        wait_for_guest()
        send_signal()
        if then_stop:
            wait_for_guest()
            machine.ram.write(STOP, b"\1")

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


@pytest.mark.usefixtures("blocked_signal")
def test_signal_that_the_mask_lets_through_ends_the_run_and_stays_pending(
    spinning: Machine,
) -> None:
    set_mask(spinning.vcpu, NOTHING)
    thread = when_it_runs(spinning)
    with refused(errno.EINTR):
        spinning.vcpu.run()
    thread.join()
    assert spinning.vcpu.state.exit_reason == KVM_EXIT_INTR
    assert signal.SIGUSR1 in signal.sigpending()


@pytest.mark.usefixtures("blocked_signal")
def test_signal_that_was_pending_before_ends_the_run(spinning: Machine) -> None:
    set_mask(spinning.vcpu, ALL & ~USR1)
    send_signal()
    for _ in range(2):
        with refused(errno.EINTR):
            spinning.vcpu.run()


@pytest.mark.usefixtures("blocked_signal")
def test_guest_goes_on_when_the_signal_is_taken(spinning: Machine) -> None:
    set_mask(spinning.vcpu, NOTHING)
    send_signal()
    with refused(errno.EINTR):
        spinning.vcpu.run()
    signal.sigwait([signal.SIGUSR1])
    spinning.ram.write(STOP, b"\1")
    assert spinning.vcpu.run() == KVM_EXIT_HLT


@pytest.mark.usefixtures("blocked_signal")
@pytest.mark.parametrize("blocked", [ALL, USR1], ids=["all", "one"])
def test_signal_that_mask_and_thread_block_does_not_end_the_run(
    spinning: Machine, blocked: int
) -> None:
    set_mask(spinning.vcpu, blocked)
    thread = when_it_runs(spinning, then_stop=True)
    assert spinning.vcpu.run() == KVM_EXIT_HLT
    thread.join()


@pytest.mark.usefixtures("blocked_signal")
def test_second_mask_replaces_the_first(spinning: Machine) -> None:
    set_mask(spinning.vcpu, NOTHING)
    set_mask(spinning.vcpu, ALL)
    thread = when_it_runs(spinning, then_stop=True)
    assert spinning.vcpu.run() == KVM_EXIT_HLT
    thread.join()


@pytest.mark.usefixtures("blocked_signal")
def test_vcpus_have_masks_of_their_own(machine: Machine) -> None:
    set_mask(machine.vm.create_vcpu(1), NOTHING)
    send_signal()
    machine.load("hlt", Mode.REAL)
    assert machine.vcpu.run() == KVM_EXIT_HLT


@pytest.mark.parametrize("length", [0, 4, 16, 0xFFFF_FFFF])
def test_set_of_another_length_is_refused(vcpu: Vcpu, length: int) -> None:
    with refused(errno.EINVAL):
        vcpu.ioctl(KVM_SET_SIGNAL_MASK, signal_mask(NOTHING, length))


@pytest.mark.parametrize("address", [0, 1, 0xFFFF_FFFF_FFFF_F000])
def test_pointer_to_nothing_is_refused(vcpu: Vcpu, address: int) -> None:
    with refused(errno.EFAULT):
        vcpu.ioctl(KVM_SET_SIGNAL_MASK, address)


def test_only_a_vcpu_has_a_mask(system: System, vm: Vm) -> None:
    with refused(errno.EINVAL):
        system.ioctl(KVM_SET_SIGNAL_MASK, signal_mask(NOTHING))
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_SET_SIGNAL_MASK, signal_mask(NOTHING))
