"""KVM_SET_NR_MMU_PAGES and KVM_GET_NR_MMU_PAGES: how many pages shadow page tables may take.

There are none: the guest's own tables are walked. So every limit is kept, and remembered.
"""

import errno
from typing import Final

from kvmshim.errors import KvmError
from kvmshim.objects.vm import Vm
from kvmshim.platform.caller import Caller

_AT_LEAST: Final = 64
_TOLD: Final = 0x7FFF_FFFF


def handle_vm_set_nr_mmu_pages(vm: Vm, pages: int, _: Caller) -> None:
    """KVM_SET_NR_MMU_PAGES. Errors: EINVAL (less than 64)."""
    if pages < _AT_LEAST:
        raise KvmError(errno.EINVAL, f"{pages} pages are too few")
    vm.mmu_pages = pages


def handle_vm_get_nr_mmu_pages(vm: Vm, _: int, __: Caller) -> int:
    """KVM_GET_NR_MMU_PAGES: the lower 31 bits of what was set, or 0. Never fails."""
    return vm.mmu_pages & _TOLD
