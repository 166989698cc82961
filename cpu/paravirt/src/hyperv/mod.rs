//! The interface of Hyper-V as a guest sees it: CPUID leaves, synthetic MSRs, hypercalls, and the
//! arithmetic of its reference time.
//!
//! Hyper-V Top Level Functional Specification ("TLFS"), chapters "Feature and Interface Discovery",
//! "Hypercall Interface", "Virtual Processors", "Timers", "Virtual Interrupt Controller". Where KVM
//! does more or less than that says, as KVM (`arch/x86/kvm/hyperv.c`).

pub mod cpuid;
pub mod hypercall;
pub mod msr;
pub mod reference_time;
pub mod register;
pub mod synic;
pub mod vp_context;
