"""mv_vs_op_gla_to_gpa and probe: the guest's page tables, asked from outside."""

import struct

import pytest

from microv import abi_gen as mv
from microv.ops import vs
from microv.status import MvError
from tests.hypercall.guest import Guest

_DIRECTORY, _TABLE = 0x8000, 0x9000
_CR0_PE_PG = 0x8000_0011
_PRESENT, _WRITABLE, _USER = 1, 2, 4
_PAGE = mv.MV_PAGE_SIZE
_RX = mv.MV_MAP_FLAG_READ_ACCESS | mv.MV_MAP_FLAG_EXECUTE_ACCESS | mv.MV_MAP_FLAG_4K_PAGE


@pytest.fixture
def paging(guest: Guest) -> Guest:
    """32-bit paging: page 1 is 5, read-only for users; page 2 is 6, writable for the kernel."""
    guest.load(_DIRECTORY, struct.pack("<I", _TABLE | _PRESENT | _WRITABLE | _USER))
    entries = (0, 5 * _PAGE | _PRESENT | _USER, 6 * _PAGE | _PRESENT | _WRITABLE, 7 * _PAGE)
    guest.load(_TABLE, struct.pack("<4I", *entries))
    vs.reg_set_list(guest.vsid, [(mv.mv_reg_t_cr3, _DIRECTORY), (mv.mv_reg_t_cr0, _CR0_PE_PG)])
    return guest


@pytest.mark.parametrize("gla", [0, _PAGE, 0xFFFF_F000])
def test_without_paging_it_is_the_identity(guest: Guest, gla: int) -> None:
    gpa, flags = vs.gla_to_gpa(guest.vsid, gla)
    assert gpa == gla
    assert flags & _RX == _RX


def test_the_tables_say_page_and_rights(paging: Guest) -> None:
    assert vs.gla_to_gpa(paging.vsid, _PAGE) == (5 * _PAGE, _RX | mv.MV_MAP_FLAG_USER)
    assert vs.gla_to_gpa(paging.vsid, 2 * _PAGE) == (6 * _PAGE, _RX | mv.MV_MAP_FLAG_WRITE_ACCESS)


@pytest.mark.parametrize("gla", [0, 3 * _PAGE, 0x40_0000])
def test_pages_that_are_not_present_are_refused(paging: Guest, gla: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.gla_to_gpa(paging.vsid, gla)


def test_accessed_and_dirty_bits_stay(paging: Guest) -> None:
    before = paging.memory[_DIRECTORY : _TABLE + 16]
    vs.gla_to_gpa(paging.vsid, _PAGE)
    assert paging.memory[_DIRECTORY : _TABLE + 16] == before


@pytest.mark.parametrize("gla", [1, 0xFFF, 2**64 - 1])
def test_unaligned_addresses_are_refused(guest: Guest, gla: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.gla_to_gpa(guest.vsid, gla)


def test_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.gla_to_gpa(bad_vsid, _PAGE)


def test_many_times(paging: Guest) -> None:
    answers = {vs.gla_to_gpa(paging.vsid, _PAGE) for _ in range(0x1000)}
    assert answers == {(5 * _PAGE, _RX | mv.MV_MAP_FLAG_USER)}


def _probed(guest: Guest, gla: int, flags: int = 0) -> tuple[int, int, int]:
    found = vs.probe(guest.vsid, gla, flags)
    return found.gpa, found.failure, found.marked


def test_tr_04_a_probe_says_what_an_access_would_find(paging: Guest) -> None:
    assert _probed(paging, _PAGE + 5) == (5 * _PAGE + 5, mv.MV_PROBE_FOUND, 0)
    write = mv.MV_PROBE_WRITE | mv.MV_PROBE_USER
    assert _probed(paging, _PAGE, write) == (_TABLE + 4, mv.MV_PROBE_DENIED, 0)
    assert _probed(paging, 3 * _PAGE) == (_TABLE + 12, mv.MV_PROBE_NOT_PRESENT, 0)
    assert _probed(paging, 1 << 32) == (0, mv.MV_PROBE_NO_ADDRESS, 0)
    assert _probed(paging, _PAGE, mv.MV_PROBE_SET_ACCESSED)[2] == 1
    assert paging.memory[_TABLE + 4] & 0x20


def test_a_probe_has_flags_that_are_known(guest: Guest, bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG3"):
        vs.probe(guest.vsid, 0, 1 << 6)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.probe(bad_vsid, 0, 0)
