//! RDMSR and WRMSR beyond the processor: which MSRs the host keeps from the guest, which refusals
//! leave to it instead of raising #GP, and which MSRs belong to devices beside the processor.

use std::ops::RangeInclusive;
use std::sync::Arc;

use cpu_defs::msr;

use crate::cpu::{Cpu, Request};
use crate::exec::MsrRefusal;
use crate::stop::{Stop, gp};

/// MSRs of the x2APIC, which no filter keeps from the guest.
const X2APIC: RangeInclusive<u32> = 0x800..=0x8FF;

/// Why an access leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrReason {
    /// The MSR cannot hold the value.
    Invalid,
    /// There is no such MSR.
    Unknown,
    /// The filter says so.
    Denied,
    /// The MSR belongs to a device beside the processor.
    Platform,
}

impl From<MsrRefusal> for MsrReason {
    fn from(refusal: MsrRefusal) -> Self {
        match refusal {
            MsrRefusal::Invalid => Self::Invalid,
            MsrRefusal::Unknown => Self::Unknown,
        }
    }
}

/// Neighbouring MSRs with a bit each: whether the access is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrRange {
    /// The bits count for reads.
    pub read: bool,
    /// The bits count for writes.
    pub write: bool,
    /// The MSR of the lowest bit.
    pub first: u32,
    /// How many MSRs.
    pub count: u32,
    /// Lowest first; missing ones are clear.
    pub allowed: Vec<u8>,
}

impl MsrRange {
    fn covers(&self, index: u32, write: bool) -> bool {
        let kind = if write { self.write } else { self.read };
        kind && index.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }

    fn allows(&self, index: u32) -> bool {
        let offset = index.wrapping_sub(self.first);
        let byte = self.allowed.get(offset as usize / 8);
        byte.is_some_and(|byte| byte >> (offset % 8) & 1 != 0)
    }
}

/// Which MSRs the guest may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MsrFilter {
    /// What holds for MSRs in no range: not allowed.
    pub deny: bool,
    /// The first that covers an MSR counts.
    pub ranges: Vec<MsrRange>,
}

/// The rules of one VM.
#[derive(Clone, Debug, Default)]
pub struct MsrRules {
    /// Leave where an MSR cannot hold the value.
    pub leave_invalid: bool,
    /// Leave where there is no such MSR.
    pub leave_unknown: bool,
    /// Leave where the filter denies the access.
    pub leave_denied: bool,
    /// The guest has no PLATFORM_INFO.
    pub hide_platform_info: bool,
    /// Without one everything is allowed.
    pub filter: Option<Arc<MsrFilter>>,
}

impl MsrRules {
    /// Whether the filter lets the guest touch an MSR.
    #[must_use]
    pub fn allow(&self, index: u32, write: bool) -> bool {
        let Some(filter) = &self.filter else { return true };
        if X2APIC.contains(&index) {
            return true;
        }
        let covering = filter.ranges.iter().find(|range| range.covers(index, write));
        covering.map_or(!filter.deny, |range| range.allows(index))
    }

    /// Whether the processor is one without this MSR, for the guest.
    pub(crate) fn hide(&self, index: u32) -> bool {
        self.hide_platform_info && index == msr::PLATFORM_INFO
    }

    fn leave(&self, reason: MsrReason) -> bool {
        match reason {
            MsrReason::Invalid => self.leave_invalid,
            MsrReason::Unknown => self.leave_unknown,
            MsrReason::Denied => self.leave_denied,
            MsrReason::Platform => true,
        }
    }
}

/// MSRs that devices beside the processor answer for, with [`MsrReason::Platform`].
pub type PlatformMsrs = Arc<[RangeInclusive<u32>]>;

/// What the outside answers to an access that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrAnswer {
    /// What a read gets; anything for a write.
    Value(u64),
    /// #GP.
    Fault,
    /// As if the processor had no use for the value: #GP, unless the rules give that to the host.
    Refused,
    /// The access is the processor's after all.
    Own,
}

impl Cpu {
    /// The answer to an access that ran before, or the reasons to leave. None: it is the processor's.
    /// `value` is that of a write.
    pub(crate) fn ask_outside(
        &mut self,
        index: u32,
        value: Option<u64>,
    ) -> Result<Option<u64>, Stop> {
        match self.msr_answer.take() {
            Some(MsrAnswer::Value(value)) => Ok(Some(value)),
            Some(MsrAnswer::Own) => Ok(None),
            Some(MsrAnswer::Fault) => gp(0),
            Some(MsrAnswer::Refused) => self.refuse_msr(MsrReason::Invalid, index, value),
            None if !self.msr_rules.allow(index, value.is_some()) => {
                self.refuse_msr(MsrReason::Denied, index, value)
            }
            None if self.platform_msrs.iter().any(|range| range.contains(&index)) => {
                self.refuse_msr(MsrReason::Platform, index, value)
            }
            None => Ok(None),
        }
    }

    /// The processor does not do it: #GP, or somebody outside decides. `value` is that of a write.
    pub(crate) fn refuse_msr<T>(
        &mut self,
        reason: MsrReason,
        index: u32,
        value: Option<u64>,
    ) -> Result<T, Stop> {
        if !self.msr_rules.leave(reason) {
            return gp(0);
        }
        self.request = Some(Request::Msr { index, value, reason });
        Err(Stop::Exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(deny: bool, ranges: Vec<MsrRange>) -> MsrRules {
        let filter = Some(Arc::new(MsrFilter { deny, ranges }));
        MsrRules { filter, ..MsrRules::default() }
    }

    fn range(first: u32, count: u32, allowed: &[u8]) -> MsrRange {
        MsrRange { read: true, write: false, first, count, allowed: allowed.to_vec() }
    }

    #[test]
    fn without_a_filter_everything_is_allowed() {
        assert!(MsrRules::default().allow(0, true));
    }

    #[test]
    fn outside_of_ranges_the_default_counts() {
        for deny in [false, true] {
            let rules = rules(deny, vec![range(0x10, 8, &[0])]);
            assert_eq!(rules.allow(0xF, false), !deny);
            assert_eq!(rules.allow(0x18, false), !deny);
            assert_eq!(rules.allow(0x10, true), !deny, "the range is for reads");
        }
    }

    #[test]
    fn inside_a_range_its_bit_counts() {
        let rules = rules(false, vec![range(0x10, 9, &[0b101])]);
        let allowed: Vec<_> = (0x10..0x1A).filter(|&msr| rules.allow(msr, false)).collect();
        assert_eq!(allowed, [0x10, 0x12, 0x19]);
    }

    #[test]
    fn the_first_range_counts_and_the_last_msr_can_be_in_one() {
        let last = u32::MAX;
        let rules = rules(true, vec![range(last, 1, &[1]), range(last - 7, 8, &[0])]);
        assert!(rules.allow(last, false));
        assert!(!rules.allow(last - 1, false));
    }

    #[test]
    fn the_x2apic_is_never_kept_away() {
        let rules = rules(true, vec![range(0x800, 0x100, &[])]);
        assert!(rules.allow(0x800, false) && rules.allow(0x8FF, true));
    }
}
