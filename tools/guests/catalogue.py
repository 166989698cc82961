"""What guests there are: `catalogue.toml`, whose head says what its keys mean."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("catalogue.toml")
_CHECKS = ("cpus", "files", "pipes", "fork", "date")


@dataclass(frozen=True)
class Case:
    """One guest."""

    name: str
    vmm: str
    system: str = "linux"
    scenario: str = "boot"
    machine: str = ""
    irqchip: str = "on"
    smp: int = 1
    cpu: str = "host"
    hypervisor: str = "KVM"
    kvmshim: tuple[str, ...] = ()
    firmware: str = ""
    from_disk: bool = False
    devices: tuple[str, ...] = ()
    checks: tuple[str, ...] = _CHECKS
    ci: bool = True
    seconds: float = 300
    minutes: int = 0
    note: str = ""

    @property
    def all_checks(self) -> list[str]:
        """Those of the system and of its devices."""
        return [*self.checks, *(device.replace("-", "_") for device in self.devices)]

    @property
    def file_name(self) -> str:
        """The name where a file is called after it."""
        return f"{self.vmm}-{self.name}".lower().replace(", ", "-").replace(" ", "-")


def load(path: Path = PATH) -> list[Case]:
    """All cases, as they are written."""
    with path.open("rb") as file:
        tables = tomllib.load(file)
    return [_case(name, table) for name, table in tables.items()]


def _case(name: str, table: dict[str, Any]) -> Case:
    values = dict(table)
    if "from" in values:
        values["from_disk"] = {"disk": True, "kernel": False}[values.pop("from")]
    for key in ("devices", "checks", "kvmshim"):
        if key in values:
            values[key] = tuple(values[key])
    unknown = values.keys() - {field.name for field in fields(Case)}
    if unknown:
        raise ValueError(f"{name} has unknown keys: {unknown}")
    return Case(name, **values)
