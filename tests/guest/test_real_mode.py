"""Real-address mode: limits, wraparound, the interrupt table, and limits kept from elsewhere.

SDM volume 3, "Real-Address Mode"; volume 2, the real-address mode exceptions of MOV.
"""

import pytest

from microv import abi_gen as mv
from tests.guest import layout
from tests.guest.modes import REAL, Rflags
from tests.guest.processor import Processor

_GP = 13
_SS = 12


@pytest.mark.parametrize(
    ("code", "vector"),
    [
        ("mov ax, [0xffff]", _GP),
        ("mov eax, [0xfffd]", _GP),
        ("mov [0xffff], ax", _GP),
        ("add word ptr [0xffff], 1", _GP),
        ("mov bp, 0xffff; mov ax, [bp]", _SS),
        ("mov sp, 0xffff; pop ax", _SS),
        ("mov si, 0xffff; lodsw", _GP),
        ("mov di, 0xffff; stosw", _GP),
        ("mov esi, 0x10000; mov al, [esi]", _GP),
        ("mov ebp, 0x10000; mov al, [ebp]", _SS),
        ("les ax, [0xfffd]", _GP),
        ("bound ax, [0xfffd]", _GP),
    ],
)
def test_an_access_beyond_the_limit_faults_without_error_code(code: str, vector: int) -> None:
    with Processor(REAL, f"{code}; hlt") as cpu:
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.cs) == ((vector, None), 0)


def test_a_push_at_sp_1_leaves_no_room_for_its_fault_and_shuts_down() -> None:
    with Processor(REAL, "push ax") as cpu:
        cpu.set(rsp=1)
        assert cpu.run().reason == mv.mv_exit_reason_t_shutdown


@pytest.mark.parametrize("last", [0xFFFE, 0xFFFC])
def test_the_last_bytes_of_the_segment_are_inside(last: int) -> None:
    with Processor(REAL, f"mov ax, [{last:#x}]; hlt") as cpu:
        cpu.load(last, b"\xcd\xab")
        assert cpu.run_to_halt() < layout.CODE + 8
        assert cpu.reg("rax") == 0xABCD


def test_a_base_and_index_wrap_at_64_kib() -> None:
    with Processor(REAL, "mov bx, 0xfff0; mov si, 0x20; mov al, [bx+si]; hlt") as cpu:
        cpu.load(0x10, b"\x5a")
        cpu.load(0x1_0010, b"\xa5")
        cpu.run_to_halt()
        assert cpu.reg("rax") == 0x5A


def test_a_push_wraps_at_64_kib() -> None:
    with Processor(REAL, "push ax; hlt") as cpu:
        cpu.set(rsp=0x1234_0000, rax=0xBEEF)
        cpu.run_to_halt()
        assert cpu.reg("rsp") == 0x1234_FFFE
        assert cpu.words(0xFFFE, 2, 1) == [0xBEEF]


def test_addresses_go_beyond_1_mib_since_a20_is_not_modelled() -> None:
    with Processor(REAL, "mov al, [0x10]; hlt") as cpu:
        cpu.set_segment("ds", 0xFFFF)
        details = cpu.run().details
        assert getattr(details, "gpa", None) == 0x10_0000


def test_code_that_runs_over_the_end_of_its_segment_is_a_general_protection_fault() -> None:
    with Processor(REAL) as cpu:
        cpu.load(0xFFFE, b"\x90\x90")
        cpu.set(rip=0xFFFE)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_GP, None), 0)


def test_an_instruction_that_crosses_the_end_of_its_segment_faults() -> None:
    with Processor(REAL) as cpu:
        cpu.load(0xFFFF, b"\xb8\x34\x12\xf4")
        cpu.set(rip=0xFFFF)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_GP, None), 0xFFFF)


def test_a_short_jump_wraps_inside_64_kib() -> None:
    with Processor(REAL) as cpu:
        cpu.assemble("hlt", at=0x0700)
        cpu.load(0xFFF0, b"\xe9\x0d\x07")
        cpu.set(rip=0xFFF0)
        assert cpu.run_to_halt() == 0x0700


def test_unreal_mode_keeps_a_limit_of_4_gib() -> None:
    """Loading a segment in real mode changes its base and selector, not its limit."""
    with Processor(REAL, "mov ds, ax; mov esi, 0x50000; mov bl, [esi]; hlt") as cpu:
        cpu.set_hidden("ds", 0, 0x93, 0xFFFF_FFFF, 0)
        cpu.set(rax=0x100)
        cpu.load(0x5_1000, b"\x77")
        cpu.run_to_halt()
        assert cpu.reg("rbx") == 0x77
        assert cpu.hidden("ds") == (0x100, 0x93, 0xFFFF_FFFF, 0x1000)


def test_a_small_limit_is_kept_too() -> None:
    with Processor(REAL, "mov ds, ax; mov bl, [0x10]; hlt") as cpu:
        cpu.set_hidden("ds", 0, 0x93, 0xF, 0)
        assert cpu.run_to_trap().fault == (_GP, None)


def test_an_interrupt_pushes_flags_cs_and_ip_and_clears_if_tf_ac() -> None:
    with Processor(REAL, "sti; int 0x40") as cpu:
        cpu.set(rflags=Rflags.FIXED | Rflags.CF | Rflags.AC)
        trap = cpu.run_to_trap()
        assert (trap.vector, trap.rip, trap.cs) == (0x40, layout.CODE + 3, 0)
        assert trap.rflags == Rflags.FIXED | Rflags.CF | Rflags.IF
        assert cpu.reg("rsp") == layout.STACK_TOPS[0] - 6
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.CF


def test_a_vector_beyond_the_idt_limit_is_a_general_protection_fault() -> None:
    with Processor(REAL, "int 0x40") as cpu:
        cpu.set(idtr_limit=4 * 0x40 + 2)
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((_GP, None), layout.CODE)


def test_the_interrupt_table_may_be_elsewhere() -> None:
    with Processor(REAL, "int 0x40") as cpu:
        cpu.set(idtr_base=0x9000)
        cpu.load(0x9000 + 4 * 0x40, bytes.fromhex("0020 0010"))
        cpu.load(0x1_2000, b"\xf4")
        cpu.run_to_halt()
        assert cpu.get("cs_selector", "cs_base", "rip") == [0x1000, 0x1_0000, 0x2001]


@pytest.mark.parametrize(
    "code", ["lldt ax", "ltr ax", "sldt ax", "str ax", "lar ax, bx", "lsl ax, bx", "verr ax"]
)
def test_instructions_about_descriptors_are_undefined(code: str) -> None:
    with Processor(REAL, code) as cpu:
        trap = cpu.run_to_trap()
        assert (trap.fault, trap.rip) == ((6, None), layout.CODE)


def test_iret_takes_back_what_an_interrupt_pushed() -> None:
    with Processor(REAL, "int 0x40; hlt") as cpu:
        cpu.assemble("iret", at=layout.OTHER_CODE)
        cpu.load(4 * 0x40, layout.OTHER_CODE.to_bytes(4, "little"))
        cpu.set(rflags=Rflags.FIXED | Rflags.IF | Rflags.OF)
        assert cpu.run_to_halt() == layout.CODE + 2
        assert cpu.reg("rflags") == Rflags.FIXED | Rflags.IF | Rflags.OF
        assert cpu.reg("rsp") == layout.STACK_TOPS[0]
