"""QEMU as Debian has it, with `-accel kvm`. QEMU's manual, "Invocation".

A guest that switches itself off leaves QEMU standing (`-no-shutdown`), so that it can be asked how
many exits there were; it is told to quit then.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.guests.catalogue import Case
from tools.guests.console import Deadline, Failed
from tools.guests.files import Files, snapshot_disk
from tools.guests.guest import Guest
from tools.guests.vmm.qmp import Qmp

QEMU: Final = "/usr/bin/qemu-system-x86_64"
_OVMF: Final = Path("/usr/share/OVMF")
_START_SECONDS: Final = 60
_MEMORY: Final = {"linux": "256", "memtest": "8", "seabios": "64"}
"""Megabytes, by system."""
_BUS: Final = {"microvm": "device"}
"""How the names of virtio devices end, by machine; elsewhere in `pci`."""

Arguments = list[str | Path]


class QemuGuest(Guest):
    """A guest under QEMU: on KVM, which is kvmshim's then, or not."""

    def __init__(
        self,
        command: Arguments,
        log: Path,
        scratch: Path,
        *,
        on_kvmshim: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        path = scratch / "qmp"
        self.gdb_socket = scratch / "gdb"
        monitored: Arguments = [*command, "-qmp", f"unix:{path},server=on,wait=off"]
        super().__init__(monitored, log, on_kvmshim=on_kvmshim, options=options)
        try:
            self.qmp = Qmp(path, Deadline(_START_SECONDS))
            enabled = self.qmp.execute("query-kvm", Deadline(_START_SECONDS))["enabled"]
            if enabled != on_kvmshim:
                raise Failed("QEMU uses KVM" if enabled else "QEMU does not use KVM")
        except Failed as failed:
            said = self.console.rest()
            super().close()
            raise Failed(f"{failed}: {said}") from None

    def close(self) -> None:
        """See `Guest.close`."""
        self.qmp.close()
        super().close()

    def wait_for_power_off(self, deadline: Deadline) -> None:
        """See `Guest.wait_for_power_off`."""
        self.qmp.wait_for_event("SHUTDOWN", deadline)

    def exits(self) -> int | None:
        """Those of all vCPUs, from their statistics file."""
        wanted = [{"provider": "kvm", "names": ["exits"]}]
        deadline = Deadline(_START_SECONDS)
        per_cpu = self.qmp.execute("query-stats", deadline, target="vcpu", providers=wanted)
        return sum(int(entry["value"]) for cpu in per_cpu for entry in cpu["stats"])


def missing(case: Case) -> str:  # noqa: ARG001
    """It is installed with the rest."""
    return ""


def start(case: Case, files: Files, scratch: Path, log: Path) -> QemuGuest:
    """See `guest.Vmm`."""
    arguments: Arguments = [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
        *("-no-reboot", "-no-shutdown"),
        *("-accel", f"kvm,kernel-irqchip={case.irqchip}"),
        *("-machine", case.machine, "-cpu", case.cpu, "-smp", str(case.smp)),
        *("-m", _MEMORY[case.system]),
        *_firmware(case, scratch),
        *_SYSTEMS[case.system](case, files, scratch),
        *_devices(case, files, scratch),
    ]
    if case.scenario == "snapshot":
        disk = snapshot_disk(scratch / "snapshots")
        arguments += ["-drive", f"if=none,id=snapshots,format=qcow2,file={disk}"]
    if case.scenario == "gdb":
        arguments += ["-gdb", f"unix:{scratch / 'gdb'},server=on,wait=off"]
    return QemuGuest(arguments, log, scratch, options=case.kvmshim)


def _firmware(case: Case, scratch: Path) -> Arguments:
    if case.firmware != "ovmf":
        return []
    variables = shutil.copy(_OVMF / "OVMF_VARS_4M.fd", scratch / "variables")
    code = _OVMF / "OVMF_CODE_4M.fd"
    return [
        *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
    ]


def _linux(case: Case, files: Files, scratch: Path) -> Arguments:
    checks = ",".join(case.all_checks)
    command_line = f"console=ttyS0 panic=-1 guest.checks={checks} guest.cpus={case.smp}"
    if case.minutes:
        command_line += f" guest.minutes={case.minutes}"
    if case.from_disk:
        disk = files.boot_disk(scratch / "disk", command_line)
        return _disk("boot", f"virtio-blk-{_bus(case)},bootindex=0", disk)
    return ["-kernel", files.kernel, "-initrd", files.initramfs, "-append", command_line]


def _memtest(_case: Case, files: Files, _scratch: Path) -> Arguments:
    return ["-kernel", files.memtest, "-append", "console=ttyS0,115200"]


def _seabios(case: Case, _files: Files, _scratch: Path) -> Arguments:
    # Without graphics the firmware talks on the serial line.
    return ["-machine", f"{case.machine},graphics=off", "-boot", "menu=on,splash-time=5000"]


_SYSTEMS: Final = {"linux": _linux, "memtest": _memtest, "seabios": _seabios}


def _devices(case: Case, files: Files, scratch: Path) -> Arguments:
    arguments: Arguments = []
    for name in case.devices:
        virtio = f"{name}-{_bus(case)}"
        match name:
            case "virtio-blk":
                arguments += _disk("data", virtio, files.data_disk(scratch / "data"))
            case "nvme":
                arguments += _disk("nvme", "nvme,serial=1", files.data_disk(scratch / "nvme"))
            case "virtio-net":
                arguments += ["-netdev", f"user,id=net,tftp={files.payload}"]
                arguments += ["-device", f"{virtio},netdev=net"]
            case "virtio-rng":
                arguments += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
                arguments += ["-device", f"{virtio},rng=rng"]
            case _:
                raise ValueError(f"{case.name}: no device {name}")
    return arguments


def _bus(case: Case) -> str:
    return _BUS.get(case.machine, "pci")


def _disk(name: str, device: str, image: Path) -> Arguments:
    return [
        *("-drive", f"if=none,id={name},format=raw,file={image}"),
        *("-device", f"{device},drive={name}"),
    ]
