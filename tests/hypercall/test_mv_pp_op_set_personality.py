"""mv_pp_op_set_personality: whose processor guests see."""

from collections.abc import Iterator

import pytest

from microv import abi_gen as mv
from microv.call import with_handle
from microv.ops import pp, vs
from microv.ops.pp import Personality
from microv.status import MvError

VENDORS = {Personality.INTEL: b"GenuineIntel", Personality.AMD: b"AuthenticAMD"}


@pytest.fixture(autouse=True)
def _own_personality() -> Iterator[None]:
    vendor = pp.cpuid_get_supported(0).ebx.to_bytes(4, "little")
    yield
    pp.set_personality(Personality.AMD if vendor == b"Auth" else Personality.INTEL)


def _vendor_of(vsid: int) -> bytes:
    leaf = next(entry for entry in vs.cpuid_get_list(vsid) if entry.function == 0)
    return b"".join(word.to_bytes(4, "little") for word in (leaf.ebx, leaf.edx, leaf.ecx))


@pytest.mark.parametrize("personality", Personality)
def test_lists_and_new_vss_are_of_the_vendor(vpid: int, personality: Personality) -> None:
    pp.set_personality(personality)
    assert pp.cpuid_get_supported(0).ebx.to_bytes(4, "little") == VENDORS[personality][:4]
    vsid = vs.create_vs(vpid)
    try:
        assert _vendor_of(vsid) == VENDORS[personality]
    finally:
        vs.destroy_vs(vsid)


def test_a_vs_stays_what_it_was(vsid: int) -> None:
    before = _vendor_of(vsid)
    for personality in Personality:
        pp.set_personality(personality)
        assert _vendor_of(vsid) == before


@pytest.mark.parametrize("number", [2, 2**32, 2**64 - 1])
def test_other_numbers_are_refused(number: int) -> None:
    before = pp.cpuid_get_supported_list()
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        with_handle(mv.MV_PP_OP_VAL | mv.MV_PP_OP_SET_PERSONALITY_IDX_VAL, number)
    assert pp.cpuid_get_supported_list() == before
