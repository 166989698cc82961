//! MicroV's exits as KVM's: the one place that knows both.
//!
//! `Documentation/virt/kvm/api.rst`, section 5; which exit carries what follows
//! `arch/x86/kvm/x86.c`.

use std::ffi::c_int;

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO,
    KVM_EXIT_IO_IN, KVM_EXIT_IO_OUT, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_IRQ_WINDOW_OPEN,
    KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_TPR_ACCESS,
    KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
    KVM_MEMORY_EXIT_FLAG_PRIVATE, KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_INVAL,
    KVM_MSR_EXIT_REASON_UNKNOWN, kvm_run__bindgen_ty_1,
    kvm_run__bindgen_ty_1__bindgen_ty_14__bindgen_ty_1__bindgen_ty_1 as EmulationFailure,
};
use microv::abi::msr::{MV_MSR_LEAVE_INVALID, MV_MSR_LEAVE_UNKNOWN};
use microv::abi::run::{
    MV_EXIT_FAILURE_LOST, MV_EXIT_IO_IN, MV_EXIT_MMIO_WRITE, MV_EXIT_MSR_WRITE,
    MV_EXIT_TPR_ACCESS_WRITE, MV_EXIT_UNKNOWN_EMULATION, mv_exit_debug_t, mv_exit_failure_t,
    mv_exit_interrupt_end_t, mv_exit_io_t, mv_exit_memory_fault_t, mv_exit_mmio_t, mv_exit_msr_t,
    mv_exit_reason_t_debug, mv_exit_reason_t_failure, mv_exit_reason_t_hlt,
    mv_exit_reason_t_hypercall, mv_exit_reason_t_hyperv, mv_exit_reason_t_interrupt,
    mv_exit_reason_t_interrupt_end, mv_exit_reason_t_interrupt_window, mv_exit_reason_t_io,
    mv_exit_reason_t_memory_fault, mv_exit_reason_t_mmio, mv_exit_reason_t_msr,
    mv_exit_reason_t_noted, mv_exit_reason_t_shutdown, mv_exit_reason_t_tpr_access,
    mv_exit_reason_t_unknown, mv_exit_tpr_access_t, mv_exit_unknown_t,
};

use crate::hypercall;
use crate::hyperv;
use crate::ioeventfd::Space;
use crate::run::ExitPage;
use crate::run_area::{PIO_OFFSET, RunArea};

/// What the client owes the guest after an exit: the data of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    /// Nothing to bring.
    #[default]
    Nothing,
    /// So many bytes in the page of port data.
    PortData(usize),
    /// So many bytes in `kvm_run.mmio.data`.
    MmioData(usize),
    /// Data and error of `kvm_run.msr`.
    MsrAnswer,
    /// `kvm_run.hypercall.ret`.
    HypercallAnswer,
    /// `kvm_run.hyperv.u.hcall.result`.
    HypervAnswer,
    /// `kvm_run.hyperv.u.syndbg.status`, for the MSR of that name.
    DebugStatus,
}

const PAGE_SIZE: u64 = 4096;

/// What becomes of an exit.
pub enum Outcome {
    /// The client gets it; KVM_RUN returns 0.
    Client(Pending),
    /// The client gets it, and KVM_RUN fails with this errno.
    Refused(c_int),
    /// Nobody but the door had to see it; the guest goes on.
    Done,
    /// The same, with this answer to its hypercall.
    Answered(u64),
    /// The processor was asked to leave; who asked decides.
    Interrupted,
}

/// Writes the exit into `area`. `writes` takes what the guest writes to a port or device first; true if
/// the client needs not see it. `signals` does so for a connection of Hyper-V's.
pub fn translate(
    reason: u64,
    page: &ExitPage<'_>,
    area: &RunArea,
    writes: &impl Fn(Space, u64, &[u8]) -> bool,
    signals: impl FnOnce(u64) -> bool,
) -> Outcome {
    #[allow(non_upper_case_globals, reason = "the names are the specification's")]
    match reason {
        mv_exit_reason_t_io => port(&page.details(), area, writes),
        mv_exit_reason_t_mmio => mmio(&page.details(), area, writes),
        mv_exit_reason_t_hlt => plain(KVM_EXIT_HLT, area),
        mv_exit_reason_t_msr => Outcome::Client(msr(&page.details(), area)),
        mv_exit_reason_t_memory_fault => memory_fault(&page.details(), area),
        mv_exit_reason_t_noted => Outcome::Done,
        mv_exit_reason_t_hypercall => hypercall::answer(&page.details(), area),
        mv_exit_reason_t_hyperv => hyperv::exit(&page.details(), area, signals),
        mv_exit_reason_t_debug => debug(&page.details(), area),
        mv_exit_reason_t_shutdown => plain(KVM_EXIT_SHUTDOWN, area),
        mv_exit_reason_t_interrupt_window => plain(KVM_EXIT_IRQ_WINDOW_OPEN, area),
        mv_exit_reason_t_interrupt => Outcome::Interrupted,
        mv_exit_reason_t_interrupt_end => interrupt_end(&page.details(), area),
        mv_exit_reason_t_tpr_access => tpr_access(&page.details(), area),
        mv_exit_reason_t_failure => failure(&page.details(), area),
        mv_exit_reason_t_unknown => unknown(&page.details(), area),
        other => unexpected(other, area),
    }
}

fn plain(exit_reason: u32, area: &RunArea) -> Outcome {
    area.set_exit_reason(exit_reason);
    Outcome::Client(Pending::Nothing)
}

