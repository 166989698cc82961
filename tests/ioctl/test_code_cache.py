"""--code-cache: guests whose code does not fit come to the same end, within the limit."""

import struct
from contextlib import closing
from pathlib import Path

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from tests.deadline import deadline
from tests.kvm import System
from tests.machine import Machine, Mode
from tests.server import Server, serving

SECONDS = 120
MIB = 1 << 20
BLOCKS_AT = 0x10000
BLOCKS = 32_000
TURNS = 3
ROTATION = 7
MAPPING = "/memfd:kvmshim-translated"

PROGRAM = f"""
    xor eax, eax
    mov ecx, {TURNS}
again:
    mov rdx, {BLOCKS_AT}
    call rdx
    dec ecx
    jnz again
    mov rbx, rax
    hlt
"""


def blocks() -> bytes:
    """add rax, NUMBER; ror rax, 7; jmp to the next; at the end ret."""
    code = b"".join(
        b"\x48\x05" + struct.pack("<I", number) + b"\x48\xc1\xc8\x07" + b"\xeb\x00"
        for number in range(BLOCKS)
    )
    return code + b"\xc3"


def expected() -> int:
    """RBX at the end."""
    value = 0
    for number in list(range(BLOCKS)) * TURNS:
        value = (value + number) % (1 << 64)
        value = value >> ROTATION | value << (64 - ROTATION) & (1 << 64) - 1
    return value


def run(server: Server) -> int:
    """RBX of a new guest; the bytes of its translated code that are resident then."""
    with closing(System(server.path)) as system:
        machine = Machine.of(system)
        machine.load(PROGRAM, Mode.LONG)
        machine.ram.write(BLOCKS_AT, blocks())
        assert machine.vcpu.run() == KVM_EXIT_HLT
        assert machine.vcpu.regs().rbx == expected()
        return resident(server.pid)


def resident(pid: int) -> int:
    """Bytes of translated code, in the larger of its two mappings."""
    lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if MAPPING in line]
    sizes = [next(line for line in lines[start:] if line.startswith("Rss:")) for start in starts]
    return max(int(size.split()[1]) << 10 for size in sizes)


@pytest.mark.parametrize("mib", [1, 2])
def test_code_that_does_not_fit_is_made_again(mib: int) -> None:
    with deadline(SECONDS), serving("--code-cache", str(mib), KVMSHIM_TIER="1") as server:
        assert 0 < run(server) <= mib * MIB
        # The next VM has a limit of its own.
        assert 0 < run(server) <= mib * MIB


def test_it_fits_by_default() -> None:
    with deadline(SECONDS), serving(KVMSHIM_TIER="1") as server:
        assert run(server) > 2 * MIB
