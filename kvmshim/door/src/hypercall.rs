//! What a guest asks of its hypervisor by VMCALL or VMMCALL, and the engine does not answer.
//!
//! `Documentation/virt/kvm/x86/hypercalls.rst`; api.rst, KVM_EXIT_HYPERCALL.

use kvm_bindings::{KVM_EXIT_HYPERCALL, kvm_run__bindgen_ty_1};
use microv::abi::run::{MV_EXIT_HYPERCALL_LONG, mv_exit_hypercall_t};

use crate::exit::{Outcome, Pending};
use crate::run_area::RunArea;

/// Leaves the engine only where the client has asked for it.
const KVM_HC_MAP_GPA_RANGE: u64 = 12;
const KVM_ENOSYS: u64 = 1000;

/// KVM_HC_MAP_GPA_RANGE is the client's; there is no other one.
pub fn answer(exit: &mv_exit_hypercall_t, area: &RunArea) -> Outcome {
    let [number, args @ ..] = exit.args;
    if number != KVM_HC_MAP_GPA_RANGE {
        return Outcome::Answered(KVM_ENOSYS.wrapping_neg());
    }
    let mut details = kvm_run__bindgen_ty_1::default();
    details.hypercall.nr = number;
    details.hypercall.args = [args[0], args[1], args[2], 0, 0, 0];
    details.hypercall.__bindgen_anon_1.flags = exit.flags & MV_EXIT_HYPERCALL_LONG;
    area.set_exit(KVM_EXIT_HYPERCALL, details);
    Outcome::Client(Pending::HypercallAnswer)
}
