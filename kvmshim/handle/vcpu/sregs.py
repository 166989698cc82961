"""KVM_GET_SREGS, KVM_GET_SREGS2 and their twins: segments, tables, control registers, EFER.

The checks are those of `kvm_is_valid_sregs` and `kvm_set_apic_base` in `arch/x86/kvm/x86.c`;
what they refuse changes nothing. KVM_GET_SREGS2 has the PDPTE registers of PAE paging instead of
the queued interrupt.
"""

import errno
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.msr_index import (
    EFER_LMA,
    EFER_LME,
    MSR_EFER,
    MSR_IA32_APICBASE,
    MSR_IA32_APICBASE_ENABLE,
    X2APIC_ENABLE,
)
from kvmshim.abi.structs_gen import kvm_dtable, kvm_sregs, kvm_sregs2
from kvmshim.errors import KvmError
from kvmshim.handle.cpuid_leaf import ADDRESS_SIZES
from kvmshim.handle.vcpu.segment import to_attributes, to_segment
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import vs as vs_op
from microv.status import MvError

# The first of four registers in MicroV's order: selector, attributes, limit, base.
_SEGMENTS: Final[dict[str, int]] = {
    "es": mv.mv_reg_t_es_selector,
    "cs": mv.mv_reg_t_cs_selector,
    "ss": mv.mv_reg_t_ss_selector,
    "ds": mv.mv_reg_t_ds_selector,
    "fs": mv.mv_reg_t_fs_selector,
    "gs": mv.mv_reg_t_gs_selector,
    "ldt": mv.mv_reg_t_ldtr_selector,
    "tr": mv.mv_reg_t_tr_selector,
}
_TABLES: Final[dict[str, tuple[int, int]]] = {
    "gdt": (mv.mv_reg_t_gdtr_limit, mv.mv_reg_t_gdtr_base),
    "idt": (mv.mv_reg_t_idtr_limit, mv.mv_reg_t_idtr_base),
}
_CONTROL: Final[dict[str, int]] = {
    "cr0": mv.mv_reg_t_cr0,
    "cr2": mv.mv_reg_t_cr2,
    "cr3": mv.mv_reg_t_cr3,
    "cr4": mv.mv_reg_t_cr4,
    "cr8": mv.mv_reg_t_cr8,
}
_REGISTERS: Final[list[int]] = [
    *(first + offset for first in _SEGMENTS.values() for offset in range(4)),
    *(register for pair in _TABLES.values() for register in pair),
    *_CONTROL.values(),
]
_PDPTES: Final = range(mv.mv_reg_t_pdpte0, mv.mv_reg_t_pdpte3 + 1)
_MSRS: Final[list[int]] = [MSR_EFER, MSR_IA32_APICBASE]

_CR0_PE, _CR0_NW, _CR0_CD, _CR0_PG = 1 << 0, 1 << 29, 1 << 30, 1 << 31
_CR4_PAE = 1 << 5
_PHYSICAL_BITS_UNLESS_SAID = 36
_APIC_BASE_RESERVED = 0x2FF


