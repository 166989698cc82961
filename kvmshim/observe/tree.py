"""The facts about VMs as a tree of files: which names there are, what a file says now.

    vms/4711-0/{command,memory,slots,irqchip,exits}
    vms/4711-0/vcpus/0/{state,regs,lapic,exits,instructions}

Nothing is kept: every name and every line is what the daemons say at that moment.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kvmshim.control.protocol import Json
from kvmshim.observe.daemon import ObserveError
from kvmshim.observe.local_apic import local_apic_text
from kvmshim.observe.registers import registers_text
from kvmshim.observe.standing import state_text
from kvmshim.observe.vms import Vm, all_vms, connect

Path = tuple[str, ...]
"""Names from the root on."""


class NoSuchFileError(Exception):
    """There is nothing of this name, at least not any more."""


def names(path: Path) -> list[str]:
    """What is in a directory. NoSuchFileError."""
    match path:
        case ():
            return ["vms"]
        case ("vms",):
            return [vm.name for vm in _vms()]
        case ("vms", name):
            _vm(name)
            return [*_OF_VM, "exits", "vcpus"]
        case ("vms", name, "vcpus"):
            return [str(vcpu) for vcpu in _vm(name).vcpus]
        case ("vms", name, "vcpus", number):
            _vcpu(name, number)
            return [*_OF_VCPU]
    raise NoSuchFileError


def check(path: Path) -> None:
    """NoSuchFileError: there is nothing of this name."""
    if path and path[-1] not in names(path[:-1]):
        raise NoSuchFileError


def is_directory(path: Path) -> bool:
    """Whether a name that there is stands for a directory."""
    return len(path) in (0, 1, 2, 4) or (len(path) == 3 and path[-1] == "vcpus")


def contents(path: Path) -> bytes:
    """What a file says now. NoSuchFileError."""
    match path:
        case ("vms", name, file) if file == "exits" or file in _OF_VM:
            vm = _vm(name)
            if file == "exits":
                return _lines(_exits_of_all(vm.facts))
            return _lines(_OF_VM[file](_ask(vm, "vm")))
        case ("vms", name, "vcpus", number, file) if file in _OF_VCPU:
            do, text = _OF_VCPU[file]
            return _lines(text(_ask(_vcpu(name, number), do, vcpu=int(number))))
    raise NoSuchFileError


def _vms() -> list[Vm]:
    try:
        return all_vms()
    except ObserveError:
        # No daemon, no VM.
        return []


def _vm(name: str) -> Vm:
    for vm in _vms():
        if vm.name == name:
            return vm
    raise NoSuchFileError


def _vcpu(name: str, number: str) -> Vm:
    vm = _vm(name)
    if number not in map(str, vm.vcpus):
        raise NoSuchFileError
    return vm


def _ask(vm: Vm, do: str, **arguments: Any) -> Json:
    try:
        with connect(vm) as daemon:
            return daemon.ask(do, vm=vm.name, **arguments)
    except ObserveError as error:
        raise NoSuchFileError from error


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _pairs(pairs: Mapping[str, Any]) -> list[str]:
    return [f"{name} {value}" for name, value in pairs.items()]


def _slots(answer: Json) -> list[str]:
    names = ("space", "slot", "guest_phys_addr", "memory_size", "userspace_addr", "flags")
    rows = [names, *([str(slot[name]) for name in names] for slot in answer["slots"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _irqchip(answer: Json) -> list[str]:
    lines = []
    for name, value in answer["irqchip"].items():
        if not isinstance(value, dict):
            lines.append(f"{name} {str(value).lower()}")
            continue
        pins = value.get("redirtbl", [])
        lines += [f"{name} {register} {held}" for register, held in value.items() if held != pins]
        lines += [f"{name} redirtbl {pin} {entry}" for pin, entry in enumerate(pins)]
    return lines


def _exits_of_all(facts: Json) -> list[str]:
    together: dict[str, int] = {}
    for vcpu in facts["vcpus"]:
        for reason, count in vcpu["exits"].items():
            together[reason] = together.get(reason, 0) + count
    return _pairs(together)


_OF_VM: Final[dict[str, Callable[[Json], Iterable[str]]]] = {
    "command": lambda answer: [answer["command"]],
    "memory": lambda answer: _pairs(answer["memory"]),
    "slots": _slots,
    "irqchip": _irqchip,
}
_OF_VCPU: Final[dict[str, tuple[str, Callable[[Json], Iterable[str]]]]] = {
    "state": ("vcpu", lambda answer: [state_text(answer["state"])]),
    "regs": ("regs", lambda answer: [registers_text(answer)]),
    "lapic": ("lapic", lambda answer: [local_apic_text(answer)]),
    "exits": ("vcpu", lambda answer: _pairs(answer["exits"])),
    "instructions": ("vcpu", lambda answer: [str(answer["instructions"])]),
}
