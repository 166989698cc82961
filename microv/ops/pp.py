"""mv_pp_op: the calling thread as a physical processor, and what processors can do."""

from enum import IntEnum

from microv import abi_gen as mv
from microv import cdl, rdl
from microv.call import with_handle
from microv.cdl import CdlEntry
from microv.shared_page import shared_page

_OP = mv.MV_PP_OP_VAL


def ppid() -> int:
    """The number of the calling thread among those that made a hypercall and still live."""
    return with_handle(_OP | mv.MV_PP_OP_PPID_IDX_VAL)


def online_pps() -> int:
    """How many threads are physical processors now."""
    return with_handle(_OP | mv.MV_PP_OP_ONLINE_PPS_IDX_VAL)


def clr_shared_page_gpa() -> None:
    """Takes the calling thread's shared page away, if it has one."""
    with_handle(_OP | mv.MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL)


def set_shared_page_gpa(gpa: int) -> None:
    """Makes the page at this address the calling thread's, until it is cleared or the thread ends.

    INVALID_INPUT_REG1: 0, unaligned or no writable memory; FAILURE_UNKNOWN: one is set.
    """
    with_handle(_OP | mv.MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL, gpa)


def get_shared_page_gpa() -> int:
    """The address of the calling thread's shared page, or 0."""
    return with_handle(_OP | mv.MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL)


class Personality(IntEnum):
    """The maker of the processor that guests see."""

    INTEL = 0
    AMD = 1


def set_personality(personality: Personality) -> None:
    """Whose processor the supported lists describe and VSs created from now on are."""
    with_handle(_OP | mv.MV_PP_OP_SET_PERSONALITY_IDX_VAL, personality)


def set_code_cache(mib: int) -> None:
    """MiB that the translated code of a VM created from now on may take.

    INVALID_INPUT_REG1: 0, or more than MV_MAX_CODE_CACHE_MIB.
    """
    with_handle(_OP | mv.MV_PP_OP_SET_CODE_CACHE_IDX_VAL, mib)


def cpuid_get_supported(function: int, index: int = 0) -> CdlEntry:
    """What CPUID can answer to one leaf. FAILURE_UNKNOWN for a leaf that is not supported."""
    page = shared_page()
    page.write(cdl.to_page([CdlEntry(function, index)], 0))
    with_handle(_OP | mv.MV_PP_OP_CPUID_GET_SUPPORTED_IDX_VAL)
    return cdl.entries(page.read(mv.mv_cdl_t))[0]


def cpuid_get_supported_list() -> list[CdlEntry]:
    """All that CPUID can answer."""
    return cdl_of_everything(_OP | mv.MV_PP_OP_CPUID_GET_SUPPORTED_LIST_IDX_VAL)


def hyperv_cpuid_get_supported_list() -> list[CdlEntry]:
    """The leaves that guests of Hyper-V can have, in their order; a local APIC is assumed."""
    return cdl_of_everything(_OP | mv.MV_PP_OP_HYPERV_CPUID_GET_SUPPORTED_LIST_IDX_VAL)


def cdl_of_everything(group_index: int, r11: int = 0) -> list[CdlEntry]:
    """The whole table behind a call that takes MV_CDL_FLAG_ALL, page by page."""
    page = shared_page()
    found: list[CdlEntry] = []
    while True:
        page.write(cdl.everything_from(len(found)))
        with_handle(group_index, r11)
        answer = page.read(mv.mv_cdl_t)
        found += cdl.entries(answer)
        if answer.reg[1] == 0:
            return found


def msr_get_supported(msr: int) -> bool:
    """Whether the MSR can be read and written. INVALID_INPUT_REG1 beyond 32 bits."""
    return bool(with_handle(_OP | mv.MV_PP_OP_MSR_GET_SUPPORTED_IDX_VAL, msr))


def msr_get_supported_list() -> list[int]:
    """All MSRs that can be read and written."""
    page = shared_page()
    found: list[int] = []
    while True:
        question = rdl.to_page(())
        question.reg[0], question.reg[1] = mv.MV_RDL_FLAG_ALL, len(found)
        page.write(question)
        with_handle(_OP | mv.MV_PP_OP_MSR_GET_SUPPORTED_LIST_IDX_VAL)
        answer = page.read(mv.mv_rdl_t)
        found += [msr for msr, _ in rdl.entries(answer)]
        if answer.reg[1] == 0:
            return found


def msr_get_feature_list() -> list[tuple[int, int]]:
    """MSRs that describe the processor, with their values."""
    page = shared_page()
    with_handle(_OP | mv.MV_PP_OP_MSR_GET_FEATURE_LIST_IDX_VAL)
    return [(msr, value) for msr, value in rdl.entries(page.read(mv.mv_rdl_t))]


def tsc_get_khz() -> int:
    """The TSC frequency for VMs whose first VS this thread creates; the host's, unless set."""
    return with_handle(_OP | mv.MV_PP_OP_TSC_GET_KHZ_IDX_VAL)


def tsc_set_khz(khz: int) -> None:
    """The TSC frequency for VMs whose first VS is created by this thread.

    INVALID_INPUT_REG1: 0, or beyond 32 bits.
    """
    with_handle(_OP | mv.MV_PP_OP_TSC_SET_KHZ_IDX_VAL, khz)
