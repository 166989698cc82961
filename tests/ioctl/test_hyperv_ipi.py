"""Hyper-V's hypercalls that send an interrupt to a set of processors."""

import struct

import pytest

from tests import hyperv as hv
from tests.hyperv import Guest
from tests.ioctl.test_hypercalls import has_pending, switch_on
from tests.kvm import System, Vcpu
from tests.machine import DATA, RAM_SIZE

VECTOR = 0x40
ALL = 1
SPARSE = 0
NUMBER_OF_FAR = 129
"""HV_X64_MSR_VP_INDEX of the last processor, in the third word of a sparse set."""


class Partition:
    """A guest with three further processors, whose ids are sparse and whose numbers are not."""

    def __init__(self, system: System) -> None:
        self.guest = Guest.of(system, controllers=True)
        self.guest.introduce()
        others = [self.guest.machine.vm.create_vcpu(vcpu_id) for vcpu_id in (2, 65, 3)]
        self.vcpus: list[Vcpu] = [self.guest.vcpu, *others]
        for vcpu in self.vcpus:
            switch_on(vcpu)
        others[2].set_msrs([(hv.VP_INDEX, NUMBER_OF_FAR)])

    def reached(self) -> list[int]:
        """By the order of creation."""
        return [place for place, vcpu in enumerate(self.vcpus) if has_pending(vcpu, VECTOR)]


@pytest.fixture
def partition(system: System) -> Partition:
    return Partition(system)


@pytest.mark.parametrize(("mask", "reached"), [(0, []), (1, [0]), (0b110, [1, 2]), (1 << 63, [])])
def test_hv_15_a_mask_names_processors(partition: Partition, mask: int, reached: list[int]) -> None:
    partition.guest.machine.ram.write(DATA, struct.pack("<2Q", VECTOR, mask))
    assert partition.guest.call(hv.SEND_IPI, DATA) == hv.SUCCESS
    assert partition.reached() == reached


@pytest.mark.parametrize(("mask", "reached"), [(0b10, [1]), (0b101, [0, 2])])
def test_hv_15_fast_the_mask_is_the_second_word(
    partition: Partition, mask: int, reached: list[int]
) -> None:
    assert partition.guest.call(hv.SEND_IPI | hv.FAST, VECTOR, mask) == hv.SUCCESS
    assert partition.reached() == reached


@pytest.mark.parametrize("vector", [0, 0xF, 0x100, 0xFFFF_FFFF], ids=hex)
def test_hv_15_a_vector_that_is_none_is_refused(partition: Partition, vector: int) -> None:
    assert partition.guest.call(hv.SEND_IPI | hv.FAST, vector, 1) == hv.INVALID_INPUT
    partition.guest.machine.ram.write(DATA, struct.pack("<3Q", vector, ALL, 0))
    assert partition.guest.call(hv.SEND_IPI_EX, DATA) == hv.INVALID_INPUT


def test_hv_15_fast_the_upper_half_of_the_vector_is_zero(partition: Partition) -> None:
    assert partition.guest.call(hv.SEND_IPI | hv.FAST, VECTOR | 1 << 32, 1) == hv.INVALID_INPUT
    assert partition.reached() == []


def sets() -> list[tuple[int, int, tuple[int, ...], list[int]]]:
    """Format, mask of words, words, and whom they name."""
    return [
        (ALL, 0, (), [0, 1, 2, 3]),
        (SPARSE, 0, (), []),
        (SPARSE, 1, (0b11,), [0, 1]),
        (SPARSE, 0b100, (0b10,), [3]),
        (SPARSE, 0b101, (0b100, 0b10), [2, 3]),
        (SPARSE, 0b111, (1, 0, 0b11), [0, 3]),
        (SPARSE, 1 << 63, (1 << 63,), []),
    ]


@pytest.mark.parametrize(("format_", "mask", "words", "reached"), sets())
def test_hv_15_a_set_names_processors(
    partition: Partition, format_: int, mask: int, words: tuple[int, ...], reached: list[int]
) -> None:
    raw = struct.pack(f"<{3 + len(words)}Q", VECTOR, format_, mask, *words)
    partition.guest.machine.ram.write(DATA, raw)
    assert partition.guest.call(hv.SEND_IPI_EX | len(words) << 17, DATA) == hv.SUCCESS
    assert partition.reached() == reached


@pytest.mark.parametrize(("format_", "mask", "words", "reached"), sets())
def test_hv_22_fast_the_set_is_in_vector_registers(
    partition: Partition, format_: int, mask: int, words: tuple[int, ...], reached: list[int]
) -> None:
    hv.set_vectors(partition.guest.vcpu, [mask, *words])
    control = hv.SEND_IPI_EX | hv.FAST | len(words) << 17
    assert partition.guest.call(control, VECTOR, format_) == hv.SUCCESS
    assert partition.reached() == reached


@pytest.mark.parametrize("count", [0, 2, 65, 0x3FF])
def test_hv_15_a_wrong_number_of_words_is_refused(partition: Partition, count: int) -> None:
    partition.guest.machine.ram.write(DATA, struct.pack("<4Q", VECTOR, SPARSE, 1, 1))
    assert partition.guest.call(hv.SEND_IPI_EX | count << 17, DATA) == hv.INVALID_INPUT
    assert partition.reached() == []


def test_hv_22_fast_eleven_words_fit_and_twelve_do_not(partition: Partition) -> None:
    for count, status in ((11, hv.SUCCESS), (12, hv.INVALID_INPUT)):
        hv.set_vectors(partition.guest.vcpu, [(1 << count) - 1, 1])
        control = hv.SEND_IPI_EX | hv.FAST | count << 17
        assert partition.guest.call(control, VECTOR, SPARSE) == status
    assert partition.reached() == [0]


def test_hv_15_input_outside_memory_is_refused(partition: Partition) -> None:
    for control in (hv.SEND_IPI, hv.SEND_IPI_EX):
        assert partition.guest.call(control, RAM_SIZE) == hv.INVALID_INPUT
    partition.guest.machine.ram.write(RAM_SIZE - 24, struct.pack("<3Q", VECTOR, SPARSE, 1))
    sparse = hv.SEND_IPI_EX | 1 << 17
    assert partition.guest.call(sparse, RAM_SIZE - 24) == hv.INVALID_INPUT


def test_hv_15_without_local_apics_it_is_refused(system: System) -> None:
    guest = Guest.introduced(system)
    assert guest.call(hv.SEND_IPI | hv.FAST, VECTOR, 1) == hv.INVALID_INPUT
    guest.machine.ram.write(DATA, struct.pack("<3Q", VECTOR, ALL, 0))
    assert guest.call(hv.SEND_IPI_EX, DATA) == hv.INVALID_INPUT
