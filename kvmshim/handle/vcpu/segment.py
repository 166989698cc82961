"""`kvm_segment` and MicroV's attribute word: one descriptor, two spellings.

The attribute word has the layout of VMX access rights (SDM vol. 3, "Guest Register State"):
type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.
"""

from kvmshim.abi.structs_gen import kvm_segment

_UNUSABLE = 1 << 16


def to_attributes(segment: kvm_segment) -> int:
    """The attribute word of a segment. Only the low bits of each field count, as in KVM."""
    return (
        segment.type_ & 0xF
        | (segment.s & 1) << 4
        | (segment.dpl & 3) << 5
        | (segment.present & 1) << 7
        | (segment.avl & 1) << 12
        | (segment.l & 1) << 13
        | (segment.db & 1) << 14
        | (segment.g & 1) << 15
        | (_UNUSABLE if segment.unusable or not segment.present else 0)
    )


def to_segment(selector: int, attributes: int, limit: int, base: int) -> kvm_segment:
    """A segment from the four registers that MicroV has for it."""
    return kvm_segment(
        base=base,
        limit=limit,
        selector=selector,
        type_=attributes & 0xF,
        present=attributes >> 7 & 1,
        dpl=attributes >> 5 & 3,
        db=attributes >> 14 & 1,
        s=attributes >> 4 & 1,
        l=attributes >> 13 & 1,
        g=attributes >> 15 & 1,
        avl=attributes >> 12 & 1,
        unusable=attributes >> 16 & 1,
    )
