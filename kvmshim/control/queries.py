"""What can be asked of a daemon, and where the answers come from.

Every answer is taken without a lock of the VM's: a client that hangs in an ioctl is just what
somebody wants to look at. So what belongs together may be a moment apart, but for the registers of
one vCPU.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kvmshim.control.local_apic import local_apic
from kvmshim.control.protocol import Request, RequestError
from kvmshim.control.registers import registers
from kvmshim.control.tracing import Tracing, Wishes
from kvmshim.objects.living import Living
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip, Vm
from microv import abi_gen as mv
from microv.ops import irqchip as irqchip_op
from microv.ops import observe
from microv.ops import vm as vm_op
from microv.ops import vs as vs_op
from microv.status import MvError

_ACTIVITIES: Final = {
    mv.MV_ACTIVITY_ROOT: "user-space",
    mv.MV_ACTIVITY_RUNNING: "running",
    mv.MV_ACTIVITY_HALTED: "halted",
    mv.MV_ACTIVITY_WAIT_FOR_INIT: "wait-for-init",
    mv.MV_ACTIVITY_WAIT_FOR_SIPI: "wait-for-sipi",
    mv.MV_ACTIVITY_SUSPENDED: "suspended",
}
_PENDING: Final = {
    mv.MV_PENDING_IO_IN: "io-read",
    mv.MV_PENDING_IO_OUT: "io-write",
    mv.MV_PENDING_MMIO_READ: "mmio-read",
    mv.MV_PENDING_MMIO_WRITE: "mmio-write",
    mv.MV_PENDING_MSR: "msr",
    mv.MV_PENDING_HYPERCALL: "hypercall",
}
REASONS: Final = {
    value: name.removeprefix("mv_exit_reason_t_").replace("_", "-")
    for name, value in vars(mv).items()
    if name.startswith("mv_exit_reason_t_")
}
"""mv_exit_reason_t by name."""
_EXITS: Final = {
    "io": "io_exits",
    "mmio": "mmio_exits",
    "msr": "msr_exits",
    "hlt": "hlt_exits",
    "hypercall": "hypercall_exits",
    "interrupt": "interrupt_exits",
    "interrupt-window": "interrupt_window_exits",
    "debug": "debug_exits",
    "memory-fault": "memory_fault_exits",
    "noted": "noted_exits",
    "shutdown": "shutdown_exits",
    "unknown": "unknown_exits",
}
_CHIPS: Final = {
    "pic-master": mv.MV_CHIP_PIC_MASTER,
    "pic-slave": mv.MV_CHIP_PIC_SLAVE,
    "ioapic": mv.MV_CHIP_IOAPIC,
}
_OF_IOAPIC: Final = ("base_address", "ioregsel", "id", "irr")
_OF_PIC: Final = ("irr", "imr", "isr", "irq_base", "elcr")

Answer = dict[str, Any]


class Queries:
    """Answers requests about the VMs of one service. Any thread may call."""

    def __init__(self, living: Living) -> None:
        self._living = living
        self._wishes = Wishes(living)
        self._by_name: dict[str, Callable[[Request], Answer]] = {
            "list": self._list,
            "vm": self._vm,
            "vcpu": self._vcpu,
            "regs": self._regs,
            "lapic": self._lapic,
        }

    def answer(self, request: Request) -> Answer:
        """What was asked for. RequestError."""
        query = self._by_name.get(request.do)
        if query is None:
            known = ", ".join(self._by_name)
            raise RequestError("bad-request", f"{request.do[:40]!r} is none of {known}")
        try:
            return query(request)
        except MvError as error:
            raise RequestError("gone", f"the VM has just ended: {error}") from error

    def trace(self, request: Request) -> Tracing:
        """The trace that was asked for, which has begun. RequestError."""
        vm, numbers = self.find_vm(request), request.arguments.get("vcpus")
        if not isinstance(numbers, list) or not numbers:
            raise RequestError("bad-request", "'trace' wants a list of numbers 'vcpus'")
        vcpus = [vm.vcpus.get(number) for number in numbers if isinstance(number, int)]
        found = [vcpu for vcpu in dict.fromkeys(vcpus) if vcpu is not None]
        if len(found) < len(numbers):
            raise RequestError("no-vcpu", "the VM has not all of these vCPUs")
        try:
            return Tracing(self._wishes, found, instructions=request.flag("instructions"))
        except MvError as error:
            raise RequestError("gone", f"the VM has just ended: {error}") from error

    def find_vm(self, request: Request) -> Vm:
        """The VM that a request names. RequestError."""
        name = request.text("vm")
        vm = self._living.find(name)
        if vm is None:
            raise RequestError("no-vm", f"there is no VM {name[:40]!r}")
        return vm

    def find_vcpu(self, request: Request) -> Vcpu:
        """The vCPU that a request names. RequestError."""
        vm = self.find_vm(request)
        number = request.integer("vcpu")
        vcpu = vm.vcpus.get(number)
        if vcpu is None:
            raise RequestError("no-vcpu", f"the VM has no vCPU {number}")
        return vcpu

    def _list(self, _: Request) -> Answer:
        vms = []
        for name, vm in self._living.all().items():
            # One that ends meanwhile is none any more.
            with suppress(MvError):
                vms.append(self._summary(name, vm))
        return {"vms": vms}

    def _summary(self, name: str, vm: Vm) -> Answer:
        vcpus = [{"vcpu": vcpu.vcpu_id, **_standing(vcpu)} for vcpu in _vcpus(vm)]
        return {**_head(name, vm), "vcpus": vcpus}

    def _vm(self, request: Request) -> Answer:
        vm = self.find_vm(request)
        stats = vm_op.stats_get(vm.vmid)
        slots = sorted(vm.slots.values(), key=lambda slot: (slot.space, slot.gpa))
        return {
            **_head(request.text("vm"), vm),
            "vcpus": [vcpu.vcpu_id for vcpu in _vcpus(vm)],
            "memory": {
                "pages": stats.pages,
                "flush_requests": stats.flush_requests,
                "flushes": stats.flushes,
            },
            "slots": [
                {
                    "slot": slot.number & 0xFFFF,
                    "space": slot.space,
                    "flags": slot.flags,
                    "guest_phys_addr": hex(slot.gpa),
                    "memory_size": hex(slot.size),
                    "userspace_addr": hex(slot.hva),
                }
                for slot in slots
            ],
            "irqchip": {"kind": vm.irqchip.name.lower(), "pit": vm.has_pit, **_chips(vm)},
        }

    def _vcpu(self, request: Request) -> Answer:
        vcpu = self.find_vcpu(request)
        return {"vm": request.text("vm"), "vcpu": vcpu.vcpu_id, **_standing(vcpu)}

    def _regs(self, request: Request) -> Answer:
        vcpu = self.find_vcpu(request)
        return {"vm": request.text("vm"), "vcpu": vcpu.vcpu_id, **registers(vcpu)}

    def _lapic(self, request: Request) -> Answer:
        vcpu = self.find_vcpu(request)
        return {"vm": request.text("vm"), "vcpu": vcpu.vcpu_id, **local_apic(vcpu)}


def _vcpus(vm: Vm) -> list[Vcpu]:
    return sorted(vm.vcpus.values(), key=lambda vcpu: vcpu.vcpu_id)


def _head(name: str, vm: Vm) -> Answer:
    return {"vm": name, "process": vm.process, "command": _command(vm.process)}


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def _standing(vcpu: Vcpu) -> Answer:
    stats = vs_op.stats_get(vcpu.vsid)
    return {
        "time_ns": time.monotonic_ns(),
        "state": _state(vcpu),
        "instructions": stats.instructions,
        "exits": {
            "total": stats.exits,
            "to_user_space": stats.left,
            **{name: getattr(stats, field) for name, field in _EXITS.items()},
        },
        "injected": {"interrupts": stats.interrupts, "nmis": stats.nmis},
    }


def _state(vcpu: Vcpu) -> Answer:
    try:
        found = observe.activity_get(vcpu.vsid)
    except MvError as error:
        if error.status != mv.MV_STATUS_FAILURE_UNKNOWN:
            raise
        return {"is": "broken", "pending": None, "last_exit": None, "suspended": None}
    return {
        "is": _ACTIVITIES.get(found.activity, "unknown"),
        "pending": _PENDING.get(found.pending),
        "last_exit": REASONS.get(found.last_exit),
        "suspended": _suspended(vcpu.vm, found),
    }


def _suspended(vm: Vm, found: mv.mv_activity_t) -> Answer | None:
    if found.suspended_on == mv.MV_ACTIVITY_NOT_SUSPENDED:
        return None
    on = [vcpu.vcpu_id for vcpu in _vcpus(vm) if vcpu.vsid == found.suspended_on]
    return {"on": on[0] if on else None, "hypercall": hex(found.hypercall)}


def _chips(vm: Vm) -> Answer:
    if vm.irqchip is not Irqchip.KERNEL:
        return {}
    return {name: _chip(irqchip_op.chip_get(vm.vmid, chip)) for name, chip in _CHIPS.items()}


def _chip(registers_of_chip: irqchip_op.Chip) -> Answer:
    if isinstance(registers_of_chip, mv.mv_ioapic_t):
        pins = {"redirtbl": [hex(entry) for entry in registers_of_chip.redirtbl]}
        return {**_named(registers_of_chip, _OF_IOAPIC), **pins}
    return _named(registers_of_chip, _OF_PIC)


def _named(registers_of_chip: irqchip_op.Chip, names: Iterable[str]) -> Answer:
    return {name: hex(getattr(registers_of_chip, name)) for name in names}
