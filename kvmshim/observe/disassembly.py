"""Instructions as text, by iced-x86."""

from iced_x86 import Decoder, Formatter, FormatterSyntax, Mnemonic

_formatter = Formatter(FormatterSyntax.NASM)
_formatter.space_after_operand_separator = True
_formatter.hex_prefix, _formatter.hex_suffix = "0x", ""
_formatter.uppercase_hex = False
_formatter.branch_leading_zeros = False


def disassemble(code: bytes, bits: int, rip: int) -> tuple[str, int]:
    """The first instruction of `code`, and its length in bytes: 1 where it is none.

    >>> disassemble(bytes.fromhex("4801d8"), 64, 0x1000)
    ('add rax, rbx', 3)
    >>> disassemble(bytes.fromhex("ebfe"), 16, 0x7c00)
    ('jmp short 0x7c00', 2)
    >>> disassemble(b"", 64, 0)
    ('(not to be fetched)', 0)
    """
    if not code:
        return "(not to be fetched)", 0
    instruction = Decoder(bits, code, ip=rip).decode()
    if instruction.mnemonic == Mnemonic.INVALID:
        return "(bad)", 1
    return _formatter.format(instruction), instruction.len
