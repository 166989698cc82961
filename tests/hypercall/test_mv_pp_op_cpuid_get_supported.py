"""mv_pp_op_cpuid_get_supported and its list."""

import pytest

from microv import abi_gen as mv
from microv import cdl
from microv.call import with_handle
from microv.cdl import CdlEntry
from microv.ops import pp
from microv.shared_page import shared_page
from microv.status import MvError

_LIST = mv.MV_PP_OP_VAL | mv.MV_PP_OP_CPUID_GET_SUPPORTED_LIST_IDX_VAL
_RDMSR = 1 << 5


def test_the_list_has_the_maxima_and_what_lies_below() -> None:
    entries = pp.cpuid_get_supported_list()
    leaves = {entry.function: entry for entry in entries}
    assert leaves[0].eax >= 1
    assert leaves[0x8000_0000].eax >= 0x8000_0001


def test_rdmsr_is_supported() -> None:
    assert pp.cpuid_get_supported(1).edx & _RDMSR


def test_one_leaf_is_as_in_the_list() -> None:
    for entry in pp.cpuid_get_supported_list():
        assert pp.cpuid_get_supported(entry.function, entry.index) == entry


def test_a_leaf_that_is_not_supported_is_refused_alone_and_zero_in_a_list() -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        pp.cpuid_get_supported(0x1234_5678)
    page = shared_page()
    page.write(cdl.to_page([CdlEntry(0x1234_5678, eax=7), CdlEntry(0)], 0))
    with_handle(_LIST)
    unknown, maximum = cdl.entries(page.read(mv.mv_cdl_t))
    assert unknown == CdlEntry(0x1234_5678)
    assert maximum == pp.cpuid_get_supported(0)


@pytest.mark.parametrize(("flags", "num_entries"), [(0, 0), (0, 126), (1, 1), (0, 2**64 - 1)])
def test_the_list_refuses_bad_counts(flags: int, num_entries: int) -> None:
    question = cdl.to_page((), flags)
    question.num_entries = num_entries
    shared_page().write(question)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(_LIST)


def test_the_list_refuses_an_index_beyond_its_end() -> None:
    shared_page().write(cdl.everything_from(len(pp.cpuid_get_supported_list()) + 1))
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(_LIST)
