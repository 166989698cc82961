//! Names of the x86-64 architecture: registers, control bits, MSR numbers, exceptions, CPUID entries.
//!
//! Numbers only, no behaviour. Sources: Intel SDM volume 3 (control registers, exceptions, MSRs) and
//! AMD APM volume 2 (EFER, SYSCALL MSRs). Segment attributes use the VMX access-rights layout.
#![forbid(unsafe_code)]

pub mod attrib;
mod control;
mod cpuid;
mod cpuid_word;
mod exception;
mod flags;
pub mod msr;
mod reg;

pub use control::{cr0, cr4, dr6, dr7, efer};
pub use cpuid::{CpuidEntry, find_cpuid};
pub use cpuid_word::{CpuidBit, CpuidReg, CpuidWord, cpuid_bit};
pub use exception::{Exception, page_fault, vector};
pub use flags::rflags;
pub use reg::{Gpr, Reg, SegField, SegReg, TableField};
