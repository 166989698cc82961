"""What most tests of an ioctl start from."""

from collections.abc import Iterator

import pytest

from tests.kvm import Region, System, Vcpu, Vm
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
