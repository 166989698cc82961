"""mv_vs_op_run: what goes in, every exit that comes out, and what is refused."""

import pytest

from microv import abi_gen as mv
from microv.call import hypercall, process_handle, with_handle
from microv.exits import FailureDetails, IoDetails, MmioDetails, UnknownDetails
from microv.ops import vp, vs
from microv.shared_page import shared_page
from microv.status import MvError
from tests.hypercall.guest import CODE, Guest
from tests.hypercall.threads import in_new_thread

_RUN = mv.MV_VS_OP_VAL | mv.MV_VS_OP_RUN_IDX_VAL
_MMIO = 0x10_0000
_HLT = b"\xf4"
_OUT_10_AL_HLT = b"\xe6\x10\xf4"
_IN_AL_10_OUT_11_AL_HLT = b"\xe4\x10\xe6\x11\xf4"
_IN_AX_10_HLT = b"\xe5\x10\xf4"
_REP_INSB_HLT = b"\xf3\x6c\xf4"
_REP_OUTSW_HLT = b"\xf3\x6f\xf4"
_READ_AX_HLT = b"\xa1\x00\x00\xf4"
_WRITE_AX_HLT = b"\xa3\x04\x00\xf4"
_INT3 = b"\xcc"
_STI_NOP_LOOP = b"\xfb\x90\xeb\xfe"
_CR0_NW_WITHOUT_CD = 0x2000_0010


def test_hlt_leaves_behind_the_instruction() -> None:
    with Guest(_HLT) as guest:
        exit_ = vs.run(guest.vsid)
        assert (exit_.reason, exit_.details) == (mv.mv_exit_reason_t_hlt, None)
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rip) == CODE + 1


def test_registers_and_msrs_are_written_before_the_guest_runs() -> None:
    star = 0xC000_0081
    with Guest(_OUT_10_AL_HLT) as guest:
        regs = [(mv.mv_reg_t_rax, 0x5A), (mv.mv_reg_t_cr8, 3)]
        exit_ = vs.run(guest.vsid, regs=regs, msrs=[(star, 7)])
        assert exit_.details == IoDetails(0x10, True, 1, 1, b"\x5a")
        assert exit_.cr8 == 3
        assert vs.msr_get(guest.vsid, star) == 7


def test_the_head_tells_flags_apic_base_and_interruptibility() -> None:
    with Guest(b"\xfb\x90\xf4") as guest:
        exit_ = vs.run(guest.vsid)
        assert exit_.rflags & 0x200
        assert exit_.apic_base == 0xFEE0_0900
        assert exit_.interruptible


def test_in_takes_its_data_from_the_next_run() -> None:
    with Guest(_IN_AL_10_OUT_11_AL_HLT) as guest:
        assert vs.run(guest.vsid).details == IoDetails(0x10, False, 1, 1, b"")
        assert vs.run(guest.vsid, iomem=b"\x77").details == IoDetails(0x11, True, 1, 1, b"\x77")
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_in_keeps_the_rest_of_rax() -> None:
    with Guest(_IN_AX_10_HLT) as guest:
        vs.run(guest.vsid, regs=[(mv.mv_reg_t_rax, 0x1122_3344_5566_7788)])
        vs.run(guest.vsid, iomem=b"\xcd\xab")
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rax) == 0x1122_3344_5566_ABCD


def test_rep_ins_asks_for_all_elements_at_once() -> None:
    with Guest(_REP_INSB_HLT) as guest:
        regs = [(mv.mv_reg_t_rcx, 5), (mv.mv_reg_t_rdi, 0x3000), (mv.mv_reg_t_rdx, 0x1234)]
        details = vs.run(guest.vsid, regs=regs).details
        assert details == IoDetails(0x1234, False, 1, 5, b"")
        assert vs.run(guest.vsid, iomem=b"hello").reason == mv.mv_exit_reason_t_hlt
        assert guest.memory[0x3000:0x3006] == b"hello\0"


def test_rep_outs_writes_every_element() -> None:
    with Guest(_REP_OUTSW_HLT) as guest:
        guest.load(0x3000, b"abcdef")
        regs = [(mv.mv_reg_t_rcx, 3), (mv.mv_reg_t_rsi, 0x3000), (mv.mv_reg_t_rdx, 0x99)]
        exit_ = vs.run(guest.vsid, regs=regs)
        written = b""
        while isinstance(exit_.details, IoDetails):
            assert (exit_.details.port, exit_.details.size_bytes) == (0x99, 2)
            written += exit_.details.data
            exit_ = vs.run(guest.vsid)
        assert written == b"abcdef"
        assert exit_.reason == mv.mv_exit_reason_t_hlt


def test_an_mmio_read_takes_its_data_from_the_next_run() -> None:
    with Guest(_READ_AX_HLT) as guest:
        details = vs.run(guest.vsid, regs=[(mv.mv_reg_t_ds_base, _MMIO)]).details
        assert details == MmioDetails(_MMIO, False, 2, b"")
        assert vs.run(guest.vsid, iomem=b"\x34\x12").reason == mv.mv_exit_reason_t_hlt
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rax) == 0x1234


