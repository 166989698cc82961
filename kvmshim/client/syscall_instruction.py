"""Where a client has a `syscall` instruction that can be borrowed."""

import errno
import struct
from typing import Final

from kvmshim.client.maps import Mapping, parse_maps
from kvmshim.client.memory import read_available
from kvmshim.client.process import Process
from kvmshim.errors import KvmError

_INSTRUCTION: Final = b"\x0f\x05"
_AT_SYSINFO_EHDR: Final = 33
_VDSO_BYTES: Final = 2 * 4096
_CHUNK: Final = 1 << 20
_PROT_EXEC: Final = 4


def find_syscall(process: Process, *, before: int) -> int:
    """The instruction that ends at `before` if it is one, else one of the vdso, else any.

    ENOEXEC: the client has no executable `syscall` at all.
    """
    address = before - len(_INSTRUCTION)
    if read_available(process.tgid, address, len(_INSTRUCTION)) == _INSTRUCTION:
        return address
    return _in_vdso(process) or _in_any_code(process)


def _in_vdso(process: Process) -> int:
    vector = process.read("auxv")
    for key, value in struct.iter_unpack("<QQ", vector[: len(vector) // 16 * 16]):
        if key == _AT_SYSINFO_EHDR:
            at = read_available(process.tgid, value, _VDSO_BYTES).find(_INSTRUCTION)
            return value + at if at >= 0 else 0
    return 0


def _in_any_code(process: Process) -> int:
    mappings = parse_maps(process.read("maps").decode(errors="replace"))
    for mapping in mappings:
        if mapping.protection & _PROT_EXEC and mapping.readable:
            address = _in_mapping(process, mapping)
            if address:
                return address
    raise KvmError(errno.ENOEXEC, f"client {process.tgid} has no syscall instruction")


def _in_mapping(process: Process, mapping: Mapping) -> int:
    for start in range(mapping.start, mapping.end, _CHUNK):
        code = read_available(process.tgid, start, min(_CHUNK, mapping.end - start))
        at = code.find(_INSTRUCTION)
        if at >= 0:
            return start + at
    return 0
