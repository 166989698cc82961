"""mv_vs_op_cpuid_get, cpuid_set, cpuid_get_list, cpuid_set_list; and what the guest sees."""

from dataclasses import replace

import pytest

from microv import abi_gen as mv
from microv import cdl
from microv.call import with_handle
from microv.cdl import CdlEntry
from microv.ops import pp, vs
from microv.shared_page import shared_page
from microv.status import MvError
from tests.hypercall.guest import Guest

_SET_LIST = mv.MV_VS_OP_VAL | mv.MV_VS_OP_CPUID_SET_LIST_IDX_VAL
_LEAF = CdlEntry(1, eax=0x12345, ebx=1, ecx=2, edx=3)
_SUBLEAVES = [
    CdlEntry(4, index, mv.MV_CPUID_FLAG_SIGNIFICANT_INDEX, eax=index + 1) for index in range(3)
]
_APIC = 1 << 9
"""EDX: the guest sees IA32_APIC_BASE.EN there, whatever was set."""
_CPUID_THEN_HLT = b"\x0f\xa2\xf4"


def test_a_new_vs_has_what_is_supported(vsid: int) -> None:
    """But for the leaves of the paravirtual interface, which the caller adds where it wants it."""
    supported = [entry for entry in pp.cpuid_get_supported_list() if entry.function >> 28 != 4]
    assert vs.cpuid_get_list(vsid) == supported


def test_set_list_replaces_everything(vsid: int) -> None:
    vs.cpuid_set_list(vsid, [_LEAF, *_SUBLEAVES])
    assert vs.cpuid_get_list(vsid) == [_LEAF, *_SUBLEAVES]
    vs.cpuid_set_list(vsid, [])
    assert vs.cpuid_get_list(vsid) == []


def test_set_list_takes_256_entries_and_no_more(vsid: int) -> None:
    entries = [CdlEntry(leaf, eax=leaf) for leaf in range(256)]
    vs.cpuid_set_list(vsid, entries)
    assert vs.cpuid_get_list(vsid) == entries
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.cpuid_set_list(vsid, [*entries, CdlEntry(256)])


def test_set_list_without_flags_changes_the_listed_leaves_only(vsid: int) -> None:
    vs.cpuid_set_list(vsid, [_LEAF, *_SUBLEAVES])
    shared_page().write(cdl.to_page([replace(_LEAF, ebx=9), CdlEntry(7)], 0))
    with_handle(_SET_LIST, vsid)
    assert vs.cpuid_get_list(vsid) == [replace(_LEAF, ebx=9), *_SUBLEAVES, CdlEntry(7)]


def test_features_can_be_set_that_are_not_supported(vsid: int) -> None:
    vs.cpuid_set(vsid, CdlEntry(0x8000_0008, eax=0x3030))
    assert vs.cpuid_get(vsid, 0x8000_0008).eax == 0x3030


def test_a_leaf_without_subleaves_answers_for_all(vsid: int) -> None:
    vs.cpuid_set_list(vsid, [_LEAF, *_SUBLEAVES])
    assert vs.cpuid_get(vsid, 1, 5) == _LEAF
    assert vs.cpuid_get(vsid, 4, 2) == _SUBLEAVES[2]


def test_get_refuses_a_leaf_that_is_not_there(vsid: int) -> None:
    vs.cpuid_set_list(vsid, _SUBLEAVES)
    for function, index in ((1, 0), (4, 3)):
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vs.cpuid_get(vsid, function, index)


@pytest.mark.parametrize(("flags", "num_entries"), [(0, 0), (0, 126), (1, 126), (2, 2**64 - 1)])
def test_set_list_refuses_bad_counts(vsid: int, flags: int, num_entries: int) -> None:
    page = cdl.to_page([_LEAF], flags)
    page.num_entries = num_entries
    shared_page().write(page)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(_SET_LIST, vsid)


def test_the_guest_sees_what_was_set() -> None:
    with Guest(_CPUID_THEN_HLT) as guest:
        vs.cpuid_set_list(guest.vsid, [_LEAF])
        exit_ = vs.run(guest.vsid, regs=[(mv.mv_reg_t_rax, 1)])
        assert exit_.reason == mv.mv_exit_reason_t_hlt
        seen = [mv.mv_reg_t_rax, mv.mv_reg_t_rbx, mv.mv_reg_t_rcx, mv.mv_reg_t_rdx]
        assert vs.reg_get_list(guest.vsid, seen) == [0x12345, 1, 2, 3 | _APIC]


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.cpuid_get(bad_vsid, 0)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.cpuid_get_list(bad_vsid)


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.cpuid_set(bad_vsid, _LEAF)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.cpuid_set_list(bad_vsid, [_LEAF])


def test_set_and_get_many_times(vsid: int) -> None:
    for eax in range(0x200):
        vs.cpuid_set(vsid, replace(_LEAF, eax=eax))
        assert vs.cpuid_get(vsid, 1).eax == eax
