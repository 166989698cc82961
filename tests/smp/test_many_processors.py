"""64 processors: start-up, interrupts between all, TLB shoot-down, sleep, timers, signals."""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.deadline import deadline
from tests.ioctl.apic import message, send
from tests.kvm import System
from tests.machine import Machine
from tests.smp import guest
from tests.smp.guest import (
    ALIVE,
    ANSWERS,
    CALL,
    CALL_OTHERS,
    DONE,
    FAILURES,
    HOST,
    MESSAGE,
    REQUESTS,
    TICKS,
    TIMER,
    TOKEN,
    TURNS,
    WAKE,
    interrupt,
    to_others,
    wait_until_equal,
)
from tests.smp.threads import running

PROCESSORS: Final = 64
ROUNDS: Final = int(os.environ.get("KVMSHIM_SMP_ROUNDS", "1"))

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(system: System) -> Iterator[Machine]:
    with deadline(60 * ROUNDS):
        yield Machine.of(system, controllers=True)


def per_processor(machine: Machine, array: int) -> list[int]:
    return [machine.peek(array + 8 * number) for number in range(PROCESSORS)]


def test_the_boot_processor_starts_all_others(machine: Machine, system: System) -> None:
    guest.load(machine, PROCESSORS, "")
    with running(machine, PROCESSORS, system) as crew:
        crew.finish()
    assert (machine.peek(ALIVE), machine.peek(DONE)) == (PROCESSORS - 1, PROCESSORS)


CALL_EACH: Final = f"""
    mov r14d, {2 * ROUNDS}
    round: xor r12d, r12d
    each: cmp r12d, r15d
    je itself
    lock bts qword ptr [{REQUESTS:#x} + r12*8], r15
    inc r13d
    {interrupt(CALL, "r12d")}
    itself: inc r12d
    cmp r12d, {{processors}}
    jb each
    {wait_until_equal("answered", ANSWERS, "r13d")}
    dec r14d
    jnz round
"""

CALL_BY_BROADCAST: Final = f"""
    mov r14d, {2 * ROUNDS}
    round: {CALL_OTHERS}
    {wait_until_equal("answered", ANSWERS, "r13d")}
    dec r14d
    jnz round
"""


@pytest.mark.parametrize("work", [CALL_EACH, CALL_BY_BROADCAST], ids=["each", "broadcast"])
def test_everybody_calls_everybody_and_is_answered(
    machine: Machine, system: System, work: str
) -> None:
    guest.load(machine, PROCESSORS, work)
    with running(machine, PROCESSORS, system) as crew:
        crew.finish()
    assert per_processor(machine, ANSWERS) == [2 * ROUNDS * (PROCESSORS - 1)] * PROCESSORS


TAKE_TURNS: Final = f"""
    mov r14d, {200 * ROUNDS}
    mov r12d, r15d
    xor r12d, 1
    turn: test r15d, 1
    jnz second
    lock inc dword ptr [{TURNS:#x} + r12*8]
    {interrupt(WAKE, "r12d")}
    second: inc r13d
    {wait_until_equal("mine", TURNS, "r13d")}
    test r15d, 1
    jz next_turn
    lock inc dword ptr [{TURNS:#x} + r12*8]
    {interrupt(WAKE, "r12d")}
    next_turn: dec r14d
    jnz turn
"""


@pytest.mark.parametrize("steal_time", [False, True], ids=["plain", "steal_time"])
def test_halted_pairs_wake_each_other_amid_signals(
    machine: Machine, system: System, steal_time: bool
) -> None:
    guest.load(machine, PROCESSORS, TAKE_TURNS, steal_time=steal_time)
    with running(machine, PROCESSORS, system) as crew:
        for _ in range(3 * ROUNDS):
            crew.kick_all()
        crew.finish()
        crew.kick_all()
        assert all(runner.interruptions > 3 * ROUNDS for runner in crew.runners)
    assert per_processor(machine, TURNS) == [200 * ROUNDS] * PROCESSORS


ONE_SHOT: Final = f"""
    mov ecx, 0x83E
    mov eax, 0xB
    xor edx, edx
    wrmsr
    mov ecx, 0x832
    mov eax, {TIMER:#x}
    wrmsr
    mov r14d, {10 * ROUNDS}
    again: mov eax, r14d
    imul eax, eax, 10000
    xor edx, edx
    mov ecx, 0x838
    wrmsr
    inc r13d
    {wait_until_equal("ticked", TICKS, "r13d")}
    dec r14d
    jnz again
"""

