"""The VMs of all daemons, and the one that a person means."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvmshim.control.protocol import Json
from kvmshim.observe.daemon import Daemon, ObserveError, daemons

_LOG: Final = logging.getLogger(__name__)
NOBODY: Final = (
    "no kvmshim serves here for you; start one (`kvmshim run -- CMD`), or ask as its user or root"
)


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM as `list` has it, and the socket of its daemon."""

    socket: Path
    facts: Json

    @property
    def name(self) -> str:
        """Process and number, `4711-0`."""
        name: str = self.facts["vm"]
        return name

    @property
    def vcpus(self) -> list[int]:
        """The numbers of its vCPUs."""
        return [vcpu["vcpu"] for vcpu in self.facts["vcpus"]]


def all_vms() -> list[Vm]:
    """The VMs of all daemons. ObserveError: there is no daemon."""
    found, served = [], False
    for daemon in daemons():
        served = True
        try:
            found += [Vm(daemon.path, facts) for facts in daemon.ask("list")["vms"]]
        except ObserveError as error:
            # The others' are worth a look all the same.
            _LOG.warning("%s", error)
    if not served:
        raise ObserveError(NOBODY)
    return found


def find_vm(name: str | None) -> Vm:
    """The VM of a name, of a process that has one VM, or, without a name, the only one.

    ObserveError: there is none, or more than one.
    """
    vms = all_vms()
    meant = [vm for vm in vms if name in (None, vm.name, str(vm.facts["process"]))]
    exact = [vm for vm in meant if vm.name == name]
    found = exact or meant
    there = ", ".join(f"{vm.name} ({vm.facts['command']})" for vm in vms) or "none at the moment"
    if not found:
        what = "no VM" if name is None else f"no VM {name!r}"
        raise ObserveError(f"there is {what}; there are: {there}")
    if len(found) > 1:
        raise ObserveError(f"which VM? there are: {there}")
    return found[0]


def find_vcpus(vm: Vm, number: int | None) -> list[int]:
    """The vCPU of a number, or all without one. ObserveError: there is none."""
    if number is None:
        return vm.vcpus
    if number not in vm.vcpus:
        there = ", ".join(map(str, vm.vcpus)) or "none"
        raise ObserveError(f"VM {vm.name} has no vCPU {number}; it has: {there}")
    return [number]


def connect(vm: Vm) -> Daemon:
    """A connection to the daemon of a VM. ObserveError: it has ended."""
    try:
        return Daemon(vm.socket)
    except OSError as error:
        raise ObserveError(f"the daemon of VM {vm.name} has ended") from error