fn port(
    exit: &mv_exit_io_t,
    area: &RunArea,
    writes: &impl Fn(Space, u64, &[u8]) -> bool,
) -> Outcome {
    let size = 1_usize << exit.size;
    let bytes = size * exit.reps as usize;
    let input = exit.r#type == MV_EXIT_IO_IN;
    if !input && writes(Space::Port, exit.addr, &exit.data[..bytes]) {
        return Outcome::Done;
    }
    let mut details = kvm_run__bindgen_ty_1::default();
    details.io.direction = if input { KVM_EXIT_IO_IN } else { KVM_EXIT_IO_OUT } as u8;
    details.io.size = size as u8;
    details.io.port = exit.addr as u16;
    details.io.count = exit.reps as u32;
    details.io.data_offset = PIO_OFFSET as u64;
    if !input {
        area.write_pio(&exit.data[..exit.bytes as usize]);
    }
    area.set_exit(KVM_EXIT_IO, details);
    Outcome::Client(if input { Pending::PortData(bytes) } else { Pending::Nothing })
}

fn mmio(
    exit: &mv_exit_mmio_t,
    area: &RunArea,
    writes: &impl Fn(Space, u64, &[u8]) -> bool,
) -> Outcome {
    let len = exit.memory_access_size as usize;
    let write = exit.flags & MV_EXIT_MMIO_WRITE != 0;
    if write && writes(Space::Memory, exit.gpa, &exit.data.to_le_bytes()[..len]) {
        return Outcome::Done;
    }
    let mut details = kvm_run__bindgen_ty_1::default();
    details.mmio.phys_addr = exit.gpa;
    details.mmio.data = exit.data.to_le_bytes();
    details.mmio.len = len as u32;
    details.mmio.is_write = write.into();
    area.set_exit(KVM_EXIT_MMIO, details);
    Outcome::Client(if write { Pending::Nothing } else { Pending::MmioData(len) })
}

fn interrupt_end(exit: &mv_exit_interrupt_end_t, area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.eoi.vector = exit.vector as u8;
    area.set_exit(KVM_EXIT_IOAPIC_EOI, details);
    Outcome::Client(Pending::Nothing)
}

fn tpr_access(exit: &mv_exit_tpr_access_t, area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.tpr_access.rip = exit.rip;
    details.tpr_access.is_write = (exit.flags & MV_EXIT_TPR_ACCESS_WRITE != 0).into();
    area.set_exit(KVM_EXIT_TPR_ACCESS, details);
    Outcome::Client(Pending::Nothing)
}

fn msr(exit: &mv_exit_msr_t, area: &RunArea) -> Pending {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.msr.index = exit.msr as u32;
    details.msr.data = exit.data;
    details.msr.reason = match exit.reason {
        MV_MSR_LEAVE_INVALID => KVM_MSR_EXIT_REASON_INVAL,
        MV_MSR_LEAVE_UNKNOWN => KVM_MSR_EXIT_REASON_UNKNOWN,
        _ => KVM_MSR_EXIT_REASON_FILTER,
    };
    let write = exit.flags & MV_EXIT_MSR_WRITE != 0;
    area.set_exit(if write { KVM_EXIT_X86_WRMSR } else { KVM_EXIT_X86_RDMSR }, details);
    Pending::MsrAnswer
}

/// Only private memory is refused.
fn memory_fault(exit: &mv_exit_memory_fault_t, area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.memory_fault.flags = KVM_MEMORY_EXIT_FLAG_PRIVATE.into();
    details.memory_fault.gpa = exit.gpa & !(PAGE_SIZE - 1);
    details.memory_fault.size = PAGE_SIZE;
    area.set_exit(KVM_EXIT_MEMORY_FAULT, details);
    Outcome::Refused(libc::EFAULT)
}

fn debug(exit: &mv_exit_debug_t, area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.debug.arch.exception = exit.vector as u32;
    details.debug.arch.pc = exit.rip;
    details.debug.arch.dr6 = exit.dr6;
    details.debug.arch.dr7 = exit.dr7;
    area.set_exit(KVM_EXIT_DEBUG, details);
    Outcome::Client(Pending::Nothing)
}

fn failure(exit: &mv_exit_failure_t, area: &RunArea) -> Outcome {
    if exit.reason == MV_EXIT_FAILURE_LOST {
        // KVM's `vm_dead`.
        return Outcome::Refused(libc::EIO);
    }
    let mut details = kvm_run__bindgen_ty_1::default();
    details.fail_entry.hardware_entry_failure_reason = exit.reason;
    area.set_exit(KVM_EXIT_FAIL_ENTRY, details);
    Outcome::Client(Pending::Nothing)
}

/// Flags, size and fifteen bytes of the instruction: four words of `kvm_run.emulation_failure`.
const EMULATION_FAILURE_WORDS: u32 = 4;

fn unknown(exit: &mv_exit_unknown_t, area: &RunArea) -> Outcome {
    if exit.info0 != MV_EXIT_UNKNOWN_EMULATION {
        return unexpected(exit.info0, area);
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&exit.info2.to_le_bytes());
    bytes[8..].copy_from_slice(&exit.info3.to_le_bytes());
    let mut details = kvm_run__bindgen_ty_1::default();
    details.emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    details.emulation_failure.ndata = EMULATION_FAILURE_WORDS;
    details.emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES.into();
    let [insn_bytes @ .., _] = bytes;
    details.emulation_failure.__bindgen_anon_1.__bindgen_anon_1 =
        EmulationFailure { insn_size: exit.info1 as u8, insn_bytes };
    area.set_exit(KVM_EXIT_INTERNAL_ERROR, details);
    Outcome::Client(Pending::Nothing)
}

fn unexpected(reason: u64, area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.internal.suberror = KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON;
    details.internal.ndata = 1;
    details.internal.data = std::array::from_fn(|word| if word == 0 { reason } else { 0 });
    area.set_exit(KVM_EXIT_INTERNAL_ERROR, details);
    Outcome::Client(Pending::Nothing)
}
