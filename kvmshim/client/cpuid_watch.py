"""The emulated processor's CPUID for a command of `kvmshim run` and all its descendants."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kvmshim.client.client import Client
from kvmshim.client.cpuid import CpuidPolicy
from kvmshim.client.cpuid_breakpoints import Breakpoints
from kvmshim.client.cpuid_catcher import CpuidCatcher
from kvmshim.client.cpuid_emulator import CpuidEmulator
from kvmshim.client.cpuid_faulting import Faulting
from kvmshim.client.cpuid_ffi import HostCpuid, host_can_fault
from kvmshim.client.watch import Watch
from kvmshim.errors import KvmError

log = logging.getLogger(__name__)


@contextmanager
def emulated_cpuid(command: int, child_signals: int) -> Iterator[None]:
    """For the time of the body, which starts the child `command` and sees its end.

    `child_signals` as for `Watch`. Without effect where the host's processor shows all that the
    emulated one has, and, with a warning, where the command cannot be traced.
    """
    watch = _watch(command, child_signals)
    try:
        yield
    finally:
        if watch is not None:
            watch.end()


def _watch(command: int, child_signals: int) -> Watch | None:
    try:
        host = HostCpuid()
        policy = CpuidPolicy.for_host(host.execute)
        if not policy.differs(host.execute):
            return None
        watch = Watch(command, _catcher(CpuidEmulator(host, policy)), child_signals)
    except (OSError, KvmError) as error:
        log.warning("CPUID shows the host's processor to the command: %s", error)
        return None
    Client.traced_by(watch)
    return watch


def _catcher(emulator: CpuidEmulator) -> CpuidCatcher:
    return Faulting(emulator) if host_can_fault() else Breakpoints(emulator)
