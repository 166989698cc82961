"""mv_pp_op_msr_get_supported and its list."""

import pytest

from microv import abi_gen as mv
from microv import rdl
from microv.call import with_handle
from microv.ops import pp
from microv.shared_page import shared_page
from microv.status import MvError

_LIST = mv.MV_PP_OP_VAL | mv.MV_PP_OP_MSR_GET_SUPPORTED_LIST_IDX_VAL
_APIC_BASE, _PAT, _EFER, _STAR = 0x1B, 0x277, 0xC000_0080, 0xC000_0081
_NO_MSR = 0x1234_5678


def test_the_list_has_what_a_kernel_needs() -> None:
    assert {_APIC_BASE, _PAT, _EFER, _STAR} <= set(pp.msr_get_supported_list())


def test_each_of_the_list_is_supported_and_another_is_not() -> None:
    assert all(pp.msr_get_supported(msr) for msr in pp.msr_get_supported_list())
    assert not pp.msr_get_supported(_NO_MSR)


def test_a_number_beyond_32_bits_is_refused() -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        pp.msr_get_supported(2**32 + _PAT)


def test_a_listed_question_is_answered_with_1_and_0() -> None:
    page = shared_page()
    page.write(rdl.to_page([(_PAT, 7), (_NO_MSR, 7), (_STAR, 7)]))
    with_handle(_LIST)
    assert rdl.entries(page.read(mv.mv_rdl_t)) == [(_PAT, 1), (_NO_MSR, 0), (_STAR, 1)]


def test_the_cursor_starts_in_the_middle() -> None:
    supported = pp.msr_get_supported_list()
    page = shared_page()
    question = rdl.to_page(())
    question.reg[0], question.reg[1] = mv.MV_RDL_FLAG_ALL, 2
    page.write(question)
    with_handle(_LIST)
    answer = page.read(mv.mv_rdl_t)
    assert [msr for msr, _ in rdl.entries(answer)] == supported[2:]
    assert answer.reg[1] == 0


@pytest.mark.parametrize(
    ("reg0", "reg1", "num_entries"),
    [
        (2, 0, 1),
        (3, 0, 0),
        (1, 0, 1),
        (1, 0xFFFF, 0),
        (1, 2**64 - 1, 0),
        (0, 1, 1),
        (0, 0, 0),
        (0, 0, 251),
    ],
)
def test_other_questions_are_refused(reg0: int, reg1: int, num_entries: int) -> None:
    question = rdl.to_page([(_PAT, 0)])
    question.reg[0], question.reg[1], question.num_entries = reg0, reg1, num_entries
    shared_page().write(question)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(_LIST)


def test_a_listed_number_beyond_32_bits_is_refused() -> None:
    shared_page().write(rdl.to_page([(2**32 | _PAT, 0)]))
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(_LIST)


def test_features_have_values() -> None:
    features = pp.msr_get_feature_list()
    assert features
    assert len(dict(features)) == len(features)
