//! Paravirtual interfaces as a guest sees them: CPUID bits, MSRs, structures in its memory, numbers
//! of hypercalls, and the arithmetic of its clocks. Here is KVM's; [`hyperv`] is that of Hyper-V.
//!
//! Linux, `Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst`. Other hypervisors offer it, too:
//! it is known by its CPUID signature. Pure: who writes the structures, and when, is elsewhere.
#![forbid(unsafe_code)]

pub mod async_pf;
pub mod clock;
pub mod features;
pub mod hypercall;
pub mod hyperv;
pub mod msr;
pub mod steal;
pub mod vapic;
