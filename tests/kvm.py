"""A client of the kernel's KVM ABI, as thin as a test wants it.

`System`, `Vm` and `Vcpu` each own one file descriptor and close what was made from them; `Region`
owns memory of this process. Calls raise OSError with the errno of the kernel.

ioctl(2) is reached through ctypes: it takes any address, lets other threads run meanwhile and does
not repeat an interrupted call, all of which `fcntl.ioctl` does not.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import ioctls_gen as nr
from kvmshim.abi import structs_gen as abi
from kvmshim.abi.limits import KVMSHIM_CAP_IDENTITY

PAGE_SIZE: Final = mmap.PAGESIZE

libc: Final = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

MAP_FAILED: Final = (1 << 64) - 1
PROT_NONE: Final = 0

type_of_argument = int | ctypes.Structure | ctypes.Array[Any] | ctypes.c_uint64


class NotKvmshimError(Exception):
    """Something else than kvmshim answers at this path; nothing it says may count."""


class UnexpectedExitError(Exception):
    """A guest left KVM_RUN for another reason than the test waits for; carries the reason."""


def ioctl(fd: int, number: int, argument: type_of_argument = 0) -> int:
    """ioctl(2) with a value, or with the address of a ctypes object."""
    address = argument if isinstance(argument, int) else ctypes.addressof(argument)
    result: int = libc.ioctl(fd, number, address)
    if result < 0:
        raise last_error(f"ioctl {number:#x}")
    return result


def open_descriptors() -> set[int]:
    """The descriptors of this process, but for the one that lists them."""
    listed = {int(name) for name in os.listdir("/proc/self/fd")}
    return {fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")}


def last_error(call: str) -> OSError:
    """What the last call through `libc` left in errno."""
    error = ctypes.get_errno()
    return OSError(error, f"{call}: {os.strerror(error)}")


def refused(error: int) -> pytest.RaisesExc[OSError]:
    """Expects a call to fail with this errno."""
    return pytest.raises(OSError, check=lambda raised: raised.errno == error)


def table(
    header: ctypes.Structure, entries: Iterable[ctypes.Structure | ctypes.c_uint32]
) -> ctypes.Array[Any]:
    """A structure with a flexible array behind it, in memory of its own."""
    image = bytes(header) + b"".join(bytes(entry) for entry in entries)
    return ctypes.create_string_buffer(image, len(image))


def msr_table(values: Sequence[tuple[int, int]], *, nmsrs: int | None = None) -> ctypes.Array[Any]:
    """`struct kvm_msrs` of (index, value) pairs; `nmsrs` may lie about their number."""
    count = len(values) if nmsrs is None else nmsrs
    entries = [abi.kvm_msr_entry(index=index, data=data) for index, data in values]
    return table(abi.kvm_msrs(nmsrs=count), entries)


def cpuid_table(
    entries: Sequence[abi.kvm_cpuid_entry2], *, nent: int | None = None
) -> ctypes.Array[Any]:
    """`struct kvm_cpuid2` of these entries; `nent` may lie about their number."""
    return table(abi.kvm_cpuid2(nent=len(entries) if nent is None else nent), entries)


def cpuid_entries(raw: ctypes.Array[Any]) -> list[abi.kvm_cpuid_entry2]:
    """The first `nent` entries of a `cpuid_table`."""
    entry, start = abi.kvm_cpuid_entry2, ctypes.sizeof(abi.kvm_cpuid2)
    count = abi.kvm_cpuid2.from_buffer(raw).nent
    offsets = range(start, start + count * ctypes.sizeof(entry), ctypes.sizeof(entry))
    return [entry.from_buffer(raw, offset) for offset in offsets]


def map_memory(size: int, *, flags: int, fd: int, protection: int) -> int:
    """mmap(2) at any address; the address."""
    address: int = libc.mmap(None, size, protection, flags, fd, 0)
    if address == MAP_FAILED:
        raise last_error("mmap")
    return address


class Region:
    """Memory of this process: private anonymous unless told otherwise, zeroed."""

    def __init__(
        self,
        size: int,
        *,
        flags: int = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        fd: int = -1,
        protection: int = mmap.PROT_READ | mmap.PROT_WRITE,
    ) -> None:
        self.size = size
        self.address = map_memory(size, flags=flags, fd=fd, protection=protection)

    def read(self, offset: int, size: int) -> bytes:
        return ctypes.string_at(self.address + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        ctypes.memmove(self.address + offset, data, len(data))

    def protect(self, protection: int, *, offset: int, size: int) -> None:
        if libc.mprotect(self.address + offset, size, protection) < 0:
            raise last_error("mprotect")

    def advise(self, advice: int) -> None:
        """madvise(2) about all of it."""
        if libc.madvise(self.address, self.size, advice) < 0:
            raise last_error("madvise")

    def close(self) -> None:
        libc.munmap(self.address, self.size)


class Descriptor:
    """A file descriptor, and what was made from it; both end with `close`, at most once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.owned = ExitStack()
        self.owned.callback(os.close, fd)

    def ioctl(self, number: int, argument: type_of_argument = 0) -> int:
        return ioctl(self.fd, number, argument)

    def close(self) -> None:
        self.owned.close()


