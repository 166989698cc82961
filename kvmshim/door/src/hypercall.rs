//! What a guest asks of its hypervisor by VMCALL or VMMCALL.
//!
//! `Documentation/virt/kvm/x86/hypercalls.rst`; the errors are those of `kvm_emulate_hypercall`.

use microv::abi::run::mv_exit_hypercall_t;

const KVM_HC_VAPIC_POLL_IRQ: u64 = 1;
const KVM_HC_SCHED_YIELD: u64 = 11;
const KVM_FEATURE_PV_SCHED_YIELD: u64 = 1 << 13;
const KVM_EPERM: u64 = 1;
const KVM_ENOSYS: u64 = 1000;

/// RAX afterwards: 0, or a negative KVM_E*.
pub fn answer(exit: &mv_exit_hypercall_t) -> u64 {
    let [number, ..] = exit.args;
    match number {
        _ if exit.cpl != 0 => KVM_EPERM.wrapping_neg(),
        KVM_HC_VAPIC_POLL_IRQ => 0,
        KVM_HC_SCHED_YIELD if exit.features & KVM_FEATURE_PV_SCHED_YIELD != 0 => {
            std::thread::yield_now();
            0
        }
        _ => KVM_ENOSYS.wrapping_neg(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, cpl: u64) -> i64 {
        call_with(number, cpl, u32::MAX.into())
    }

    fn call_with(number: u64, cpl: u64, features: u64) -> i64 {
        let exit = mv_exit_hypercall_t { args: [number, 0, 0, 0, 0], flags: 0, cpl, features };
        answer(&exit).cast_signed()
    }

    #[test]
    fn a_yield_is_granted() {
        assert_eq!(call(KVM_HC_SCHED_YIELD, 0), 0);
    }

    #[test]
    fn a_yield_needs_its_feature() {
        assert_eq!(call_with(KVM_HC_SCHED_YIELD, 0, !KVM_FEATURE_PV_SCHED_YIELD), -1000);
    }

    #[test]
    fn user_code_may_not_call() {
        assert_eq!(call(KVM_HC_SCHED_YIELD, 3), -1);
    }

    #[test]
    fn unknown_calls_say_so() {
        assert_eq!(call(0, 0), -1000);
        assert_eq!(call(u64::MAX, 0), -1000);
    }
}
