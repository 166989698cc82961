//! KVM_REGISTER_COALESCED_MMIO: writes of the guest that wait in a ring for the next exit.
//!
//! `Documentation/virt/kvm/api.rst`, KVM_REGISTER_COALESCED_MMIO; what a zone takes follows
//! `virt/kvm/coalesced_mmio.c`. The ring is one page of the VM, which every vCPU's mapping shows. A
//! look-up takes as many steps as the number of zones has bits.

use std::mem::offset_of;
use std::sync::{Mutex, PoisonError, RwLock};

use kvm_bindings::{kvm_coalesced_mmio, kvm_coalesced_mmio_ring};

use crate::ioeventfd::Space;
use crate::shared_pages::SharedPages;

/// Bytes of the ring.
pub const RING_BYTES: usize = 4096;

const FIRST: usize = offset_of!(kvm_coalesced_mmio_ring, first);
const LAST: usize = offset_of!(kvm_coalesced_mmio_ring, last);
const ENTRIES: usize = offset_of!(kvm_coalesced_mmio_ring, coalesced_mmio);
const ENTRY: usize = size_of::<kvm_coalesced_mmio>();
const MAX: u32 = ((RING_BYTES - ENTRIES) / ENTRY) as u32;

/// KVM's limit of devices on a bus.
const MAX_ZONES: usize = 1000;

/// The zones and the ring of one VM.
pub struct Coalesced {
    memory: RwLock<Zones>,
    ports: RwLock<Zones>,
    ring: Mutex<SharedPages>,
}

impl Coalesced {
    /// No zones; `ring` is a page.
    pub fn new(ring: SharedPages) -> Self {
        Self { memory: RwLock::default(), ports: RwLock::default(), ring: Mutex::new(ring) }
    }

    /// Adds a zone; false where there are too many.
    pub fn add(&self, space: Space, start: u64, bytes: u32) -> bool {
        let mut zones = self.zones(space).write().unwrap_or_else(PoisonError::into_inner);
        zones.add(start, bytes)
    }

    /// Takes out every zone that holds the whole range.
    pub fn remove(&self, space: Space, start: u64, bytes: u32) {
        let mut zones = self.zones(space).write().unwrap_or_else(PoisonError::into_inner);
        zones.remove(start, bytes);
    }

    /// Keeps a write for later; false where no zone holds all of it, or the ring has no room.
    ///
    /// # Panics
    /// When there are more than eight bytes.
    pub fn keep(&self, space: Space, address: u64, bytes: &[u8]) -> bool {
        let zones = self.zones(space).read().unwrap_or_else(PoisonError::into_inner);
        zones.hold(address, bytes.len() as u32) && self.put(space, address, bytes)
    }

    fn put(&self, space: Space, address: u64, bytes: &[u8]) -> bool {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let last = ring.read::<u32>(LAST);
        if last >= MAX || (last + 1) % MAX == ring.read::<u32>(FIRST) {
            return false;
        }
        let mut data = [0; 8];
        data[..bytes.len()].copy_from_slice(bytes);
        let at = ENTRIES + last as usize * ENTRY;
        ring.write(at + offset_of!(kvm_coalesced_mmio, phys_addr), address);
        ring.write(at + offset_of!(kvm_coalesced_mmio, len), bytes.len() as u32);
        let pio = u32::from(space == Space::Port);
        ring.write(at + offset_of!(kvm_coalesced_mmio, __bindgen_anon_1), pio);
        ring.write(at + offset_of!(kvm_coalesced_mmio, data), data);
        ring.store_release(LAST, (last + 1) % MAX);
        true
    }

    fn zones(&self, space: Space) -> &RwLock<Zones> {
        match space {
            Space::Memory => &self.memory,
            Space::Port => &self.ports,
        }
    }
}

/// Ranges that may overlap, by start; `reach` is how far one that starts here or before comes.
#[derive(Default)]
struct Zones {
    ranges: Vec<(u64, u64)>,
    reach: Vec<u64>,
}

impl Zones {
    fn add(&mut self, start: u64, bytes: u32) -> bool {
        if self.ranges.len() >= MAX_ZONES {
            return false;
        }
        let at = self.ranges.partition_point(|(other, _)| *other <= start);
        self.ranges.insert(at, (start, start.saturating_add(bytes.into())));
        self.note_reach();
        true
    }

