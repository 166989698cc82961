"""Options that change what is announced: answers of KVM_CHECK_EXTENSION, Hyper-V's name."""

import struct

import pytest

from kvmshim.abi.constants_gen import KVM_CAP_IRQCHIP, KVM_CAP_NR_VCPUS
from kvmshim.abi.profiles import KVM_CAP_TRANSLATE2
from tests import hyperv as hv
from tests.ioctl.test_translate2 import translate
from tests.kvm import System, Vcpu
from tests.machine import CODE, Machine
from tests.server import serving

OTHER = 245
LINUX_KVM_HV = "Linux KVM Hv"


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_tr_01_ti_01_a_series_is_found_under_another_number() -> None:
    options = ("--capability", f"{OTHER}=1", f"--capability={KVM_CAP_TRANSLATE2}=0")
    with serving(*options, "--capability", f"{KVM_CAP_NR_VCPUS:#x}=0x7") as server:
        system = System(server.path)
        machine = Machine.of(system)
        for target in (system, machine.vm):
            assert target.check_extension(OTHER) == 1
            assert target.check_extension(KVM_CAP_TRANSLATE2) == 0
            assert target.check_extension(KVM_CAP_NR_VCPUS) == 7
            assert target.check_extension(KVM_CAP_IRQCHIP) == 1
        assert translate(machine.vcpu, CODE).valid
        system.close()


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("name", ["Microsoft Hv", "x"])
def test_hv_46_name_is_the_one_that_is_wanted(name: str) -> None:
    with serving("--hyperv-name", name) as server:
        system = System(server.path)
        vcpu = system.create_vm().create_vcpu(0)
        for target in (system, vcpu):
            assert name_of(target) == name
        system.close()


def test_hv_46_name_is_kvms_by_default(system: System) -> None:
    assert name_of(system) == LINUX_KVM_HV


def name_of(target: System | Vcpu) -> str:
    vendor = hv.leaf(hv.supported(target), hv.VENDOR)
    return struct.pack("<3I", vendor.ebx, vendor.ecx, vendor.edx).rstrip(b"\0").decode()
