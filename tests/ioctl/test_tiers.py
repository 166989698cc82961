"""KVMSHIM_TIER: the same guest comes to the same end with the translator and without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.abi.constants_gen import KVM_EXIT_HLT
from tests.deadline import deadline
from tests.kvm import System
from tests.machine import DATA, Machine, Mode
from tests.server import Server, serving

SECONDS = 60
LINE = 64

PROGRAM = f"""
    mov rbx, {DATA}
    mov ecx, 1000
fill:
    mov [rbx + rcx * 8], rcx
    dec rcx
    jnz fill
    mov ecx, 1000
    xor eax, eax
add_up:
    add rax, [rbx + rcx * 8]
    call double
    loop add_up
    mov r9, rax
    lea rdx, [rip + patched]
    mov ecx, 20
patch:
    mov [rdx + 1], ecx
    call rdx
    add r9, rax
    dec ecx
    jnz patch
    mov r11, 3
    lock xadd [rbx + {LINE - 4}], r11
    lock xadd [rbx + {LINE + 3}], r11
    xchg r9, r10
    hlt
double:
    push rax
    add qword ptr [rsp], 1
    pop rax
    ret
patched:
    mov eax, 0
    ret
"""


def expected() -> tuple[int, int]:
    """R10 and R11 at the end of PROGRAM."""
    total = sum(range(1, 1001)) + 1000 + sum(range(1, 21))
    memory = bytearray(b"".join(number.to_bytes(8, "little") for number in range(1, 1001)))
    memory[:0] = bytes(8)
    r11 = 3
    for at in (LINE - 4, LINE + 3):
        old = int.from_bytes(memory[at : at + 8], "little")
        memory[at : at + 8] = ((old + r11) % (1 << 64)).to_bytes(8, "little")
        r11 = old
    return total, r11


@pytest.fixture(params=["0", "1"], ids=["interpreted", "translated"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Started with KVMSHIM_TIER."""
    with deadline(SECONDS), serving(KVMSHIM_TIER=request.param) as server:
        yield server


def test_a_program_has_the_same_result_in_both_tiers(
    server: Server, request: pytest.FixtureRequest
) -> None:
    system = System(server.path)
    machine = Machine.of(system)
    machine.load(PROGRAM, Mode.LONG)
    assert machine.vcpu.run() == KVM_EXIT_HLT
    regs = machine.vcpu.regs()
    assert (regs.r10, regs.r11) == expected()
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert ("kvmshim-translated" in maps) == ("translated" in request.node.name)
    system.close()
