"""mv_vm_op_create_vm, destroy_vm, vmid."""

import pytest

from microv import abi_gen as mv
from microv.ops import vm, vp
from microv.status import MvError
from tests.hypercall.exhaustion import until_refused

_ORDERS = [(0, 1, 2), (2, 1, 0), (1, 0, 2)]


@pytest.mark.parametrize("order", _ORDERS)
def test_vms_are_destroyed_in_any_order(order: tuple[int, ...]) -> None:
    created = [vm.create_vm() for _ in range(3)]
    assert len(set(created)) == 3
    for place in order:
        vm.destroy_vm(created[place])


def test_an_id_is_given_again_after_destruction() -> None:
    first = vm.create_vm()
    vm.destroy_vm(first)
    again = vm.create_vm()
    vm.destroy_vm(again)
    assert again == first != mv.MV_ROOT_VMID


def test_exhaustion_is_refused_and_ends() -> None:
    created, refusal = until_refused(vm.create_vm)
    assert refusal.status == mv.MV_STATUS_FAILURE_UNKNOWN
    for vmid in created:
        vm.destroy_vm(vmid)
    vm.destroy_vm(vm.create_vm())


@pytest.mark.parametrize(
    "vmid", [mv.MV_INVALID_ID, mv.MV_SELF_ID, mv.MV_MAX_VMS, mv.MV_MAX_VMS - 1]
)
def test_destroy_refuses_what_is_no_vm(vmid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.destroy_vm(vmid)


def test_destroy_refuses_the_root_vm() -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.destroy_vm(mv.MV_ROOT_VMID)


def test_destroy_refuses_a_second_time() -> None:
    created = vm.create_vm()
    vm.destroy_vm(created)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vm.destroy_vm(created)


def test_destroy_refuses_while_a_vp_is_there() -> None:
    created = vm.create_vm()
    vpid = vp.create_vp(created)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vm.destroy_vm(created)
    vp.destroy_vp(vpid)
    vm.destroy_vm(created)


def test_the_upper_bits_of_the_register_are_ignored() -> None:
    vm.destroy_vm(0x1234_5678_0000 | vm.create_vm())


def test_the_caller_is_the_root_vm() -> None:
    assert vm.vmid() == mv.MV_ROOT_VMID


def test_create_and_destroy_many_times() -> None:
    assert len({_once() for _ in range(0x1000)}) == 1


def _once() -> int:
    created = vm.create_vm()
    vm.destroy_vm(created)
    return created
