"""mv_pp_op_tsc_get_khz, tsc_set_khz, and mv_vs_op_tsc_get_khz: a frequency from PP to VS."""

import pytest

from microv.ops import pp, vs
from microv.status import MvError
from tests.hypercall.guest import Guest
from tests.hypercall.threads import in_new_thread


@pytest.mark.parametrize("khz", [0, 2**32, 2**64 - 1])
def test_set_refuses_no_frequency(khz: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        pp.tsc_set_khz(khz)


def test_get_is_refused_before_set() -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        in_new_thread(pp.tsc_get_khz)


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


def test_vs_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.tsc_get_khz(bad_vsid)
