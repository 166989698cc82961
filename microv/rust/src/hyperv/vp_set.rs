//! Sets of processors in hypercalls: TLFS, "Virtual Processor Sets". Processors are named by
//! HV_X64_MSR_VP_INDEX.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu_mem::PhysMap;

use super::hypercall::Caller;
use crate::object::presence::Presence;
use crate::paravirt::memory;

/// Words of a sparse set, at most.
const MAX_BANKS: usize = 64;
/// Processors in a word.
const BANK_BITS: u32 = u64::BITS;

/// Some of the processors of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VpSet {
    /// Each of them.
    All,
    /// 64 processors a word; bit n of the mask says that there is a word for those from 64 n on.
    Sparse {
        /// Which words there are.
        mask: u64,
        /// The words.
        banks: Vec<u64>,
    },
}

impl VpSet {
    /// The first 64 processors, by their bits.
    pub fn of_mask(mask: u64) -> VpSet {
        VpSet::Sparse { mask: 1, banks: vec![mask] }
    }

    /// The words of a sparse set behind its header: in memory at `offset` of the input, or, of a fast
    /// hypercall, in the XMM registers behind `used` halves. None where they cannot be read.
    pub fn sparse(
        mem: &PhysMap,
        call: &Caller,
        mask: u64,
        offset: u64,
        used: usize,
    ) -> Option<VpSet> {
        let count = call.input.header_words();
        if count > MAX_BANKS {
            return None;
        }
        let banks = match call.input.is_fast() {
            true => call.xmm.get(used..used.checked_add(count)?)?.to_vec(),
            false => {
                let mut bytes = vec![0; count * size_of::<u64>()];
                let read = memory::copy_out(mem, call.in_words[0].wrapping_add(offset), &mut bytes);
                read.then(|| words(&bytes))?
            }
        };
        Some(VpSet::Sparse { mask, banks })
    }

    /// Whether a processor is in it.
    pub fn contains(&self, vp_index: u32) -> bool {
        let VpSet::Sparse { mask, banks } = self else { return true };
        let (bank, bit) = (vp_index / BANK_BITS, vp_index % BANK_BITS);
        if bank >= u64::BITS || mask >> bank & 1 == 0 {
            return false;
        }
        let before = (mask & ((1 << bank) - 1)).count_ones() as usize;
        banks.get(before).is_some_and(|word| word >> bit & 1 != 0)
    }

    /// Those of `vcpus` that are in it.
    pub fn of<'a>(&self, vcpus: &'a [Arc<Presence>]) -> impl Iterator<Item = &'a Arc<Presence>> {
        vcpus.iter().filter(|vcpu| self.contains(vcpu.vp_index.load(Ordering::Relaxed)))
    }
}

/// Little-endian words.
pub fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_00n_a_sparse_set_has_words_for_its_mask_only() {
        let set = VpSet::Sparse { mask: 0b1010, banks: vec![1 << 1, 1 << 63] };
        let members: Vec<_> = (0..512).filter(|&index| set.contains(index)).collect();
        assert_eq!(members, [65, 255]);
    }

    #[test]
    fn hv_00n_a_mask_names_the_first_64() {
        let set = VpSet::of_mask(0b101);
        assert!(set.contains(0) && !set.contains(1) && set.contains(2) && !set.contains(64));
        assert!(VpSet::All.contains(u32::MAX));
        assert!(!set.contains(u32::MAX));
    }

    #[test]
    fn hv_00n_a_set_without_its_words_is_empty() {
        let set = VpSet::Sparse { mask: !0, banks: vec![] };
        assert!((0..4096).all(|index| !set.contains(index)));
    }
}
