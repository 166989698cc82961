"""What most tests of an ioctl start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ioctl.rows import Targets
from tests.kvm import PAGE_SIZE, PROT_NONE, Region, System, Vcpu, Vm
from tests.machine import Machine


@pytest.fixture
def vm(system: System) -> Vm:
    """A VM without memory and vCPUs."""
    return system.create_vm()


@pytest.fixture
def vcpu(vm: Vm) -> Vcpu:
    """vCPU 0 of a VM without memory, as it is at power-on."""
    return vm.create_vcpu(0)


@pytest.fixture
def machine(system: System) -> Machine:
    """A vCPU with memory, waiting for a guest."""
    return Machine.of(system)


@pytest.fixture
def memory() -> Iterator[Region]:
    """64 KiB of this process that no VM knows."""
    region = Region(0x10000)
    yield region
    region.close()


@pytest.fixture(scope="module")
def shared_system(device_path: Path) -> Iterator[System]:
    """The device, for all tests of the module."""
    system = System(device_path)
    yield system
    system.close()


@pytest.fixture(scope="module")
def targets(shared_system: System) -> Targets:
    """One machine for all tests of a module that may not change it."""
    machine = Machine.of(shared_system, controllers=True)
    machine.vcpu.set_cpuid(shared_system.supported_cpuid())
    return Targets(shared_system, machine)


@pytest.fixture
def unchanged(targets: Targets, guarded: None) -> Iterator[None]:  # noqa: ARG001
    """The VM and the vCPU are after each test what they were."""
    before = targets.state()
    yield
    assert targets.state() == before


@pytest.fixture
def hole() -> Iterator[Region]:
    """Sixteen pages; the second half may not be touched."""
    region = Region(16 * PAGE_SIZE)
    region.protect(PROT_NONE, offset=8 * PAGE_SIZE, size=8 * PAGE_SIZE)
    yield region
    region.close()
