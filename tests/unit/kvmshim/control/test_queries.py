"""Questions about VMs of which one is just ending."""

import pytest

from kvmshim.control.protocol import Request, RequestError
from kvmshim.control.queries import Queries
from kvmshim.objects.living import Living
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Vm
from tests.door.stand_in import StandInVmDoor

NO_VSID = 0xFFFE


@pytest.fixture
def living() -> Living:
    """A VM without vCPUs, and one whose vCPU the engine does not know any more."""
    living = Living()
    for vmid in (0, 1):
        vm = Vm(vmid, process=1, door=StandInVmDoor())
        living.add(vm)
    vm.vcpus[0] = Vcpu(vm, 0, 0, NO_VSID)
    return living


def test_a_vm_that_ends_meanwhile_is_not_listed(living: Living) -> None:
    listed = Queries(living).answer(Request("list"))
    assert [vm["vcpus"] for vm in listed["vms"]] == [[]]


def test_who_asks_for_it_hears_that_it_is_gone(living: Living) -> None:
    name = list(living.all())[1]
    with pytest.raises(RequestError, match="just ended") as refused:
        Queries(living).answer(Request("vcpu", arguments={"vm": name, "vcpu": 0}))
    assert refused.value.kind == "gone"
