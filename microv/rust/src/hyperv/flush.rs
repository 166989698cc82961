//! HvCallFlushVirtualAddressSpace, HvCallFlushVirtualAddressList and their forms with sets of processors:
//! TLFS, "Virtual Processor Translation". Each of the processors has forgotten all of its translations
//! when the hypercall returns, whatever address space and pages are named.

use std::sync::Arc;

use cpu_engine::Vcpu;
use cpu_paravirt::hyperv::hypercall::Status;

use super::Hyperv;
use super::hypercall::{Caller, Done};
use super::vp_set::VpSet;

/// In the flags: every processor.
const ALL_PROCESSORS: u64 = 1;
/// Format of a set whose words follow.
const SPARSE: u64 = 0;
/// Where those words are: behind address space, flags, format and mask.
const BANKS: u64 = 32;
/// Halves of XMM registers that the format and the mask use.
const USED_HALVES: usize = 2;

const REFUSED: Done = Done::With(Status::InvalidHypercallInput);

impl Hyperv {
    /// The form with a mask of processors. No processor is every processor: Windows Server 2012 says so.
    pub(super) fn flush(&self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let (flags, mask) = match caller.input.is_fast() {
            true => (caller.in_words[1], caller.xmm[0]),
            false => match self.input_words(caller) {
                Some([_, flags, mask]) => (flags, mask),
                None => return REFUSED,
            },
        };
        let all = flags & ALL_PROCESSORS != 0 || mask == 0;
        self.have_flushed(vcpu, caller, &if all { VpSet::All } else { VpSet::of_mask(mask) })
    }

    /// The form with a set of processors.
    pub(super) fn flush_set(&self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let (format, mask) = match caller.input.is_fast() {
            true => (caller.xmm[0], caller.xmm[1]),
            false => match self.input_words(caller) {
                Some([_, _, format, mask]) => (format, mask),
                None => return REFUSED,
            },
        };
        if caller.input.header_words() != mask.count_ones() as usize {
            return REFUSED;
        }
        let set = match format {
            SPARSE if mask == 0 => return Done::With(Status::Success),
            SPARSE => {
                let mem = &self.vm.memory.normal;
                let set = VpSet::sparse(mem, caller, mask, BANKS, USED_HALVES);
                let Some(set) = set else { return REFUSED };
                set
            }
            _ => VpSet::All,
        };
        self.have_flushed(vcpu, caller, &set)
    }

    /// Returns when every processor of the set has forgotten its translations, or none because one of
    /// them may not. Others may do the same meanwhile, and wait for this one.
    fn have_flushed(&self, vcpu: &mut Vcpu, caller: &Caller, set: &VpSet) -> Done {
        let order = self.vm.hyperv.flush_order.hold();
        let vcpus = self.vm.vcpus();
        if let Some(inhibitor) = set.of(&vcpus).find(|target| target.inhibition.is_inhibited()) {
            self.suspend(vcpu, inhibitor, caller.input.code());
            return Done::Suspended;
        }
        let mut missing = Vec::new();
        for target in set.of(&vcpus) {
            if Arc::ptr_eq(target, &self.presence) {
                vcpu.flush_tlb();
            } else {
                target.ask_for_flush();
                missing.push(target);
            }
        }
        drop(order);
        loop {
            missing.retain(|target| !target.has_forgotten());
            if missing.is_empty() {
                return Done::With(Status::Success);
            }
            vcpu.forget_if_asked();
            std::thread::yield_now();
        }
    }
}