    fn remove(&mut self, start: u64, bytes: u32) {
        if let Some(end) = start.checked_add(bytes.into()) {
            self.ranges.retain(|(from, to)| !(*from <= start && end <= *to));
            self.note_reach();
        }
    }

    /// Whether one range holds all of an access.
    fn hold(&self, address: u64, bytes: u32) -> bool {
        let before = self.ranges.partition_point(|(start, _)| *start <= address);
        let end = address.checked_add(bytes.into());
        before != 0 && end.is_some_and(|end| end <= self.reach[before - 1])
    }

    fn note_reach(&mut self) {
        self.reach.clear();
        let mut reach = 0;
        self.reach.extend(self.ranges.iter().map(|(_, end)| {
            reach = reach.max(*end);
            reach
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_pages::tests::pages;

    fn coalesced() -> Coalesced {
        Coalesced::new(pages(RING_BYTES))
    }

    fn waiting(of: &Coalesced) -> u32 {
        of.ring.lock().unwrap().read(LAST)
    }

    #[test]
    fn a_write_inside_a_zone_is_kept_with_all_that_is_known() {
        let of = coalesced();
        assert!(of.add(Space::Port, 0x80, 8));
        assert!(of.keep(Space::Port, 0x84, &[1, 2, 3, 4]));
        let ring = of.ring.lock().unwrap();
        assert_eq!(ring.read::<u64>(ENTRIES), 0x84);
        assert_eq!(ring.read::<[u32; 2]>(ENTRIES + 8), [4, 1]);
        assert_eq!(ring.read::<[u8; 8]>(ENTRIES + 16), [1, 2, 3, 4, 0, 0, 0, 0]);
    }

    #[test]
    fn a_write_that_is_not_all_inside_is_not_kept() {
        let of = coalesced();
        of.add(Space::Memory, 0x1000, 16);
        for (space, address, len) in [
            (Space::Memory, 0xFFF, 1),
            (Space::Memory, 0xFFF, 2),
            (Space::Memory, 0x100F, 2),
            (Space::Memory, 0x1010, 1),
            (Space::Port, 0x1000, 1),
            (Space::Memory, u64::MAX, 1),
        ] {
            assert!(!of.keep(space, address, &vec![0; len]), "{space:?} {address:#x} {len}");
        }
        assert_eq!(waiting(&of), 0);
    }

    #[test]
    fn one_entry_stays_free() {
        let of = coalesced();
        of.add(Space::Memory, 0, 8);
        for _ in 0..MAX - 1 {
            assert!(of.keep(Space::Memory, 0, &[0]));
        }
        assert!(!of.keep(Space::Memory, 0, &[0]));
        of.ring.lock().unwrap().write(FIRST, 1_u32);
        assert!(of.keep(Space::Memory, 0, &[0]));
        assert_eq!(waiting(&of), 0);
    }

    #[test]
    fn nonsense_of_the_client_is_a_full_ring() {
        let of = coalesced();
        of.add(Space::Memory, 0, 8);
        of.ring.lock().unwrap().write(LAST, MAX);
        assert!(!of.keep(Space::Memory, 0, &[0]));
    }

    #[test]
    fn zones_that_overlap_are_looked_up_as_a_list_would_be() {
        let (mut zones, mut list) = (Zones::default(), Vec::new());
        let mut seed = 1_u64;
        for _ in 0..300 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (start, bytes) = (seed >> 58, (seed >> 48) as u32 % 16);
            if seed >> 40 & 3 == 0 {
                zones.remove(start, bytes);
                let end = start + u64::from(bytes);
                list.retain(|(from, to)| !(*from <= start && end <= *to));
            } else {
                zones.add(start, bytes);
                list.push((start, start + u64::from(bytes)));
            }
            for address in 0..90 {
                for len in 1..9 {
                    let inside = |(from, to): &(u64, u64)| {
                        *from <= address && address + u64::from(len) <= *to
                    };
                    assert_eq!(zones.hold(address, len), list.iter().any(inside));
                }
            }
        }
    }

    #[test]
    fn there_is_an_end_to_zones() {
        let of = coalesced();
        assert!((0..1000).all(|zone| of.add(Space::Memory, zone << 12, 8)));
        assert!(!of.add(Space::Memory, 0, 8));
        assert!(of.add(Space::Port, 0, 8));
    }
}
