"""What CPUID is made to show, as pure values."""

import struct

import pytest

from kvmshim.client.cpuid import Cpuid, CpuidPolicy, Execute, Override
from kvmshim.client.cpuid_ffi import HostCpuid

VMX = 1 << 5
SVM = 1 << 2
NOTHING = Cpuid(0, 0, 0, 0)
LAST_LEAVES = {0: 0x1F, 0x8000_0000: 0x8000_0028}


def processor(vendor: bytes, leaves: dict[int, Cpuid] | None = None) -> Execute:
    ebx, edx, ecx = struct.unpack("<III", vendor)
    known = {leaf: Cpuid(last, ebx, ecx, edx) for leaf, last in LAST_LEAVES.items()}
    known |= leaves or {}
    return lambda leaf, _subleaf: known.get(leaf, NOTHING)


@pytest.mark.parametrize(
    ("vendor", "leaf", "bit"),
    [
        (b"GenuineIntel", 1, VMX),
        (b"CentaurHauls", 1, VMX),
        (b"  Shanghai  ", 1, VMX),
        (b"AuthenticAMD", 0x8000_0001, SVM),
        (b"HygonGenuine", 0x8000_0001, SVM),
    ],
)
def test_virtualization_bit_of_the_vendor_is_set(vendor: bytes, leaf: int, bit: int) -> None:
    policy = CpuidPolicy.for_host(processor(vendor))
    assert policy.shown(leaf, Cpuid(1, 2, 0x100, 4)) == Cpuid(1, 2, 0x100 | bit, 4)


def test_other_vendors_bit_is_the_hosts() -> None:
    policy = CpuidPolicy.for_host(processor(b"AuthenticAMD"))
    assert policy.shown(1, NOTHING) == NOTHING


def test_leaf_without_override_is_the_hosts() -> None:
    policy = CpuidPolicy.for_host(processor(b"GenuineIntel"))
    assert policy.shown(7, Cpuid(1, 2, 3, 4)) == Cpuid(1, 2, 3, 4)


def test_unknown_vendor_is_shown_as_it_is() -> None:
    host = processor(b"Geode by NSC")
    assert not CpuidPolicy.for_host(host).differs(host)


def test_host_without_virtualization_differs() -> None:
    host = processor(b"AuthenticAMD")
    assert CpuidPolicy.for_host(host).differs(host)


def test_host_with_virtualization_does_not_differ() -> None:
    host = processor(b"AuthenticAMD", {0x8000_0001: Cpuid(0, 0, SVM, 0)})
    assert not CpuidPolicy.for_host(host).differs(host)


def test_leaf_that_the_host_lacks_does_not_differ() -> None:
    last = {0x8000_0000: Cpuid(0x8000_0000, 0, 0, 0)}
    host = processor(b"AuthenticAMD", last)
    assert not CpuidPolicy.for_host(host).differs(host)


def test_override_clears_bits_before_it_sets_some() -> None:
    policy = CpuidPolicy((Override(7, "ebx", set=0b001, clear=0b110),))
    assert policy.shown(7, Cpuid(9, 0b1010, 9, 9)) == Cpuid(9, 0b1001, 9, 9)


def test_later_overrides_win() -> None:
    policy = CpuidPolicy((Override(7, "edx", set=1), Override(7, "edx", clear=1)))
    assert policy.shown(7, NOTHING) == NOTHING


def test_host_executes_cpuid() -> None:
    host = HostCpuid()
    assert host.execute(0, 0).eax >= 1
    assert host.execute(0, 0) == host.execute_on(0, 0, 0)


def test_cpu_that_is_not_there_is_answered_by_another() -> None:
    host = HostCpuid()
    assert host.execute_on(1023, 0, 0) == host.execute(0, 0)
