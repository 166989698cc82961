"""mv_pp_op_set_code_cache: what the translated code of new VMs may take."""

from collections.abc import Iterator

import pytest

from microv import abi_gen as mv
from microv.call import with_handle
from microv.ops import pp, vm
from microv.status import MvError

DEFAULT_MIB = 256


@pytest.fixture(autouse=True)
def _default_afterwards() -> Iterator[None]:
    yield
    pp.set_code_cache(DEFAULT_MIB)


@pytest.mark.parametrize("mib", [1, DEFAULT_MIB, mv.MV_MAX_CODE_CACHE_MIB])
def test_vms_are_created_after_it(mib: int) -> None:
    pp.set_code_cache(mib)
    vm.destroy_vm(vm.create_vm())


@pytest.mark.parametrize("mib", [0, mv.MV_MAX_CODE_CACHE_MIB + 1, 2**32, 2**64 - 1])
def test_other_numbers_are_refused(mib: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        with_handle(mv.MV_PP_OP_VAL | mv.MV_PP_OP_SET_CODE_CACHE_IDX_VAL, mib)