class Vcpu(Descriptor):
    """A vCPU fd with its `kvm_run` mapped."""

    def __init__(self, fd: int, run_size: int) -> None:
        super().__init__(fd)
        self.run_size = run_size
        self.run_address = self.map_run()
        self.state = abi.kvm_run.from_address(self.run_address)

    def map_run(self) -> int:
        """Maps `kvm_run` once more, until `close`; its address."""
        address = map_memory(
            self.run_size,
            flags=mmap.MAP_SHARED,
            fd=self.fd,
            protection=mmap.PROT_READ | mmap.PROT_WRITE,
        )
        self.owned.callback(libc.munmap, address, self.run_size)
        return address

    def run(self) -> int:
        """KVM_RUN; the exit reason."""
        self.ioctl(nr.KVM_RUN)
        return self.state.exit_reason

    def port(self) -> int:
        """Runs to the next port access; the port."""
        reason = self.run()
        if reason != kvm.KVM_EXIT_IO:
            raise UnexpectedExitError(reason)
        return self.io.port

    @property
    def io(self) -> abi.kvm_run_io:
        return abi.kvm_run_io.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def io_data(self) -> bytes:
        """The data of a port exit; assigning it answers an IN."""
        io = self.io
        return ctypes.string_at(self.run_address + io.data_offset, io.size * io.count)

    @io_data.setter
    def io_data(self, data: bytes) -> None:
        ctypes.memmove(self.run_address + self.io.data_offset, data, len(data))

    @property
    def mmio(self) -> abi.kvm_run_mmio:
        return abi.kvm_run_mmio.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def mmio_data(self) -> bytes:
        """The bytes of an MMIO write; assigning it answers a read."""
        mmio = self.mmio
        return bytes(mmio.data)[: mmio.len]

    @mmio_data.setter
    def mmio_data(self, data: bytes) -> None:
        ctypes.memmove(ctypes.addressof(self.mmio.data), data, len(data))

    @property
    def eoi_vector(self) -> int:
        """Whose end KVM_EXIT_IOAPIC_EOI tells of."""
        return ctypes.c_uint8.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET).value

    @property
    def debug(self) -> abi.kvm_run_debug:
        return abi.kvm_run_debug.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def msr(self) -> abi.kvm_run_msr:
        return abi.kvm_run_msr.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def tpr_access(self) -> abi.kvm_run_tpr_access:
        return abi.kvm_run_tpr_access.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def memory_fault(self) -> abi.kvm_run_memory_fault:
        return abi.kvm_run_memory_fault.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def fail_entry(self) -> abi.kvm_run_fail_entry:
        return abi.kvm_run_fail_entry.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def internal(self) -> abi.kvm_run_internal:
        return abi.kvm_run_internal.from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    @property
    def exit_words(self) -> ctypes.Array[ctypes.c_uint64]:
        """The details of an exit as words of 64 bits."""
        return (ctypes.c_uint64 * 7).from_address(self.run_address + abi.KVM_RUN_EXIT_OFFSET)

    def regs(self) -> abi.kvm_regs:
        regs = abi.kvm_regs()
        self.ioctl(nr.KVM_GET_REGS, regs)
        return regs

    def set_regs(self, regs: abi.kvm_regs) -> None:
        self.ioctl(nr.KVM_SET_REGS, regs)

    def change_regs(self, **values: int) -> None:
        """Sets these registers and leaves the others."""
        regs = self.regs()
        for name, value in values.items():
            setattr(regs, name, value)
        self.set_regs(regs)

    def sregs(self) -> abi.kvm_sregs:
        sregs = abi.kvm_sregs()
        self.ioctl(nr.KVM_GET_SREGS, sregs)
        return sregs

    def set_sregs(self, sregs: abi.kvm_sregs) -> None:
        self.ioctl(nr.KVM_SET_SREGS, sregs)

    def fpu(self) -> abi.kvm_fpu:
        fpu = abi.kvm_fpu()
        self.ioctl(nr.KVM_GET_FPU, fpu)
        return fpu

    def set_fpu(self, fpu: abi.kvm_fpu) -> None:
        self.ioctl(nr.KVM_SET_FPU, fpu)

    def msrs(self, indices: Sequence[int]) -> list[int]:
        """The values of these MSRs, up to the first that cannot be read."""
        raw = msr_table([(index, 0) for index in indices])
        done = self.ioctl(nr.KVM_GET_MSRS, raw)
        entry, start = abi.kvm_msr_entry, ctypes.sizeof(abi.kvm_msrs)
        return [entry.from_buffer(raw, start + i * ctypes.sizeof(entry)).data for i in range(done)]

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> int:
        """Sets (index, value) pairs up to the first that is refused; the number set."""
        return self.ioctl(nr.KVM_SET_MSRS, msr_table(values))

    def set_cpuid(self, entries: Sequence[abi.kvm_cpuid_entry2]) -> None:
        self.ioctl(nr.KVM_SET_CPUID2, cpuid_table(entries))

    def mp_state(self) -> int:
        state = abi.kvm_mp_state()
        self.ioctl(nr.KVM_GET_MP_STATE, state)
        return state.mp_state

    def set_mp_state(self, state: int) -> None:
        self.ioctl(nr.KVM_SET_MP_STATE, abi.kvm_mp_state(mp_state=state))


