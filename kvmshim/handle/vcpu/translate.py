"""KVM_TRANSLATE: a guest's linear address by its own page tables."""

from typing import Final

from kvmshim.abi import limits
from kvmshim.abi.structs_gen import kvm_translation
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op
from microv.status import MvError

_NOWHERE: Final = (1 << 64) - 1
_OFFSET: Final = limits.PAGE_SIZE - 1
_CR0_PG: Final = 1 << 31


def handle_vcpu_translate(vcpu: Vcpu, translation: kvm_translation) -> kvm_translation:
    """KVM_TRANSLATE. Accessed and dirty bits stay as they are. Never fails.

    `valid` says whether there is a translation, for a supervisor's read; without paging every
    address but the last is its own. As in KVM, `writeable` is 1 and `usermode` 0 whatever the page
    tables say.
    """
    found = _translate(vcpu, translation.linear_address)
    return kvm_translation(
        linear_address=translation.linear_address,
        physical_address=found,
        valid=found != _NOWHERE,
        writeable=1,
    )


def _translate(vcpu: Vcpu, linear: int) -> int:
    if not vs_op.reg_get(vcpu.vsid, mv.mv_reg_t_cr0) & _CR0_PG:
        return linear
    try:
        page, _ = vs_op.gla_to_gpa(vcpu.vsid, linear & ~_OFFSET)
    except MvError:
        return _NOWHERE
    return page | linear & _OFFSET
