"""Every number of the ABI: either it has a typed caller, or it is reserved and says so."""

import re
from types import ModuleType

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle
from microv.ops import debug, handle, irqchip, observe, pp, vm, vp, vs
from microv.ops import id as id_op

_GROUPS: dict[str, list[ModuleType]] = {
    "ID": [id_op],
    "HANDLE": [handle],
    "DEBUG": [debug],
    "PP": [pp],
    "VM": [vm, irqchip],
    "VP": [vp],
    "VS": [vs, observe],
}
_INDEX = re.compile(r"MV_([A-Z]+)_OP_(\w+)_IDX_VAL")
_NAMES = [name for name in vars(mv) if _INDEX.fullmatch(name)]


def _has_caller(name: str) -> bool:
    match = _INDEX.fullmatch(name)
    return match is not None and any(
        hasattr(module, match[2].lower()) for module in _GROUPS[match[1]]
    )


@pytest.mark.parametrize("name", [name for name in _NAMES if not _has_caller(name)])
def test_a_number_without_a_caller_is_unsupported(name: str) -> None:
    opcode = getattr(mv, name.split("_OP_")[0] + "_OP_VAL")
    status, _ = hypercall(opcode | getattr(mv, name), process_handle(), mv.MV_INVALID_ID)
    assert status == mv.MV_STATUS_FAILURE_UNSUPPORTED


def test_what_steps_1_and_2_need_has_callers() -> None:
    missing = {name.removesuffix("_IDX_VAL") for name in _NAMES if not _has_caller(name)}
    assert missing == {
        "MV_ID_OP_GET_CAPABILITY",
        "MV_ID_OP_CLR_CAPABILITY",
        "MV_ID_OP_SET_CAPABILITY",
        "MV_PP_OP_CPUID_GET_PERMISSABLE",
        "MV_PP_OP_CPUID_GET_PERMISSABLE_LIST",
        "MV_PP_OP_CPUID_GET_EMULATED",
        "MV_PP_OP_CPUID_GET_EMULATED_LIST",
        "MV_PP_OP_REG_GET_SUPPORTED",
        "MV_PP_OP_REG_GET_SUPPORTED_LIST",
        "MV_PP_OP_REG_GET_PERMISSABLE",
        "MV_PP_OP_REG_GET_PERMISSABLE_LIST",
        "MV_PP_OP_REG_GET_EMULATED",
        "MV_PP_OP_REG_GET_EMULATED_LIST",
        "MV_PP_OP_MSR_GET_PERMISSABLE",
        "MV_PP_OP_MSR_GET_PERMISSABLE_LIST",
        "MV_PP_OP_MSR_GET_EMULATED",
        "MV_PP_OP_MSR_GET_EMULATED_LIST",
        "MV_VS_OP_GVA_TO_GLA",
        "MV_VS_OP_GVA_TO_GPA",
        "MV_VS_OP_FPU_GET",
        "MV_VS_OP_FPU_SET",
        "MV_VS_OP_XSAVE_GET",
        "MV_VS_OP_XSAVE_SET",
    }


def test_no_two_calls_share_a_number() -> None:
    numbers = [(_INDEX.sub(r"\1", name), getattr(mv, name)) for name in _NAMES]
    assert len(set(numbers)) == len(numbers)
