"""mv_vm_op_stats_get, mv_vs_op_stats_get."""

import pytest

from microv.ops import vm, vs
from microv.status import MvError
from tests.hypercall.guest import Guest
from tests.hypercall.threads import running


def test_a_new_vs_has_done_nothing(vsid: int) -> None:
    assert not any(bytes(vs.stats_get(vsid)))


def test_exits_are_counted_by_kind(guest: Guest) -> None:
    vs.run(guest.vsid)
    stats = vs.stats_get(guest.vsid)
    assert (stats.exits, stats.hlt_exits, stats.left, stats.instructions) == (1, 1, 1, 1)


def test_instructions_are_counted_while_the_vs_runs() -> None:
    with Guest(b"\xe6\x10\xeb\xfe") as guest, running(guest.vsid):
        while vs.stats_get(guest.vsid).instructions < 1000:
            pass
        assert vs.stats_get(guest.vsid).left == 1


def test_pages_of_a_vm_are_counted(guest: Guest) -> None:
    assert vm.stats_get(guest.vmid).pages > 0


def test_a_new_vm_has_nothing(vmid: int) -> None:
    assert not any(bytes(vm.stats_get(vmid)))


def test_vm_refuses(bad_vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.stats_get(bad_vmid)


def test_vs_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.stats_get(bad_vsid)
