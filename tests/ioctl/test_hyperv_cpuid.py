"""KVM_GET_SUPPORTED_HV_CPUID: what a guest of Hyper-V can be shown."""

import errno
from pathlib import Path

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_GET_SUPPORTED_HV_CPUID
from kvmshim.abi.structs_gen import kvm_cpuid_entry2
from tests import hyperv
from tests.kvm import (
    PAGE_SIZE,
    PROT_NONE,
    Region,
    System,
    Vcpu,
    Vm,
    cpuid_entries,
    cpuid_table,
    refused,
)
from tests.machine import Machine

FUNCTIONS = [0, 1, 2, 3, 4, 5, 0x80, 0x81, 0x82, 0xA]
CLUSTER_IPI = 1 << 10
NO_CORE_SHARING = 1 << 18
CAPABILITIES = [
    kvm.KVM_CAP_HYPERV,
    kvm.KVM_CAP_HYPERV_VAPIC,
    kvm.KVM_CAP_HYPERV_SPIN,
    kvm.KVM_CAP_HYPERV_TIME,
    kvm.KVM_CAP_HYPERV_VP_INDEX,
    kvm.KVM_CAP_HYPERV_TLBFLUSH,
    kvm.KVM_CAP_HYPERV_SEND_IPI,
    kvm.KVM_CAP_HYPERV_CPUID,
    kvm.KVM_CAP_SYS_HYPERV_CPUID,
    kvm.KVM_CAP_HYPERV_ENFORCE_CPUID,
]


@pytest.fixture(params=["system", "vcpu"])
def target(request: pytest.FixtureRequest, system: System, vcpu: Vcpu) -> System | Vcpu:
    return system if request.param == "system" else vcpu


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_hv_00b_it_is_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 1


@pytest.mark.parametrize(
    "capability", [kvm.KVM_CAP_HYPERV_ENLIGHTENED_VMCS, kvm.KVM_CAP_HYPERV_DIRECT_TLBFLUSH]
)
def test_hv_16_absent_it_is_not_announced(system: System, capability: int) -> None:
    assert system.check_extension(capability) == 0


def test_hv_00b_there_are_ten_leaves_in_the_kernels_order(target: System | Vcpu) -> None:
    entries = hyperv.supported(target)
    assert [entry.function & 0xFFF_FFFF for entry in entries] == FUNCTIONS
    for entry in entries:
        assert (entry.index, entry.flags, *entry.padding) == (0, 0, 0, 0, 0)


def test_hv_00c_the_leaves_have_the_kernels_values(system: System) -> None:
    """And the bits of what no kernel has, `docs/deviations.md`."""
    entries = hyperv.supported(system)
    values = {e.function: (e.eax, e.ebx, e.ecx, e.edx) for e in entries}
    vendor = tuple(int.from_bytes(part, "little") for part in (b"Linu", b"x KV", b"M Hv"))
    assert values[0x4000_0000] == (0x4000_0082, *vendor)
    assert values[0x4000_0001] == (hyperv.HV_1, 0, 0, 0)
    assert values[0x4000_0002] == (0x3839, 0x000A_0000, 0, 0)
    assert values[0x4000_0003] == (0xAEFF, 0x32_0832, 0, 0x8E_DD12)
    assert values[0x4000_0004][:2] == (0xE2C | values[0x4000_0004][0] & NO_CORE_SHARING, 0xFFF)
    assert values[0x4000_0005] == (1024, 64, 0, 0)
    assert values[0x4000_0080] == (0, *vendor)
    assert values[0x4000_0081] == (int.from_bytes(b"VS#1", "little"), 0, 0, 0)
    assert values[0x4000_0082] == (2, 0, 0, 0)


def test_hv_21_bit_is_there_as_in_kvm_and_no_vmcs_is_enlightened(system: System) -> None:
    """The bit alone promises nothing: `docs/deviations.md`."""
    assert hyperv.leaf(hyperv.supported(system), 0x4000_000A).eax == 1 << 19


def test_hv_10_direct_timers_need_local_apics(system: System, vcpu: Vcpu) -> None:
    assert hyperv.leaf(hyperv.supported(vcpu), hyperv.FEATURES).edx == 0x4_DD12
    assert hyperv.leaf(hyperv.supported(system), hyperv.FEATURES).edx == 0x8E_DD12


def test_hv_15_interrupts_to_sets_need_local_apics(system: System, vcpu: Vcpu) -> None:
    of_system = hyperv.leaf(hyperv.supported(system), hyperv.RECOMMENDATIONS).eax
    without = hyperv.leaf(hyperv.supported(vcpu), hyperv.RECOMMENDATIONS).eax
    machine = Machine.of(system, controllers=True)
    with_apic = hyperv.leaf(hyperv.supported(machine.vcpu), hyperv.RECOMMENDATIONS).eax
    assert of_system == with_apic == without | CLUSTER_IPI
    assert not without & CLUSTER_IPI


def test_hv_18_cores_are_shared_as_the_host_says(system: System) -> None:
    control = Path("/sys/devices/system/cpu/smt/control")
    never = control.exists() and control.read_text().strip() in ("forceoff", "notsupported")
    recommended = hyperv.leaf(hyperv.supported(system), hyperv.RECOMMENDATIONS).eax
    assert bool(recommended & NO_CORE_SHARING) == never


@pytest.mark.parametrize("room", [0, 1, 9])
def test_hv_00b_too_little_room_is_refused(target: System | Vcpu, room: int) -> None:
    raw = cpuid_table([kvm_cpuid_entry2()] * 10, nent=room)
    before = bytes(raw)
    with refused(errno.E2BIG):
        target.ioctl(KVM_GET_SUPPORTED_HV_CPUID, raw)
    assert bytes(raw) == before


def test_hv_00b_exactly_enough_room_is_enough(target: System | Vcpu) -> None:
    raw = cpuid_table([kvm_cpuid_entry2()] * 10)
    target.ioctl(KVM_GET_SUPPORTED_HV_CPUID, raw)
    assert len(cpuid_entries(raw)) == 10


def test_hv_00b_a_pointer_to_nothing_is_refused(target: System | Vcpu) -> None:
    with refused(errno.EFAULT):
        target.ioctl(KVM_GET_SUPPORTED_HV_CPUID, 8)


def test_hv_00b_entries_that_cannot_be_written_are_refused(target: System | Vcpu) -> None:
    region = Region(2 * PAGE_SIZE)
    region.protect(PROT_NONE, offset=PAGE_SIZE, size=PAGE_SIZE)
    region.write(PAGE_SIZE - 8, (16).to_bytes(8, "little"))
    with refused(errno.EFAULT):
        target.ioctl(KVM_GET_SUPPORTED_HV_CPUID, region.address + PAGE_SIZE - 8)
    region.close()


def test_hv_00b_a_vm_has_no_list(vm: Vm) -> None:
    with refused(errno.ENOTTY):
        vm.ioctl(KVM_GET_SUPPORTED_HV_CPUID, cpuid_table([kvm_cpuid_entry2()] * 10))
