//! What other threads reach of a vCPU's local APIC: the inbox, and how it is addressed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cpu_chipset::lapic::{Address, Inbox};

const ENABLED: u32 = 1;
const X2APIC: u32 = 2;
const CLUSTER: u32 = 4;
const ACCEPTS_EXTERNAL: u32 = 8;

/// Shared between the vCPU's thread and those that send to it.
#[derive(Debug, Default)]
pub struct LapicPort {
    /// Interrupts on their way.
    pub inbox: Inbox,
    /// ID, and logical ID in the upper half.
    ids: AtomicU64,
    flags: AtomicU32,
}

impl LapicPort {
    /// Makes the address known to senders. A sender at the same moment sees the old one or the new
    /// one, or their halves mixed, as on a bus.
    pub fn publish(&self, address: &Address, accepts_external: bool) {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = flag(address.enabled, ENABLED)
            | flag(address.x2apic, X2APIC)
            | flag(address.cluster, CLUSTER)
            | flag(accepts_external, ACCEPTS_EXTERNAL);
        let ids = u64::from(address.ldr) << 32 | u64::from(address.id);
        self.ids.store(ids, Ordering::Release);
        self.flags.store(flags, Ordering::Release);
    }

    /// How it is addressed.
    pub fn address(&self) -> Address {
        let flags = self.flags.load(Ordering::Acquire);
        let ids = self.ids.load(Ordering::Acquire);
        Address {
            enabled: flags & ENABLED != 0,
            x2apic: flags & X2APIC != 0,
            id: ids as u32,
            ldr: (ids >> 32) as u32,
            cluster: flags & CLUSTER != 0,
        }
    }

    /// Whether the 8259A's interrupts reach this processor.
    pub fn accepts_external(&self) -> bool {
        self.flags.load(Ordering::Acquire) & ACCEPTS_EXTERNAL != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_senders_see() {
        let port = LapicPort::default();
        assert!(!port.address().enabled);
        for (x2apic, cluster) in [(false, false), (false, true), (true, false)] {
            let address = Address { enabled: true, x2apic, id: 0x123, ldr: 0x12_0008, cluster };
            port.publish(&address, cluster);
            assert_eq!((port.address(), port.accepts_external()), (address, cluster));
        }
    }
}
