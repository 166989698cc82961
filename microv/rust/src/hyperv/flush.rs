//! HvCallFlushVirtualAddressSpace, HvCallFlushVirtualAddressList and their forms with sets of processors:
//! TLFS, "Virtual Processor Translation". Each of the processors has forgotten what is named when the
//! hypercall returns: an address space or all, all of its pages or those of a list. Of a list that is
//! longer than a processor would remember it forgets all pages.

use std::sync::Arc;

use cpu_engine::{Forget, Vcpu};
use cpu_paravirt::hyperv::hypercall::Status;

use super::Hyperv;
use super::hypercall::{Caller, Done};
use super::vp_set::{self, VpSet};
use crate::paravirt::memory;

/// Address space and flags.
type Head = [u64; 2];

/// In the flags: every processor.
const ALL_PROCESSORS: u64 = 1 << 0;
/// Every address space.
const ALL_SPACES: u64 = 1 << 1;
/// Global pages stay.
const NON_GLOBAL: u64 = 1 << 2;
/// Elements of the list may name large pages.
const EXTENDED_RANGES: u64 = 1 << 3;

/// Format of a set whose words follow.
const SPARSE: u64 = 0;
/// Where the list is: behind address space, flags and mask.
const LIST: u64 = 24;
/// Where the words of a set are: behind address space, flags, format and mask.
const BANKS: u64 = 32;
/// Halves of XMM registers that a mask uses, or format and mask of a set.
const MASK_HALVES: usize = 1;
const SET_HALVES: usize = 2;

/// Elements of a list that is looked at.
const MAX_ELEMENTS: usize = 16;

const REFUSED: Done = Done::With(Status::InvalidHypercallInput);

impl Hyperv {
    /// The form with a mask of processors. No processor is every processor: Windows Server 2012 says so.
    pub(super) fn flush(&self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let (head, mask): (Head, u64) = match caller.input.is_fast() {
            true => (caller.in_words, caller.xmm[0]),
            false => match self.input_words(caller) {
                Some([space, flags, mask]) => ([space, flags], mask),
                None => return REFUSED,
            },
        };
        let all = head[1] & ALL_PROCESSORS != 0 || mask == 0;
        let set = if all { VpSet::All } else { VpSet::of_mask(mask) };
        match self.named(caller, head, LIST, MASK_HALVES) {
            Some(forget) => self.have_forgotten(vcpu, caller, &set, &forget),
            None => REFUSED,
        }
    }

    /// The form with a set of processors.
    pub(super) fn flush_set(&self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let (head, format, mask): (Head, u64, u64) = match caller.input.is_fast() {
            true => (caller.in_words, caller.xmm[0], caller.xmm[1]),
            false => match self.input_words(caller) {
                Some([space, flags, format, mask]) => ([space, flags], format, mask),
                None => return REFUSED,
            },
        };
        let words = caller.input.header_words();
        if words != mask.count_ones() as usize {
            return REFUSED;
        }
        let set = match format {
            SPARSE if mask == 0 => return Done::With(Status::Success),
            SPARSE => {
                let mem = &self.vm.memory.normal;
                let set = VpSet::sparse(mem, caller, mask, BANKS, SET_HALVES);
                let Some(set) = set else { return REFUSED };
                set
            }
            _ => VpSet::All,
        };
        match self.named(caller, head, BANKS + words as u64 * 8, SET_HALVES + words) {
            Some(forget) => self.have_forgotten(vcpu, caller, &set, &forget),
            None => REFUSED,
        }
    }

    /// What is to be forgotten; None: the list is not there. Of a fast hypercall it begins behind `used`
    /// halves of XMM registers, else `offset` bytes behind the begin of the input.
    fn named(
        &self,
        caller: &Caller,
        [space, flags]: Head,
        offset: u64,
        used: usize,
    ) -> Option<Forget> {
        let count = usize::from(caller.input.reps());
        let pages = match count {
            1..=MAX_ELEMENTS => {
                let elements = self.elements(caller, count, offset, used)?;
                let extended = flags & EXTENDED_RANGES != 0;
                Some(elements.iter().map(|&element| range(element, extended)).collect())
            }
            _ => None,
        };
        let space = (flags & ALL_SPACES == 0).then_some(space & cpu_engine::ROOT);
        Some(Forget { space, pages, keep_global: flags & NON_GLOBAL != 0 })
    }

    fn elements(
        &self,
        caller: &Caller,
        count: usize,
        offset: u64,
        used: usize,
    ) -> Option<Vec<u64>> {
        if caller.input.is_fast() {
            return Some(caller.xmm.get(used..used.checked_add(count)?)?.to_vec());
        }
        let mut bytes = vec![0; count * size_of::<u64>()];
        let address = caller.in_words[0].wrapping_add(offset);
        let read = memory::copy_out(&self.vm.memory.normal, address, &mut bytes);
        read.then(|| vp_set::words(&bytes))
    }

    /// Returns when every processor of the set has forgotten what it is to, or none because one of
    /// them may not. Others may do the same meanwhile, and wait for this one.
    fn have_forgotten(
        &self,
        vcpu: &mut Vcpu,
        caller: &Caller,
        set: &VpSet,
        forget: &Forget,
    ) -> Done {
        let order = self.vm.hyperv.flush_order.hold();
        let vcpus = self.vm.vcpus();
        if let Some(inhibitor) = set.of(&vcpus).find(|target| target.inhibition.is_inhibited()) {
            self.suspend(vcpu, inhibitor, caller.input.code());
            return Done::Suspended;
        }
        let mut missing = Vec::new();
        for target in set.of(&vcpus) {
            if Arc::ptr_eq(target, &self.presence) {
                vcpu.forget(forget);
            } else {
                target.ask_to_forget(forget);
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

/// First and last linear address of an element: a page number in bits 63:12, and how many pages follow
/// in bits 11:0. In the extended format bits 10:0 say so, and with bit 11 the pages are of 2 MiB, or
/// with bit 12 of 1 GiB, numbered in bits 63:21.
fn range(element: u64, extended: bool) -> (u64, u64) {
    const LARGE: u64 = 1 << 11;
    const HUGE: u64 = 1 << 12;
    let (bytes, more) = match extended {
        false => (1 << 12, element & 0xFFF),
        true if element & LARGE == 0 => (1 << 12, element & 0x7FF),
        true if element & HUGE == 0 => (1 << 21, element & 0x7FF),
        true => (1 << 30, element & 0x7FF),
    };
    let first = element & !(bytes - 1);
    (first, first.saturating_add(more * bytes).saturating_add(bytes - 1))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn hv_30_an_element_names_pages_that_follow_each_other() {
        assert_eq!(range(0x7000, false), (0x7000, 0x7FFF));
        assert_eq!(range(0x7002, false), (0x7000, 0x9FFF));
        assert_eq!(range(0x7FFF, false), (0x7000, 0x7000 + 0x1000 * 0x1000 - 1));
        assert_eq!(range(!0, false), (!0xFFF, !0));
    }

    #[test]
    fn hv_31_an_extended_element_may_name_large_pages() {
        assert_eq!(range(0x7002, true), (0x7000, 0x9FFF));
        assert_eq!(range(0x0060_0801, true), (0x60_0000, 0x9F_FFFF));
        assert_eq!(range(0xC000_1800, true), (0xC000_0000, 0xFFFF_FFFF));
        assert_eq!(range(!0, true).1, !0);
    }
}
