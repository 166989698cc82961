"""When a command is not traced for CPUID, and the processor's own way to catch it."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

from kvmshim.client import cpuid_faulting, cpuid_watch
from kvmshim.client import ptrace_ffi as ptrace
from kvmshim.client.cpuid import CpuidPolicy, Override
from kvmshim.client.cpuid_emulator import CpuidEmulator
from kvmshim.client.cpuid_faulting import Faulting
from kvmshim.client.cpuid_ffi import HostCpuid
from kvmshim.client.process import Process, ThreadStatus
from kvmshim.client.threads import nobody
from kvmshim.client.watch import Watch
from tests.deadline import deadline
from tests.leftovers import wait_until
from tests.unit.kvmshim.client.puppet import Puppet

START = ptrace.Registers(*[0] * 27)._replace(rip=0x1000, orig_rax=(1 << 64) - 1)
INSTRUCTION = b"\x0f\xa2"


@pytest.fixture
def child_signals() -> Iterator[int]:
    """A descriptor that is never readable stands for the signalfd."""
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def _show_the_host(monkeypatch: pytest.MonkeyPatch, policy: CpuidPolicy) -> None:
    monkeypatch.setattr(CpuidPolicy, "for_host", lambda _execute: policy)


def test_host_that_lacks_nothing_leaves_the_command_untraced(
    puppet: Puppet, child_signals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _show_the_host(monkeypatch, CpuidPolicy(()))
    with cpuid_watch.emulated_cpuid(puppet.pid, child_signals):
        assert ThreadStatus.of(puppet.pid).tracer == 0


def test_command_that_may_not_be_traced_goes_on_with_one_warning(
    puppet: Puppet,
    child_signals: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_tid: int, _options: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    _show_the_host(monkeypatch, CpuidPolicy((Override(0, "ecx", clear=(1 << 32) - 1),)))
    monkeypatch.setattr(ptrace, "seize", refuse)
    with caplog.at_level(logging.WARNING), cpuid_watch.emulated_cpuid(puppet.pid, child_signals):
        assert puppet.peek(puppet.map(4096)) == 0
    assert len(caplog.records) == 1


def test_threads_of_a_command_that_was_killed_are_all_stopped(
    puppet: Puppet, child_signals: int
) -> None:
    watch = Watch(puppet.pid, _faulting(), child_signals)
    tracing = watch.tracing(Process(puppet.pid))
    assert tracing is not None
    os.kill(puppet.pid, signal.SIGKILL)
    with deadline(20):
        wait_until(lambda: ThreadStatus.of(puppet.pid).dead)
        tracing.run(lambda tracees: tracees.release_all(tracees.stop_all(nobody)))
    watch.end()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, ptrace.Registers]:
    """A thread at a CPUID instruction that has faulted; its registers."""
    thread = {"registers": START}

    def store(_tid: int, registers: ptrace.Registers) -> None:
        thread["registers"] = registers

    monkeypatch.setattr(ptrace, "get_registers", lambda _tid: thread["registers"])
    monkeypatch.setattr(ptrace, "set_registers", store)
    monkeypatch.setattr(ptrace, "signal_code", lambda _tid: ptrace.SI_KERNEL)
    monkeypatch.setattr(cpuid_faulting, "read_available", lambda _tid, _at, _size: INSTRUCTION)
    return thread


def _faulting() -> Faulting:
    policy = CpuidPolicy((Override(0, "ecx", set=0xFFFF_FFFF),))
    return Faulting(CpuidEmulator(HostCpuid(), policy))


def _own_process() -> Process:
    return Process(os.getpid())


def test_fault_of_the_instruction_is_answered(faults: dict[str, ptrace.Registers]) -> None:
    delivered = _faulting().signalled(_own_process(), os.getpid(), signal.SIGSEGV)
    assert (delivered, faults["registers"].rip) == (0, START.rip + len(INSTRUCTION))
    assert faults["registers"].rcx == 0xFFFF_FFFF


@pytest.mark.usefixtures("faults")
def test_other_signal_is_passed_on() -> None:
    assert _faulting().signalled(_own_process(), os.getpid(), signal.SIGILL) == signal.SIGILL


@pytest.mark.usefixtures("faults")
def test_sigsegv_that_somebody_sent_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptrace, "signal_code", lambda _tid: 0)
    assert _faulting().signalled(_own_process(), os.getpid(), signal.SIGSEGV) == signal.SIGSEGV


@pytest.mark.usefixtures("faults")
def test_fault_of_another_instruction_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpuid_faulting, "read_available", lambda _tid, _at, _size: b"\xf4\x90")
    assert _faulting().signalled(_own_process(), os.getpid(), signal.SIGSEGV) == signal.SIGSEGV
