//! HvCallFlushVirtualAddressSpace, HvCallFlushVirtualAddressList and their forms with sets of processors:
//! TLFS, "Virtual Processor Translation". Each of the processors has forgotten all of its translations
//! when the hypercall returns, whatever address space and pages are named.

use std::sync::Arc;

use cpu_engine::Vcpu;
use cpu_paravirt::hyperv::hypercall::Status;

use super::Hyperv;
use super::hypercall::Caller;
use super::vp_set::VpSet;

/// In the flags: every processor.
const ALL_PROCESSORS: u64 = 1;
/// Format of a set whose words follow.
const SPARSE: u64 = 0;
/// Where those words are: behind address space, flags, format and mask.
const BANKS: u64 = 32;
/// Halves of XMM registers that the format and the mask use.
const USED_HALVES: usize = 2;

impl Hyperv {
    /// The form with a mask of processors. No processor is every processor: Windows Server 2012 says so.
    pub(super) fn flush(&self, vcpu: &mut Vcpu, caller: &Caller) -> Status {
        let (flags, mask) = match caller.input.is_fast() {
            true => (caller.in_words[1], caller.xmm[0]),
            false => match self.input_words(caller) {
                Some([_, flags, mask]) => (flags, mask),
                None => return Status::InvalidHypercallInput,
            },
        };
        let all = flags & ALL_PROCESSORS != 0 || mask == 0;
        self.have_flushed(vcpu, &if all { VpSet::All } else { VpSet::of_mask(mask) });
        Status::Success
    }

    /// The form with a set of processors.
    pub(super) fn flush_set(&self, vcpu: &mut Vcpu, caller: &Caller) -> Status {
        let (format, mask) = match caller.input.is_fast() {
            true => (caller.xmm[0], caller.xmm[1]),
            false => match self.input_words(caller) {
                Some([_, _, format, mask]) => (format, mask),
                None => return Status::InvalidHypercallInput,
            },
        };
        if caller.input.header_words() != mask.count_ones() as usize {
            return Status::InvalidHypercallInput;
        }
        let set = match format {
            SPARSE if mask == 0 => return Status::Success,
            SPARSE => {
                let mem = &self.vm.memory.normal;
                let set = VpSet::sparse(mem, caller, mask, BANKS, USED_HALVES);
                let Some(set) = set else { return Status::InvalidHypercallInput };
                set
            }
            _ => VpSet::All,
        };
        self.have_flushed(vcpu, &set);
        Status::Success
    }

    /// Returns when every processor of the set has forgotten its translations. Others may do the same
    /// meanwhile, and wait for this one.
    fn have_flushed(&self, vcpu: &mut Vcpu, set: &VpSet) {
        let vcpus = self.vm.vcpus();
        let mut missing = Vec::new();
        for target in set.of(&vcpus) {
            if Arc::ptr_eq(target, &self.presence) {
                vcpu.flush_tlb();
            } else {
                target.ask_for_flush();
                missing.push(target);
            }
        }
        loop {
            missing.retain(|target| !target.has_forgotten());
            if missing.is_empty() {
                return;
            }
            vcpu.forget_if_asked();
            std::thread::yield_now();
        }
    }
}
