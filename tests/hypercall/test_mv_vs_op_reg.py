"""mv_vs_op_reg_get, reg_set, reg_get_list, reg_set_list."""

import pytest

from microv import abi_gen as mv
from microv import rdl
from microv.call import with_handle
from microv.ops import vs
from microv.shared_page import shared_page
from microv.status import MvError

_SET_LIST = mv.MV_VS_OP_VAL | mv.MV_VS_OP_REG_SET_LIST_IDX_VAL
_GET_LIST = mv.MV_VS_OP_VAL | mv.MV_VS_OP_REG_GET_LIST_IDX_VAL
_UNSUPPORTED = [
    mv.mv_reg_t_unsupported,
    mv.mv_reg_t_gdtr_selector,
    mv.mv_reg_t_gdtr_attrib,
    mv.mv_reg_t_idtr_selector,
    mv.mv_reg_t_idtr_attrib,
    mv.mv_reg_t_virtual_interrupt_a,
    mv.mv_reg_t_invalid,
    2**32 + mv.mv_reg_t_rax,
    2**64 - 1,
]
# A value for every register that says something about its width.
_VALUES = {
    **{reg: 0xFEDC_BA98_7654_3210 + reg for reg in range(mv.mv_reg_t_rax, mv.mv_reg_t_rsp + 1)},
    mv.mv_reg_t_rip: 0xFFFF_8000_1234_5678,
    mv.mv_reg_t_rflags: 0x246,
    mv.mv_reg_t_es_selector: 0xFFFF,
    mv.mv_reg_t_es_attrib: 0xC093,
    mv.mv_reg_t_es_limit: 0xFFFF_FFFF,
    mv.mv_reg_t_es_base: 0x1234_5000,
    mv.mv_reg_t_fs_base: 0xFFFF_8000_0000_1000,
    mv.mv_reg_t_tr_selector: 0x28,
    mv.mv_reg_t_ldtr_base: 0xFFFF_8000_0000_2000,
    mv.mv_reg_t_gdtr_limit: 0xFFFF,
    mv.mv_reg_t_gdtr_base: 0xFFFF_8000_0000_3000,
    mv.mv_reg_t_idtr_limit: 0x7FF,
    mv.mv_reg_t_idtr_base: 0xFFFF_8000_0000_4000,
    mv.mv_reg_t_dr0: 0x1000,
    mv.mv_reg_t_dr3: 0x4000,
    mv.mv_reg_t_cr0: 0x11,
    mv.mv_reg_t_cr2: 0xFFFF_8000_0000_5000,
    mv.mv_reg_t_cr3: 0x8000,
    mv.mv_reg_t_cr4: 0x20,
    mv.mv_reg_t_cr8: 0xF,
}


@pytest.mark.parametrize("reg", _VALUES)
def test_set_then_get(vsid: int, reg: int) -> None:
    vs.reg_set(vsid, reg, _VALUES[reg])
    assert vs.reg_get(vsid, reg) == _VALUES[reg]


def test_set_list_then_get_list_in_any_order(vsid: int) -> None:
    vs.reg_set_list(vsid, _VALUES.items())
    assert vs.reg_get_list(vsid, reversed(_VALUES)) == list(reversed(_VALUES.values()))


def test_the_identity(vsid: int) -> None:
    regs = [reg for reg in range(1, mv.mv_reg_t_invalid) if reg not in _UNSUPPORTED]
    before = vs.reg_get_list(vsid, regs)
    vs.reg_set_list(vsid, zip(regs, before, strict=True))
    assert vs.reg_get_list(vsid, regs) == before


@pytest.mark.parametrize("reg", _UNSUPPORTED)
def test_registers_that_are_none_are_refused(vsid: int, reg: int) -> None:
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.reg_get(vsid, reg)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.reg_set(vsid, reg, 0)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.reg_get_list(vsid, [mv.mv_reg_t_rax, reg])


@pytest.mark.parametrize("reg", _UNSUPPORTED)
def test_a_refused_list_changes_nothing(vsid: int, reg: int) -> None:
    vs.reg_set(vsid, mv.mv_reg_t_rax, 1)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.reg_set_list(vsid, [(mv.mv_reg_t_rax, 2), (mv.mv_reg_t_rax, 3), (reg, 0)])
    assert vs.reg_get(vsid, mv.mv_reg_t_rax) == 1


@pytest.mark.parametrize("call", [_SET_LIST, _GET_LIST])
@pytest.mark.parametrize("num_entries", [0, 251, 2**64 - 1])
def test_bad_counts_are_refused(vsid: int, call: int, num_entries: int) -> None:
    page = rdl.to_page([(mv.mv_reg_t_rax, 1)])
    page.num_entries = num_entries
    shared_page().write(page)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(call, vsid)


def test_a_full_list(vsid: int) -> None:
    regs = [mv.mv_reg_t_rbx] * mv.MV_RDL_MAX_ENTRIES
    vs.reg_set_list(vsid, [(reg, value) for value, reg in enumerate(regs)])
    assert vs.reg_get_list(vsid, regs) == [mv.MV_RDL_MAX_ENTRIES - 1] * len(regs)


def test_get_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.reg_get(bad_vsid, mv.mv_reg_t_rax)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.reg_get_list(bad_vsid, [mv.mv_reg_t_rax])


def test_set_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.reg_set(bad_vsid, mv.mv_reg_t_rax, 0)
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.reg_set_list(bad_vsid, [(mv.mv_reg_t_rax, 0)])


def test_set_and_get_many_times(vsid: int) -> None:
    for value in range(0x1000):
        vs.reg_set(vsid, mv.mv_reg_t_r15, value)
        assert vs.reg_get(vsid, mv.mv_reg_t_r15) == value
