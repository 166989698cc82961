//! One virtual x86-64 processor: registers, run loop, event injection, exits.
//!
//! Instructions are executed by `cpu-interp` (tier 0) and `cpu-translate` (tier 1).
//! A [`Vcpu`] belongs to one thread at a time; other threads reach it through its [`Kick`]. It knows
//! guest memory only as a [`cpu_mem::PhysMap`] and devices only as exits.
#![forbid(unsafe_code)]

mod complete;
mod controllers;
mod counters;
mod cpuid;
mod entry;
mod error;
mod events;
mod exit;
mod kick;
mod msr_lists;
mod regs;
mod run;
mod tier;
pub mod trace;
mod translate;
mod vcpu;

pub use controllers::{Arrivals, Controllers, NoControllers};
pub use counters::{Count, Counters};
pub use cpu_defs::{CpuidEntry, Gpr, Reg, SegField, SegReg, TableField};
pub use cpu_interp::state::Shadow;
pub use cpu_interp::xstate::XsaveError;
pub use cpu_interp::{
    Features, FpuState, HostDebug, HypercallAnswer, TscClock, host_tsc, host_tsc_khz,
};
pub use cpu_interp::{MsrAnswer, MsrFilter, MsrRange, MsrReason, MsrRules, PlatformMsrs, Quirks};
pub use cpu_interp::{Withheld, user_stores};
pub use cpu_mmu::{Forget, ROOT};
pub use cpu_translate::CodeLimit;
pub use cpuid::{Personality, supported_cpuid, supported_cpuid_as};
pub use entry::Controls;
pub use error::{EntryFailure, MsrError, QueueFull, RegError};
pub use events::{Events, InjectedInterrupt, QueuedException, Stage};
pub use exit::{
    DebugExit, Exit, HYPERCALL_ANSWER_LEN, HypercallExit, IO_DATA_LEN, IoDirection, IoExit,
    MSR_ANSWER_LEN, MmioExit, MsrExit, Pending,
};
pub use kick::Kick;
pub use msr_lists::{feature_msrs, supported_msrs};
pub use run::Halted;
pub use translate::{Probe, ProbeFailure, Probed, Translation};
pub use vcpu::Vcpu;
