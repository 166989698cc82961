"""The wrong-ID ladders, and objects that tests begin with."""

from collections.abc import Iterator

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
    match request.param:
        case "root":
            return mv.MV_ROOT_VMID
        case "out_of_range":
            return mv.MV_MAX_VMS
        case "never_created":
            return mv.MV_MAX_VMS - 1
        case "destroyed":
            destroyed = vm.create_vm()
            vm.destroy_vm(destroyed)
            return destroyed
        case rung:
            return _special(rung)


@pytest.fixture(params=_RUNGS)
def bad_vpid(request: pytest.FixtureRequest, vmid: int) -> int:
    """A number that is no guest VP."""
    match request.param:
        case "root":
            return pp.ppid()
        case "out_of_range":
            return mv.MV_MAX_VPS
        case "never_created":
            return mv.MV_MAX_VPS - 1
        case "destroyed":
            destroyed = vp.create_vp(vmid)
            vp.destroy_vp(destroyed)
            return destroyed
        case rung:
            return _special(rung)


@pytest.fixture(params=_RUNGS)
def bad_vsid(request: pytest.FixtureRequest, vpid: int) -> int:
    """A number that is no guest VS."""
    match request.param:
        case "root":
            return pp.ppid()
        case "out_of_range":
            return mv.MV_MAX_VSS
        case "never_created":
            return mv.MV_MAX_VSS - 1
        case "destroyed":
            destroyed = vs.create_vs(vpid)
            vs.destroy_vs(destroyed)
            return destroyed
        case rung:
            return _special(rung)


def _special(rung: str) -> int:
    return {"invalid": mv.MV_INVALID_ID, "self": mv.MV_SELF_ID}[rung]
