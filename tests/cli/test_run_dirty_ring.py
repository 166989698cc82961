"""`kvmshim run`: how a dirty ring may be mapped; see `docs/deviations.md` for `kvmshim serve`."""

import sys

import pytest

from tests.cli.environment import kvmshim

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

CLIENT = """
import ctypes, errno, mmap, os, subprocess, sys, tempfile
from pathlib import Path
from kvmshim.abi import constants_gen as kvm
from tests.ioctl.test_dirty_ring import enable
from tests.kvm import PAGE_SIZE, System, libc

RING = kvm.KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE
SIZE = 0x4000

def attempt(fd, offset, size, flags, protection):
    address = libc.mmap(None, size, protection, flags, fd, offset)
    if address == (1 << 64) - 1:
        return errno.errorcode[ctypes.get_errno()]
    libc.munmap(address, size)
    return "mapped"

vm = System(Path("/dev/kvm")).create_vm()
enable(vm, SIZE)
fd = vm.create_vcpu(0).fd
for what in (
    (fd, RING, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ),
    (fd, RING, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC),
    (fd, RING - PAGE_SIZE, 2 * PAGE_SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ),
    (fd, RING + SIZE - PAGE_SIZE, 2 * PAGE_SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ),
    (fd, RING, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
    (fd, 0, PAGE_SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ),
    (fd, RING + SIZE, PAGE_SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ),
):
    print(attempt(*what))
with tempfile.TemporaryFile() as file:
    file.truncate(2 * RING)
    print(attempt(file.fileno(), RING, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ))
print(subprocess.run([sys.executable, "-c", "import ssl, sqlite3"]).returncode)
"""
EXPECTED = "EINVAL\n" * 4 + "mapped\n" * 4 + "0\n"


def test_ring_is_mapped_shared_or_not_at_all() -> None:
    result = kvmshim("run", "--", sys.executable, "-c", CLIENT)
    assert (result.returncode, result.stdout) == (0, EXPECTED), result.stderr