def test_an_mmio_write_shows_its_data() -> None:
    with Guest(_WRITE_AX_HLT) as guest:
        regs = [(mv.mv_reg_t_ds_base, _MMIO), (mv.mv_reg_t_rax, 0xBEEF)]
        details = vs.run(guest.vsid, regs=regs).details
        assert details == MmioDetails(_MMIO + 4, True, 2, b"\xef\xbe")
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_complete_only_finishes_the_instruction_and_no_more() -> None:
    with Guest(_IN_AX_10_HLT) as guest:
        vs.run(guest.vsid)
        exit_ = vs.run(guest.vsid, iomem=b"\x34\x12", flags=mv.MV_RUN_FLAG_COMPLETE_ONLY)
        assert exit_.reason == mv.mv_exit_reason_t_interrupt
        registers = [mv.mv_reg_t_rax, mv.mv_reg_t_rip]
        assert vs.reg_get_list(guest.vsid, registers) == [0x1234, CODE + 2]


def test_complete_only_runs_nothing_where_nothing_is_unfinished() -> None:
    with Guest(_HLT) as guest:
        exit_ = vs.run(guest.vsid, flags=mv.MV_RUN_FLAG_COMPLETE_ONLY)
        assert exit_.reason == mv.mv_exit_reason_t_interrupt
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rip) == CODE


@pytest.mark.parametrize("iomem", [b"", b"\x01", b"\x01\x02\x03"])
def test_data_of_another_length_is_refused_and_nothing_is_lost(iomem: bytes) -> None:
    with Guest(_IN_AX_10_HLT) as guest:
        vs.run(guest.vsid)
        with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
            vs.run(guest.vsid, iomem=iomem, regs=[(mv.mv_reg_t_rbx, 1)])
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rbx) == 0
        assert vs.run(guest.vsid, iomem=b"\x34\x12").reason == mv.mv_exit_reason_t_hlt


def test_data_that_nobody_wants_is_refused() -> None:
    with Guest(_HLT) as guest, pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        vs.run(guest.vsid, iomem=b"\x01")


def test_a_triple_fault_is_a_shutdown() -> None:
    with Guest(_INT3) as guest:
        exit_ = vs.run(guest.vsid, regs=[(mv.mv_reg_t_idtr_limit, 0)])
        assert exit_.reason == mv.mv_exit_reason_t_shutdown


def test_the_interrupt_window_opens_behind_the_shadow_of_sti() -> None:
    with Guest(_STI_NOP_LOOP) as guest:
        exit_ = vs.run(guest.vsid, flags=mv.MV_RUN_FLAG_INTERRUPT_WINDOW)
        assert exit_.reason == mv.mv_exit_reason_t_interrupt_window
        assert exit_.interruptible
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rip) == CODE + 2


def test_code_where_no_memory_is_cannot_be_emulated(vsid: int) -> None:
    exit_ = vs.run(vsid)
    assert exit_.reason == mv.mv_exit_reason_t_unknown
    assert exit_.details == UnknownDetails(mv.MV_EXIT_UNKNOWN_EMULATION, b"")


def test_an_unknown_exit_has_a_status_of_its_own(vsid: int) -> None:
    shared_page().write(mv.mv_run_t())
    status, reason = hypercall(_RUN, process_handle(), vsid)
    assert (status, reason) == (mv.MV_STATUS_EXIT_UNKNOWN, mv.mv_exit_reason_t_unknown)


def test_a_state_no_processor_can_be_in_is_not_entered() -> None:
    with Guest(_HLT) as guest:
        exit_ = vs.run(guest.vsid, regs=[(mv.mv_reg_t_cr0, _CR0_NW_WITHOUT_CD)])
        assert exit_.reason == mv.mv_exit_reason_t_failure
        assert exit_.details == FailureDetails(mv.MV_EXIT_FAILURE_INVALID_STATE)
        assert vs.reg_get(guest.vsid, mv.mv_reg_t_rip) == CODE


@pytest.mark.parametrize(
    "input_",
    [
        mv.mv_run_t(num_reg_entries=11),
        mv.mv_run_t(num_reg_entries=2**64 - 1),
        mv.mv_run_t(num_msr_entries=11),
        mv.mv_run_t(num_iomem=mv.MV_RUN_MAX_IOMEM_SIZE + 1),
        mv.mv_run_t(num_reg_entries=1),
        mv.mv_run_t(num_msr_entries=1),
    ],
)
def test_bad_inputs_are_refused(guest: Guest, input_: mv.mv_run_t) -> None:
    shared_page().write(input_)
    with pytest.raises(MvError, match="FAILURE_UNKNOWN"):
        with_handle(_RUN, guest.vsid)


def test_a_shared_page_is_needed(guest: Guest) -> None:
    status, _ = in_new_thread(lambda: hypercall(_RUN, process_handle(), guest.vsid))
    assert status == mv.MV_STATUS_FAILURE_UNKNOWN


def test_refuses(bad_vsid: int) -> None:
    with pytest.raises(MvError, match="INVALID_INPUT_REG1"):
        vs.run(bad_vsid)


def test_a_vs_moves_from_thread_to_thread() -> None:
    with Guest(_OUT_10_AL_HLT) as guest:
        assert in_new_thread(lambda: vs.run(guest.vsid)).reason == mv.mv_exit_reason_t_io
        assert vs.run(guest.vsid).reason == mv.mv_exit_reason_t_hlt


def test_a_second_vs_of_a_vp_runs_after_the_first(guest: Guest) -> None:
    vpid = guest.vcpus[0].vpid
    second = vs.create_vs(vpid)
    vs.run(guest.vsid)
    assert vs.run(second).reason == mv.mv_exit_reason_t_unknown
    assert vp.vmid(vpid) == vs.vmid(second)
    vs.destroy_vs(second)


def test_many_times() -> None:
    with Guest(b"\xe6\x10\xeb\xfc") as guest:
        reasons = {vs.run(guest.vsid).reason for _ in range(0x1000)}
        assert reasons == {mv.mv_exit_reason_t_io}
