"""KVM_GET_STATS_FD, and what is read from the files that it makes.

`Documentation/virt/kvm/api.rst`, KVM_GET_STATS_FD. The names are those of KVM's statistics; of
these only the ones are there that mean something for a processor in software.
"""

import struct
from typing import Final, TypeAlias

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.structs_gen import kvm_stats_desc, kvm_stats_header
from kvmshim.objects.statistics import Statistics
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller
from microv.ops import vm as vm_op
from microv.ops import vs as vs_op

_NAME_SIZE: Final = 48
"""KVM_STATS_NAME_SIZE of `linux/kvm_host.h`."""
_VALUE_SIZE: Final = 8

_COUNT: Final = (kvm.KVM_STATS_TYPE_CUMULATIVE, 0)
"""Flags and decimal exponent."""
_NANOSECONDS: Final = (kvm.KVM_STATS_TYPE_CUMULATIVE | kvm.KVM_STATS_UNIT_SECONDS, -9)
_INSTANT: Final = (kvm.KVM_STATS_TYPE_INSTANT, 0)
_INSTANT_FLAG: Final = (kvm.KVM_STATS_TYPE_INSTANT | kvm.KVM_STATS_UNIT_BOOLEAN, 0)

_Row: TypeAlias = tuple[str, tuple[int, int]]

_VM: Final[tuple[_Row, ...]] = (
    ("remote_tlb_flush", _COUNT),
    ("remote_tlb_flush_requests", _COUNT),
    ("pages_4k", _INSTANT),
)
_VCPU: Final[tuple[_Row, ...]] = (
    ("halt_wakeup", _COUNT),
    ("halt_wait_ns", _NANOSECONDS),
    ("blocking", _INSTANT_FLAG),
    ("pf_guest", _COUNT),
    ("tlb_flush", _COUNT),
    ("exits", _COUNT),
    ("io_exits", _COUNT),
    ("mmio_exits", _COUNT),
    ("signal_exits", _COUNT),
    ("irq_window_exits", _COUNT),
    ("halt_exits", _COUNT),
    ("insn_emulation_fail", _COUNT),
    ("hypercalls", _COUNT),
    ("irq_injections", _COUNT),
    ("nmi_injections", _COUNT),
    ("preemption_reported", _COUNT),
)


def handle_get_stats_fd(of: Vm | Vcpu, _: int, __: Caller) -> Statistics:
    """KVM_GET_STATS_FD of a VM or vCPU: a file to read from, which keeps the VM.

    Errors: those of making a file (EMFILE, ENOMEM).
    """
    statistics = Statistics(of)
    with statistics.vm.lock:
        statistics.vm.files += 1
    return statistics


def contents(statistics: Statistics) -> bytes:
    """The file as it is now: header, name, descriptors, values."""
    if isinstance(statistics.of, Vcpu):
        vcpu = statistics.of
        return _file(f"kvm-{vcpu.vm.process}/vcpu-{vcpu.vcpu_id}", _VCPU, _of_vcpu(vcpu))
    vm = statistics.of
    return _file(f"kvm-{vm.process}", _VM, _of_vm(vm))


def _of_vm(vm: Vm) -> tuple[int, ...]:
    stats = vm_op.stats_get(vm.vmid)
    return stats.flushes, stats.flush_requests, stats.pages


def _of_vcpu(vcpu: Vcpu) -> tuple[int, ...]:
    stats = vs_op.stats_get(vcpu.vsid)
    return (
        stats.wakeups,
        stats.hlt_wait_ns,
        stats.asleep,
        stats.page_faults,
        stats.flushes,
        stats.exits,
        stats.io_exits,
        stats.mmio_exits,
        stats.interrupt_exits,
        stats.interrupt_window_exits,
        stats.hlt_exits,
        stats.unknown_exits,
        stats.hypercall_exits,
        stats.interrupts,
        stats.nmis,
        stats.preemptions,
    )


def _file(name: str, rows: tuple[_Row, ...], values: tuple[int, ...]) -> bytes:
    descriptors = b"".join(
        bytes(kvm_stats_desc(flags=flags, exponent=exponent, size=1, offset=number * _VALUE_SIZE))
        + _name(statistic)
        for number, (statistic, (flags, exponent)) in enumerate(rows)
    )
    # Every part is a multiple of 8 bytes.
    id_offset = len(bytes(kvm_stats_header()))
    desc_offset = id_offset + _NAME_SIZE
    header = kvm_stats_header(
        name_size=_NAME_SIZE,
        num_desc=len(rows),
        id_offset=id_offset,
        desc_offset=desc_offset,
        data_offset=desc_offset + len(descriptors),
    )
    return bytes(header) + _name(name) + descriptors + struct.pack(f"<{len(values)}Q", *values)


def _name(name: str) -> bytes:
    return name.encode().ljust(_NAME_SIZE, b"\0")
