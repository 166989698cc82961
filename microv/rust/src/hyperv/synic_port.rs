//! What other threads see of a synthetic interrupt controller: where its sources lead.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cpu_paravirt::hyperv::synic::{FIRST_VECTOR, SINT_AUTO_EOI, SINT_MASKED, SINT_POLLED, SINTS};

/// Shared between the vCPU's thread and those that send to it.
#[derive(Debug)]
pub struct SynicPort {
    active: AtomicBool,
    /// The guest knows that sources can be polled.
    has_polling: AtomicBool,
    sints: [AtomicU64; SINTS],
    /// Sources whose message or interrupt has ended since the vCPU last looked, by bit.
    ended: AtomicU32,
}

impl Default for SynicPort {
    fn default() -> SynicPort {
        SynicPort {
            active: AtomicBool::new(false),
            has_polling: AtomicBool::new(false),
            sints: std::array::from_fn(|_| AtomicU64::new(SINT_MASKED)),
            ended: AtomicU32::new(0),
        }
    }
}

impl SynicPort {
    /// There is a controller.
    pub fn activate(&self) {
        self.active.store(true, Ordering::Release);
    }

    /// Whether there is one.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Whether the guest is told that sources can be polled; without, the bit means nothing, as in KVM.
    pub fn set_has_polling(&self, has: bool) {
        self.has_polling.store(has, Ordering::Release);
    }

    /// HV_X64_MSR_SINT0 and its like.
    pub fn sint(&self, sint: usize) -> u64 {
        self.sints[sint].load(Ordering::Acquire)
    }

    /// Sets HV_X64_MSR_SINT0 or its like.
    pub fn set_sint(&self, sint: usize, value: u64) {
        self.sints[sint].store(value, Ordering::Release);
    }

    /// Where a source leads; None: it is masked or polled, or is none.
    pub fn vector(&self, sint: usize) -> Option<u8> {
        let value = self.sints.get(sint)?.load(Ordering::Acquire);
        let is_open = self.is_active() && value & SINT_MASKED == 0;
        (is_open && !self.polls(value)).then_some(value as u8)
    }

    /// Whether messages of a source come without an interrupt.
    pub fn is_polled(&self, sint: usize) -> bool {
        let value = self.sint(sint);
        self.is_active() && value & SINT_MASKED == 0 && self.polls(value)
    }

    fn polls(&self, value: u64) -> bool {
        value & SINT_POLLED != 0 && self.has_polling.load(Ordering::Acquire)
    }

    /// Whether interrupts with this vector end by themselves.
    pub fn ends_by_itself(&self, vector: u8) -> bool {
        let auto = |sint: &usize| self.sint(*sint) & SINT_AUTO_EOI != 0;
        vector >= FIRST_VECTOR && self.sources_of(vector).any(|sint| auto(&sint))
    }

    /// The sources that lead to a vector.
    pub fn sources_of(&self, vector: u8) -> impl Iterator<Item = usize> + '_ {
        (0..SINTS).filter(move |&sint| self.vector(sint) == Some(vector))
    }

    /// Messages or interrupts of these sources have ended.
    pub fn end(&self, sints: u32) {
        self.ended.fetch_or(sints, Ordering::AcqRel);
    }

    /// Takes the sources that have ended.
    pub fn take_ended(&self) -> u32 {
        self.ended.swap(0, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_07_a_masked_source_leads_nowhere() {
        let port = SynicPort::default();
        port.activate();
        assert_eq!(port.vector(2), None);
        port.set_sint(2, 0x40 | SINT_AUTO_EOI);
        assert_eq!(port.vector(2), Some(0x40));
        assert!(port.ends_by_itself(0x40) && !port.ends_by_itself(0x41));
        assert_eq!(port.sources_of(0x40).collect::<Vec<_>>(), [2]);
        assert_eq!(port.vector(16), None);
    }

    #[test]
    fn hv_47_polling_leads_nowhere_if_the_guest_knows_of_it() {
        let port = SynicPort::default();
        port.activate();
        port.set_sint(2, 0x40 | SINT_POLLED);
        assert_eq!((port.vector(2), port.is_polled(2)), (Some(0x40), false));
        port.set_has_polling(true);
        assert_eq!((port.vector(2), port.is_polled(2)), (None, true));
        port.set_sint(2, 0x40 | SINT_POLLED | SINT_MASKED);
        assert_eq!((port.vector(2), port.is_polled(2)), (None, false));
    }

    #[test]
    fn hv_07_without_a_controller_no_source_leads_anywhere() {
        let port = SynicPort::default();
        port.set_sint(0, 0x40);
        assert_eq!(port.vector(0), None);
    }
}
