"""KVM_GET_STATS_FD: statistics of a VM and of a vCPU as a file."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_STATS_FD, KVM_SET_VCPU_EVENTS
from kvmshim.abi.structs_gen import (
    kvm_events_exception,
    kvm_stats_desc,
    kvm_stats_header,
    kvm_vcpu_events,
)
from tests.ioctl.test_hypercalls import Caller
from tests.kvm import Descriptor, System, Vcpu, Vm, refused
from tests.machine import Machine, Mode

HEADER = len(bytes(kvm_stats_header()))
DESCRIPTOR = len(bytes(kvm_stats_desc()))

TYPE, UNIT = 0xF, 0xF0
"""Fields of a descriptor's flags."""

GP, PF = 13, 14

STEP_OVER = "add rsp, 8; add qword ptr [rsp], 2; iretq"
"""A handler of a fault with an error code, at an instruction of two bytes."""

LEAVES = """
    out 0x10, al
    in al, 0x10
    mov ebx, 0xA0000
    mov dword ptr [ebx], 1
    hlt
"""


class Statistics(Descriptor):
    """A statistics fd."""

    def __init__(self, of: Vm | Vcpu) -> None:
        super().__init__(of.ioctl(KVM_GET_STATS_FD))

    def header(self) -> kvm_stats_header:
        return kvm_stats_header.from_buffer_copy(os.pread(self.fd, HEADER, 0))

    def name(self) -> str:
        header = self.header()
        return text(os.pread(self.fd, header.name_size, header.id_offset))

    def descriptors(self) -> dict[str, kvm_stats_desc]:
        header = self.header()
        step = DESCRIPTOR + header.name_size
        raw = os.pread(self.fd, header.num_desc * step, header.desc_offset)
        starts = range(0, len(raw), step)
        return {
            text(raw[at + DESCRIPTOR : at + step]): kvm_stats_desc.from_buffer_copy(raw, at)
            for at in starts
        }

    def values(self) -> dict[str, int]:
        start = self.header().data_offset
        return {
            name: struct.unpack("<Q", os.pread(self.fd, 8, start + row.offset))[0]
            for name, row in self.descriptors().items()
        }


def changed(statistics: Statistics) -> dict[str, int]:
    """Those that are not 0."""
    return {name: value for name, value in statistics.values().items() if value}


def text(raw: bytes) -> str:
    return raw[: raw.index(b"\0")].decode()


@contextmanager
def statistics(of: Vm | Vcpu) -> Iterator[Statistics]:
    made = Statistics(of)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["vm", "vcpu"])
def opened(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Statistics]:
    """The statistics of a VM, or of its vCPU."""
    with statistics(machine.vm if request.param == "vm" else machine.vcpu) as made:
        yield made


def test_capability_is_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_BINARY_STATS_FD) == 1


def test_blocks_are_aligned_and_apart(opened: Statistics) -> None:
    header = opened.header()
    size = header.num_desc * (DESCRIPTOR + header.name_size)
    blocks = [
        (0, HEADER),
        (header.id_offset, header.name_size),
        (header.desc_offset, size),
        (header.data_offset, 8 * header.num_desc),
    ]
    assert header.flags == 0
    assert all(start % 8 == 0 for start, _ in blocks)
    ends = [start + length for start, length in sorted(blocks)]
    assert all(end <= start for end, (start, _) in zip(ends, sorted(blocks)[1:], strict=False))


def test_each_statistic_has_a_value_of_its_own(opened: Statistics) -> None:
    rows = opened.descriptors()
    assert len(rows) == opened.header().num_desc > 0
    assert sorted(row.offset for row in rows.values()) == list(range(0, 8 * len(rows), 8))
    for row in rows.values():
        assert row.size == 1
        seconds = row.flags & UNIT == kvm.KVM_STATS_UNIT_SECONDS
        assert row.exponent == (-9 if seconds else 0)
        assert row.flags & TYPE in (kvm.KVM_STATS_TYPE_CUMULATIVE, kvm.KVM_STATS_TYPE_INSTANT)


def test_names_begin_with_kvm_and_the_process(machine: Machine) -> None:
    with statistics(machine.vm) as of_vm, statistics(machine.vcpu) as of_vcpu:
        assert of_vm.name() == f"kvm-{os.getpid()}"
        assert of_vcpu.name() == f"kvm-{os.getpid()}/vcpu-0"


def test_file_is_read_in_any_pieces(opened: Statistics) -> None:
    whole = os.read(opened.fd, 0x10000)
    assert os.read(opened.fd, 1) == b""
    assert len(whole) == opened.header().data_offset + 8 * opened.header().num_desc
    assert b"".join(os.pread(opened.fd, 7, at) for at in range(0, len(whole), 7)) == whole
    os.lseek(opened.fd, 5, os.SEEK_SET)
    assert os.read(opened.fd, 3) == whole[5:8]