DEADLINE: Final = f"""
    mov ecx, 0x832
    mov eax, {TIMER | 2 << 17:#x}
    xor edx, edx
    wrmsr
    mfence
    mov r14d, {10 * ROUNDS}
    again: rdtsc
    shl rdx, 32
    or rax, rdx
    mov edx, r14d
    imul edx, edx, 30000
    add rax, rdx
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0x6E0
    wrmsr
    inc r13d
    {wait_until_equal("ticked", TICKS, "r13d")}
    dec r14d
    jnz again
"""


@pytest.mark.parametrize("work", [ONE_SHOT, DEADLINE], ids=["one_shot", "deadline"])
def test_timers_wake_everybody(machine: Machine, system: System, work: str) -> None:
    guest.load(machine, PROCESSORS, work)
    with running(machine, PROCESSORS, system) as crew:
        crew.finish()
    assert per_processor(machine, TICKS) == [10 * ROUNDS] * PROCESSORS


def test_messages_of_the_host_wake_everybody(machine: Machine, system: System) -> None:
    guest.load(machine, PROCESSORS, "")
    with running(machine, PROCESSORS, system) as crew:
        crew.finish()
        for number in range(1, 10 * ROUNDS + 1):
            for processor in range(PROCESSORS):
                assert send(machine.vm, message(MESSAGE, processor)) == 1
            while per_processor(machine, HOST) != [number] * PROCESSORS:
                os.sched_yield()


# The shot-down page is the one or the other of these.
PAGES: Final = 0x6_0000
TABLE: Final = 0x7_3000
POISON: Final = 0x5A5A_5A5A_5A5A_5A5A
WINDOW: Final = 1 << 30
ENTRY: Final = TABLE + 0x1000

# A processor whose turn it is moves the window to the other page, has everybody forget the first,
# and poisons that. Whoever has said that he has forgotten may neither read the poison nor write
# over it.
SHOOT: Final = f"""
    mov rsi, {POISON:#x}
    look: mov edi, 300
    use: cmp [{WINDOW:#x}], rsi
    je wrong
    mov [{WINDOW + 64:#x} + r15*8], r15
    dec edi
    jnz use
    cli
    cmp dword ptr [{TOKEN:#x}], r15d
    je shoot
    cmp dword ptr [{TOKEN:#x}], {{processors}}
    jae over
    sti
    hlt
    jmp look
    wrong: lock inc dword ptr [{FAILURES:#x}]
    mov dword ptr [{TOKEN:#x}], {{processors}}
    {to_others(WAKE)}
    jmp over

    shoot: sti
    mov r12d, [{ENTRY:#x}]
    and r12d, 0xFFFFF000
    mov edi, r12d
    xor edi, 0x1000
    mov qword ptr [rdi], 0
    or edi, 3
    mov [{ENTRY:#x}], rdi
    invlpg [{WINDOW:#x}]
    {CALL_OTHERS}
    {wait_until_equal("forgotten", ANSWERS, "r13d")}
    mov edi, r12d
    mov rax, rsi
    mov ecx, 512
    rep stosq
    {CALL_OTHERS}
    {wait_until_equal("used", ANSWERS, "r13d")}
    mov edi, r12d
    mov rax, rsi
    mov ecx, 512
    repe scasq
    jne wrong
    lock inc dword ptr [{TOKEN:#x}]
    {to_others(WAKE)}
    jmp look
    over: sti
"""

FLUSHES: Final = {
    "invlpg": f"invlpg [{WINDOW:#x}];",
    "cr3": "mov rax, cr3; mov cr3, rax;",
}


@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES.keys())
def test_no_translation_outlives_a_shoot_down(machine: Machine, system: System, flush: str) -> None:
    guest.load(machine, PROCESSORS, SHOOT, handlers={CALL: guest.answer_calls(flush)})
    assert guest.map_window(machine, table=TABLE, gpa=PAGES) == (WINDOW, ENTRY)
    with running(machine, PROCESSORS, system) as crew:
        crew.kick_all()
        crew.finish()
    assert machine.peek(FAILURES) == 0
    assert machine.peek(TOKEN) == PROCESSORS
