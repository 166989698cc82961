"""mv_pp_op_tsc_get_khz, tsc_set_khz, and those of mv_vs_op: a frequency from PP to VS."""

import pytest

from microv.ops import pp, vs
from microv.status import MvError
from tests.hypercall.guest import Guest
from tests.hypercall.threads import in_new_thread


@pytest.mark.parametrize("khz", [0, 2**32, 2**64 - 1])
def test_set_refuses_no_frequency(khz: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        pp.tsc_set_khz(khz)


def test_get_returns_the_hosts_frequency_before_set() -> None:
    def body() -> tuple[int, int]:
        with Guest() as guest:
            return pp.tsc_get_khz(), vs.tsc_get_khz(guest.vsid)

    host, of_vs = in_new_thread(body)
    assert host == of_vs


def test_get_returns_what_was_set() -> None:
    def body() -> list[int]:
        seen = []
        for khz in range(1, 0x100):
            pp.tsc_set_khz(khz)
            seen.append(pp.tsc_get_khz())
        return seen

    assert in_new_thread(body) == list(range(1, 0x100))


def test_a_vs_has_the_frequency_of_the_pp_that_created_it() -> None:
    def body() -> int:
        pp.tsc_set_khz(0x42)
        with Guest() as guest:
            return vs.tsc_get_khz(guest.vsid)

    assert in_new_thread(body) == 0x42


def test_vss_of_a_vm_share_the_frequency_of_the_first() -> None:
    def body() -> tuple[int, int]:
        pp.tsc_set_khz(0x42)
        with Guest() as guest:
            pp.tsc_set_khz(0x43)
            return vs.tsc_get_khz(guest.vsid), vs.tsc_get_khz(guest.add_vcpu(0))

    assert in_new_thread(body) == (0x42, 0x42)


def test_a_vs_has_the_hosts_frequency_where_none_was_set() -> None:
    def body() -> int:
        with Guest() as guest:
            return vs.tsc_get_khz(guest.vsid)

    assert in_new_thread(body) > 0x42


def test_a_vs_can_have_a_frequency_of_its_own(vsid: int) -> None:
    for khz in (1, 0x42, 2**32 - 1):
        vs.tsc_set_khz(vsid, khz)
        assert vs.tsc_get_khz(vsid) == khz


@pytest.mark.parametrize("khz", [0, 2**32, 2**64 - 1])
def test_vs_set_refuses_no_frequency(vsid: int, khz: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG2"):
        vs.tsc_set_khz(vsid, khz)


def test_vs_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.tsc_set_khz(bad_vsid, 1)


def test_vs_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.tsc_get_khz(bad_vsid)
