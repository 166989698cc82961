"""The wrong-ID ladders, and objects that tests begin with."""

from collections.abc import Callable, Iterator

import pytest

from microv import abi_gen as mv
from microv.ops import pp, vm, vp, vs
from tests.deadline import deadline
from tests.hypercall.guest import Guest

TEST_SECONDS = 60

_RUNGS = ("invalid", "self", "root", "out_of_range", "never_created", "destroyed")


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    with deadline(TEST_SECONDS):
        yield


@pytest.fixture
def vmid() -> Iterator[int]:
    """A VM without VPs."""
    created = vm.create_vm()
    yield created
    vm.destroy_vm(created)


@pytest.fixture
def vpid(vmid: int) -> Iterator[int]:
    """A VP without VSs."""
    created = vp.create_vp(vmid)
    yield created
    vp.destroy_vp(created)


@pytest.fixture
def vsid(vpid: int) -> Iterator[int]:
    """A VS in its power-on state, in a VM without memory."""
    created = vs.create_vs(vpid)
    yield created
    vs.destroy_vs(created)


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A VM with memory, whose guest halts at once."""
    with Guest() as created:
        yield created


@pytest.fixture(params=_RUNGS)
def bad_vmid(request: pytest.FixtureRequest) -> int:
    """A number that is no guest VM."""

    def destroyed() -> int:
        vmid = vm.create_vm()
        vm.destroy_vm(vmid)
        return vmid

    return _bad_id(request.param, mv.MV_ROOT_VMID, mv.MV_MAX_VMS, destroyed)


@pytest.fixture(params=_RUNGS)
def bad_vpid(request: pytest.FixtureRequest, vmid: int) -> int:
    """A number that is no guest VP."""

    def destroyed() -> int:
        vpid = vp.create_vp(vmid)
        vp.destroy_vp(vpid)
        return vpid

    return _bad_id(request.param, pp.ppid(), mv.MV_MAX_VPS, destroyed)


@pytest.fixture(params=_RUNGS)
def bad_vsid(request: pytest.FixtureRequest, vpid: int) -> int:
    """A number that is no guest VS."""

    def destroyed() -> int:
        vsid = vs.create_vs(vpid)
        vs.destroy_vs(vsid)
        return vsid

    return _bad_id(request.param, pp.ppid(), mv.MV_MAX_VSS, destroyed)


def _bad_id(rung: str, root: int, limit: int, destroyed: Callable[[], int]) -> int:
    match rung:
        case "invalid":
            return mv.MV_INVALID_ID
        case "self":
            return mv.MV_SELF_ID
        case "root":
            return root
        case "out_of_range":
            return limit
        case "never_created":
            return limit - 1
        case _:
            return destroyed()