def handle_vcpu_get_sregs(vcpu: Vcpu) -> kvm_sregs:
    """KVM_GET_SREGS. `interrupt_bitmap` has the interrupt that waits to be taken."""
    sregs = kvm_sregs()
    _fill(vcpu, sregs)
    vector = vs_op.queued_interrupt(vcpu.vsid)
    if vector is not None:
        sregs.interrupt_bitmap[vector // 64] = 1 << vector % 64
    return sregs


def handle_vcpu_get_sregs2(vcpu: Vcpu) -> kvm_sregs2:
    """KVM_GET_SREGS2. With PAE paging `pdptrs` are there, and `flags` say so."""
    sregs = kvm_sregs2()
    _fill(vcpu, sregs)
    if _has_pae_paging(sregs):
        for index, pdpte in enumerate(vs_op.reg_get_list(vcpu.vsid, list(_PDPTES))):
            sregs.pdptrs[index] = pdpte
        sregs.flags = kvm.KVM_SREGS2_FLAGS_PDPTRS_VALID
    return sregs


def _fill(vcpu: Vcpu, sregs: kvm_sregs | kvm_sregs2) -> None:
    values = dict(zip(_REGISTERS, vs_op.reg_get_list(vcpu.vsid, _REGISTERS), strict=True))
    sregs.efer, sregs.apic_base = vs_op.msr_get_list(vcpu.vsid, _MSRS)
    for name, first in _SEGMENTS.items():
        setattr(sregs, name, to_segment(*(values[first + offset] for offset in range(4))))
    for name, (limit, base) in _TABLES.items():
        setattr(sregs, name, kvm_dtable(limit=values[limit], base=values[base]))
    for name, register in _CONTROL.items():
        setattr(sregs, name, values[register])


def _has_pae_paging(sregs: kvm_sregs | kvm_sregs2) -> bool:
    paging = bool(sregs.cr0 & _CR0_PG and sregs.cr4 & _CR4_PAE)
    return paging and not sregs.efer & EFER_LMA


def handle_vcpu_set_sregs(vcpu: Vcpu, sregs: kvm_sregs) -> None:
    """KVM_SET_SREGS. The lowest vector of `interrupt_bitmap` becomes a queued interrupt.

    Errors: EINVAL (a combination no processor can be in, reserved bits of CR0, CR3, CR4 or the
    APIC base); nothing is changed then.
    """
    _set(vcpu, sregs, _values(sregs))
    vector = _lowest_vector(sregs)
    if vector is not None:
        vs_op.replace_interrupt(vcpu.vsid, vector)


def handle_vcpu_set_sregs2(vcpu: Vcpu, sregs: kvm_sregs2) -> None:
    """KVM_SET_SREGS2. PDPTE registers that `flags` do not name come from memory, as with CR3.

    Errors: as KVM_SET_SREGS; EINVAL (an unknown flag; PDPTE registers without PAE paging).
    """
    given = sregs.flags & kvm.KVM_SREGS2_FLAGS_PDPTRS_VALID
    if sregs.flags != given or (given and not _has_pae_paging(sregs)):
        raise KvmError(errno.EINVAL, f"flags {sregs.flags:#x} are not for this state")
    pdptes = list(zip(_PDPTES, sregs.pdptrs, strict=True)) if given else []
    _set(vcpu, sregs, _values(sregs) + pdptes)


def _set(vcpu: Vcpu, sregs: kvm_sregs | kvm_sregs2, values: list[tuple[int, int]]) -> None:
    _check(sregs, _physical_bits(vcpu))
    old_msrs = list(zip(_MSRS, vs_op.msr_get_list(vcpu.vsid, _MSRS), strict=True))
    try:
        # EFER comes first: which CR0 and CR4 are legal hangs on it. The registers are set all or
        # none.
        vs_op.msr_set_list(
            vcpu.vsid, [(MSR_EFER, sregs.efer), (MSR_IA32_APICBASE, sregs.apic_base)]
        )
        vs_op.reg_set_list(vcpu.vsid, values)
    except MvError as error:
        vs_op.msr_set_list(vcpu.vsid, old_msrs)
        raise KvmError(errno.EINVAL, "reserved bits of a control register are set") from error


def _check(sregs: kvm_sregs | kvm_sregs2, physical_bits: int) -> None:
    if sregs.cr0 >> 32 or (sregs.cr0 & _CR0_NW and not sregs.cr0 & _CR0_CD):
        raise KvmError(errno.EINVAL, f"CR0 {sregs.cr0:#x} is not legal")
    if sregs.cr0 & _CR0_PG and not sregs.cr0 & _CR0_PE:
        raise KvmError(errno.EINVAL, "CR0.PG needs CR0.PE")
    if sregs.efer & EFER_LME and sregs.cr0 & _CR0_PG:
        if not sregs.cr4 & _CR4_PAE or not sregs.efer & EFER_LMA:
            raise KvmError(errno.EINVAL, "long mode needs CR4.PAE and EFER.LMA")
        if sregs.cr3 >> physical_bits:
            raise KvmError(errno.EINVAL, f"CR3 {sregs.cr3:#x} is beyond physical addresses")
    elif sregs.efer & EFER_LMA or sregs.cs.l:
        raise KvmError(errno.EINVAL, "EFER.LMA and CS.L need EFER.LME and CR0.PG")
    apic_mode = sregs.apic_base & (X2APIC_ENABLE | MSR_IA32_APICBASE_ENABLE)
    reserved = sregs.apic_base & _APIC_BASE_RESERVED or sregs.apic_base >> physical_bits
    if reserved or apic_mode == X2APIC_ENABLE:
        raise KvmError(errno.EINVAL, f"APIC base {sregs.apic_base:#x} is not legal")


def _physical_bits(vcpu: Vcpu) -> int:
    leaves = vs_op.cpuid_get_list(vcpu.vsid)
    sizes = (leaf.eax & 0xFF for leaf in leaves if leaf.function == ADDRESS_SIZES)
    return next(sizes, _PHYSICAL_BITS_UNLESS_SAID)


def _values(sregs: kvm_sregs | kvm_sregs2) -> list[tuple[int, int]]:
    values: list[tuple[int, int]] = []
    for name, first in _SEGMENTS.items():
        segment = getattr(sregs, name)
        parts = (segment.selector, to_attributes(segment), segment.limit, segment.base)
        values += [(first + offset, part) for offset, part in enumerate(parts)]
    for name, (limit, base) in _TABLES.items():
        table = getattr(sregs, name)
        values += [(limit, table.limit), (base, table.base)]
    values += [(register, getattr(sregs, name)) for name, register in _CONTROL.items()]
    return values


def _lowest_vector(sregs: kvm_sregs) -> int | None:
    bitmap = int.from_bytes(bytes(sregs.interrupt_bitmap), "little")
    return (bitmap & -bitmap).bit_length() - 1 if bitmap else None
