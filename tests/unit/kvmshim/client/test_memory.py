"""Copies in and out, with exact faults."""

import errno

import pytest

from kvmshim.client import memory
from kvmshim.client.client import Client
from kvmshim.errors import KvmError
from tests.unit.kvmshim.client.puppet import (
    PROT_NONE,
    PROT_READ,
    SYS_MPROTECT,
    SYS_MUNMAP,
    Puppet,
)


@pytest.fixture
def pages(puppet: Puppet) -> int:
    """Two writable pages with a hole after them."""
    address = puppet.map(3 * 4096)
    puppet.call(SYS_MUNMAP, address + 2 * 4096, 4096)
    return address


def test_copy_out_is_what_the_client_reads(puppet: Puppet, client: Client, pages: int) -> None:
    client.copy_out(pages + 4092, (0x1122334455667788).to_bytes(8, "little"))
    assert puppet.peek(pages + 4092) == 0x1122334455667788


def test_copy_in_is_what_the_client_wrote(puppet: Puppet, client: Client, pages: int) -> None:
    puppet.poke(pages + 8192 - 8, 258)
    assert client.copy_in(pages + 8192 - 8, 8) == b"\2\1" + bytes(6)


def test_nothing_can_be_copied_anywhere(client: Client) -> None:
    assert client.copy_in(0, 0) == b""
    client.copy_out(0, b"")


@pytest.mark.parametrize("address", [0, 8192 - 4, -1, 1 << 47, (1 << 64) - 8])
def test_unmapped_address_is_efault(client: Client, pages: int, address: int) -> None:
    where = pages + address if address == 8192 - 4 else address
    with pytest.raises(KvmError) as caught:
        client.copy_in(where, 8)
    assert caught.value.errno == errno.EFAULT
    with pytest.raises(KvmError) as caught:
        client.copy_out(where, bytes(8))
    assert caught.value.errno == errno.EFAULT


def test_fault_in_the_middle_tells_how_far_it_got(puppet: Puppet, pages: int) -> None:
    assert len(memory.read_available(puppet.pid, pages, 3 * 4096)) == 2 * 4096
    assert memory.write_available(puppet.pid, pages, b"a" * 3 * 4096) == 2 * 4096


def test_read_only_page_can_be_read_but_not_written(
    puppet: Puppet, client: Client, pages: int
) -> None:
    puppet.call(SYS_MPROTECT, pages, 4096, PROT_READ)
    assert client.copy_in(pages, 8) == bytes(8)
    with pytest.raises(KvmError) as caught:
        client.copy_out(pages, bytes(8))
    assert caught.value.errno == errno.EFAULT


def test_inaccessible_page_is_efault(puppet: Puppet, client: Client, pages: int) -> None:
    puppet.call(SYS_MPROTECT, pages, 4096, PROT_NONE)
    with pytest.raises(KvmError) as caught:
        client.copy_in(pages, 1)
    assert caught.value.errno == errno.EFAULT


def test_dead_client_is_esrch(puppet: Puppet, client: Client, pages: int) -> None:
    puppet.kill()
    puppet.wait_end()
    with pytest.raises(KvmError) as caught:
        client.copy_in(pages, 1)
    assert caught.value.errno == errno.ESRCH