class Vm(Descriptor):
    """A VM fd."""

    def __init__(self, fd: int, run_size: int) -> None:
        super().__init__(fd)
        self.run_size = run_size

    def check_extension(self, capability: int) -> int:
        return self.ioctl(nr.KVM_CHECK_EXTENSION, capability)

    def create_vcpu(self, vcpu_id: int) -> Vcpu:
        vcpu = Vcpu(self.ioctl(nr.KVM_CREATE_VCPU, vcpu_id), self.run_size)
        self.owned.callback(vcpu.close)
        return vcpu

    def set_region(
        self, *, slot: int = 0, gpa: int = 0, size: int, address: int, flags: int = 0
    ) -> None:
        region = abi.kvm_userspace_memory_region(
            slot=slot, flags=flags, guest_phys_addr=gpa, memory_size=size, userspace_addr=address
        )
        self.ioctl(nr.KVM_SET_USER_MEMORY_REGION, region)

    def add_region(self, *, slot: int, gpa: int, size: int, flags: int = 0) -> Region:
        """A slot with new memory, which lives as long as the VM fd."""
        region = Region(size)
        self.owned.callback(region.close)
        self.set_region(slot=slot, gpa=gpa, size=size, address=region.address, flags=flags)
        return region


class System(Descriptor):
    """The device, opened read-write if not told; proves at once that kvmshim serves it."""

    def __init__(self, path: Path, *, access: int = os.O_RDWR) -> None:
        super().__init__(os.open(path, access | os.O_CLOEXEC))
        try:
            self.prove_identity(path)
        except BaseException:
            self.close()
            raise

    def prove_identity(self, path: Path) -> None:
        if self.check_extension(KVMSHIM_CAP_IDENTITY) != KVMSHIM_CAP_IDENTITY:
            raise NotKvmshimError(path)

    def check_extension(self, capability: int) -> int:
        return self.ioctl(nr.KVM_CHECK_EXTENSION, capability)

    def vcpu_mmap_size(self) -> int:
        return self.ioctl(nr.KVM_GET_VCPU_MMAP_SIZE)

    def create_vm(self, machine_type: int = 0) -> Vm:
        vm = Vm(self.ioctl(nr.KVM_CREATE_VM, machine_type), self.vcpu_mmap_size())
        self.owned.callback(vm.close)
        return vm

    def msr_indexes(self) -> list[int]:
        """KVM_GET_MSR_INDEX_LIST, with the room that it asks for."""
        head = abi.kvm_msr_list(nmsrs=0)
        with refused(errno.E2BIG):
            self.ioctl(nr.KVM_GET_MSR_INDEX_LIST, head)
        raw = table(head, [ctypes.c_uint32()] * head.nmsrs)
        self.ioctl(nr.KVM_GET_MSR_INDEX_LIST, raw)
        return list((ctypes.c_uint32 * head.nmsrs).from_buffer(raw, ctypes.sizeof(head)))

    def supported_cpuid(self) -> list[abi.kvm_cpuid_entry2]:
        raw = cpuid_table([abi.kvm_cpuid_entry2()] * 256)
        self.ioctl(nr.KVM_GET_SUPPORTED_CPUID, raw)
        return cpuid_entries(raw)
