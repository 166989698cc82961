"""The registers of a local APIC as text."""

from kvmshim.control.protocol import Json


def local_apic_text(answer: Json) -> str:
    """All registers of an answer to `lapic`; of IRR, ISR and TMR the vectors.

    >>> print(local_apic_text({"registers": {"tpr": "0x20"}, "vectors": {"irr": [0x31, 0xec]}}))
    TPR           00000020
    IRR           0x31 0xec
    """
    if not answer["registers"]:
        return "none here: the client emulates it"
    lines = [
        f"{name.upper():<13} {int(value, 16):08x}" for name, value in answer["registers"].items()
    ]
    for name, vectors in answer["vectors"].items():
        lines.append(f"{name.upper():<13} {' '.join(map(hex, vectors)) or '-'}")
    return "\n".join(lines)
