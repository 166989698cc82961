"""The host's side: a thread in KVM_RUN for each vCPU."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from tests.deadline import patient
from tests.kvm import System, Vcpu
from tests.machine import Machine

STOP_SECONDS: Final = patient(10)
CPUID_TSC_DEADLINE: Final = 1 << 24
"""In ECX of leaf 1."""


class Runner(threading.Thread):
    """Keeps a vCPU in KVM_RUN until it is stopped; `told` is set by its port exit."""

    def __init__(self, vcpu: Vcpu) -> None:
        super().__init__(daemon=True)
        self.vcpu = vcpu
        self.interruptions = 0
        self.interrupted = threading.Condition()
        self.told = threading.Event()
        self.unexpected: list[int] = []
        """Other exits, and errors."""
        self.stopping = False

    def run(self) -> None:
        """All of the thread's life.

        A kick may come after its last KVM_RUN: blocked, its signal dies with the thread. Otherwise
        it could reach the thread when `join` has returned and SIGUSR1 ends the process again.
        """
        self.keep_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    def keep_running(self) -> None:
        while not self.unexpected:
            try:
                reason = self.vcpu.run()
            except OSError as error:
                if error.errno != errno.EINTR:
                    self.unexpected.append(error.errno or 0)
                if self.note_interruption():
                    return
                continue
            if reason == kvm.KVM_EXIT_IO:
                self.told.set()
            else:
                self.unexpected.append(reason)
                self.told.set()

    def note_interruption(self) -> bool:
        """Whether it was the last."""
        with self.interrupted:
            if self.vcpu.state.immediate_exit:
                self.vcpu.state.immediate_exit = 0
                self.interruptions += 1
            self.interrupted.notify_all()
            return self.stopping

    def kick(self) -> int:
        """Makes KVM_RUN end with EINTR; what `interruptions` is to become."""
        assert self.ident is not None
        with self.interrupted:
            wanted = self.interruptions + 1
            self.vcpu.state.immediate_exit = 1
        signal.pthread_kill(self.ident, signal.SIGUSR1)
        return wanted

    def wait_for(self, interruptions: int) -> None:
        with self.interrupted:
            self.interrupted.wait_for(lambda: self.interruptions >= interruptions)


class Crew:
    """The vCPUs of a machine, running."""

    def __init__(self, machine: Machine, processors: int, system: System) -> None:
        self.machine = machine
        cpuid = with_deadline_timer(system.supported_cpuid())
        others = [machine.vm.create_vcpu(number) for number in range(1, processors)]
        for vcpu in [machine.vcpu, *others]:
            vcpu.set_cpuid(cpuid)
        self.runners = [Runner(vcpu) for vcpu in [machine.vcpu, *others]]

    def kick_all(self) -> None:
        """Every vCPU leaves KVM_RUN, and comes back."""
        wanted = [runner.kick() for runner in self.runners]
        for runner, interruptions in zip(self.runners, wanted, strict=True):
            runner.wait_for(interruptions)

    def finish(self) -> None:
        """Waits for the guest's word; nothing else may have happened."""
        self.runners[0].told.wait()
        assert [runner.unexpected for runner in self.runners] == [[] for _ in self.runners]

    def stop(self) -> None:
        for runner in self.runners:
            runner.stopping = True
            if runner.is_alive():
                runner.kick()
        for runner in self.runners:
            runner.join(STOP_SECONDS)
        assert not any(runner.is_alive() for runner in self.runners)


def with_deadline_timer(entries: list[kvm_cpuid_entry2]) -> list[kvm_cpuid_entry2]:
    """KVM tells of it by a capability, not by KVM_GET_SUPPORTED_CPUID."""
    for entry in entries:
        if entry.function == 1:
            entry.ecx |= CPUID_TSC_DEADLINE
    return entries


@contextmanager
def running(machine: Machine, processors: int, system: System) -> Iterator[Crew]:
    """All vCPUs run until the end of the body. SIGUSR1 interrupts."""
    previous = signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    crew = Crew(machine, processors, system)
    for runner in crew.runners:
        runner.start()
    try:
        yield crew
    finally:
        crew.stop()
        signal.signal(signal.SIGUSR1, previous)