def test_file_can_only_be_read(opened: Statistics) -> None:
    assert fcntl.fcntl(opened.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert fcntl.fcntl(opened.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with pytest.raises(OSError, check=lambda raised: raised.errno == errno.EBADF):
        os.write(opened.fd, b"x")
    with refused(errno.ENOTTY):
        opened.ioctl(KVM_GET_STATS_FD)


def test_exits_are_counted(machine: Machine) -> None:
    machine.load(LEAVES, Mode.PROTECTED)
    with statistics(machine.vcpu) as made:
        assert set(made.values().values()) == {0}
        for _ in range(4):
            machine.vcpu.run()
        assert changed(made) == {"exits": 4, "io_exits": 2, "mmio_exits": 1, "halt_exits": 1}


def test_immediate_exits_leave_no_guest(machine: Machine) -> None:
    machine.load("hlt", Mode.PROTECTED)
    machine.vcpu.state.immediate_exit = 1
    with statistics(machine.vcpu) as made:
        with refused(errno.EINTR):
            machine.vcpu.run()
        assert made.values()["exits"] == 0


def test_times_and_flags_have_their_units(machine: Machine) -> None:
    with statistics(machine.vcpu) as made:
        rows = {name: (row.flags, row.exponent) for name, row in made.descriptors().items()}
    time = kvm.KVM_STATS_TYPE_CUMULATIVE | kvm.KVM_STATS_UNIT_SECONDS
    assert rows["halt_wait_ns"] == (time, -9)
    assert rows["blocking"] == (kvm.KVM_STATS_TYPE_INSTANT | kvm.KVM_STATS_UNIT_BOOLEAN, 0)
    for name in ("halt_wakeup", "pf_guest", "hypercalls", "preemption_reported"):
        assert rows[name] == (kvm.KVM_STATS_TYPE_CUMULATIVE, 0)


def test_hypercalls_are_counted(system: System) -> None:
    call = Caller(system)
    with statistics(call.machine.vcpu) as made:
        for _ in range(3):
            call(0)
        assert changed(made) == {"exits": 6, "io_exits": 3, "hypercalls": 3}


def test_page_faults_of_the_guest_are_counted(machine: Machine) -> None:
    machine.load("mov rbx, 0x7FFFFFFFF000; mov al, [rbx]; mov al, [rbx]; hlt", Mode.LONG)
    machine.handle(PF, STEP_OVER, Mode.LONG)
    with statistics(machine.vcpu) as made:
        assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
        assert changed(made) == {"exits": 1, "halt_exits": 1, "pf_guest": 2}


def test_page_faults_of_the_client_and_other_faults_are_not(machine: Machine) -> None:
    machine.load("mov rbx, 1 << 63; mov al, [rbx]; hlt", Mode.LONG)
    machine.handle(GP, STEP_OVER, Mode.LONG)
    machine.handle(PF, "add rsp, 8; iretq", Mode.LONG)
    injected = kvm_events_exception(injected=1, nr=PF, has_error_code=1)
    machine.vcpu.ioctl(KVM_SET_VCPU_EVENTS, kvm_vcpu_events(exception=injected))
    with statistics(machine.vcpu) as made:
        assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
        assert changed(made) == {"exits": 1, "halt_exits": 1}


def test_pages_and_flushes_of_a_vm_are_counted(machine: Machine) -> None:
    with statistics(machine.vm) as made:
        before = made.values()
        region = machine.vm.add_region(slot=1, gpa=0x100000, size=0x3000)
        during = made.values()
        machine.vm.set_region(slot=1, gpa=0x100000, size=0, address=region.address)
        after = made.values()
    assert during["pages_4k"] == before["pages_4k"] + 3
    assert after["pages_4k"] == before["pages_4k"]
    assert after["remote_tlb_flush_requests"] > before["remote_tlb_flush_requests"]


def test_file_outlives_its_vm(system: System) -> None:
    vm = system.create_vm()
    vcpu = vm.create_vcpu(0)
    with statistics(vm) as of_vm, statistics(vcpu) as of_vcpu:
        vm.close()
        assert of_vm.values()["pages_4k"] == 0
        assert of_vcpu.values()["exits"] == 0


def test_file_can_be_read_by_another_process(machine: Machine) -> None:
    with statistics(machine.vcpu) as made:
        size = len(os.pread(made.fd, 0x10000, 0))
        child = os.fork()
        if child == 0:
            os._exit(0 if len(os.pread(made.fd, 0x10000, 0)) == size else 1)
        assert os.waitpid(child, 0)[1] == 0
