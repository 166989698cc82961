//! KVM_IOEVENTFD: writes of the guest that signal an eventfd instead of leaving it. KVM_HYPERV_EVENTFD: so
//! do hypercalls.
//!
//! `Documentation/virt/kvm/api.rst`, of both; what matches what follows
//! `virt/kvm/eventfd.c`. A look-up is one hash, however many there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use crate::eventfd;

/// What an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Guest-physical memory.
    Memory,
    /// Ports.
    Port,
}

/// A write that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Where.
    pub space: Space,
    /// First byte written.
    pub address: u64,
    /// Bytes written; 0 for any number.
    pub len: u8,
    /// The value written, if only that counts.
    pub data: Option<u64>,
}

impl Watched {
    /// Whether a write could be for both.
    fn collides(&self, other: &Self) -> bool {
        let any_len = self.len == 0 || other.len == 0;
        let any_data = self.data.is_none() || other.data.is_none();
        any_len || (self.len == other.len && (any_data || self.data == other.data))
    }

    fn takes(&self, bytes: &[u8]) -> bool {
        if self.len == 0 {
            return true;
        }
        usize::from(self.len) == bytes.len() && self.data.is_none_or(|data| data == value(bytes))
    }
}

fn value(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let len = bytes.len().min(8);
    whole[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(whole)
}

struct Waiting {
    watched: Watched,
    /// Which eventfd it is, whatever number it has.
    identity: u64,
    eventfd: OwnedFd,
}

/// Why an entry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A write could be for another entry as well.
    Exists,
    /// There is no such entry.
    Missing,
}

/// The entries of one VM.
#[derive(Default)]
pub struct IoEventfds {
    writes: RwLock<HashMap<(Space, u64), Vec<Waiting>>>,
    connections: RwLock<HashMap<u64, OwnedFd>>,
}

impl IoEventfds {
    /// Adds an entry. `identity` tells eventfds apart.
    ///
    /// # Errors
    /// [`Refusal::Exists`].
    pub fn add(&self, watched: Watched, identity: u64, eventfd: OwnedFd) -> Result<(), Refusal> {
        let mut entries = self.writes.write().unwrap_or_else(PoisonError::into_inner);
        let there = entries.entry((watched.space, watched.address)).or_default();
        if there.iter().any(|entry| entry.watched.collides(&watched)) {
            return Err(Refusal::Exists);
        }
        there.push(Waiting { watched, identity, eventfd });
        Ok(())
    }

    /// Takes an entry out.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub fn remove(&self, watched: &Watched, identity: u64) -> Result<(), Refusal> {
        let mut entries = self.writes.write().unwrap_or_else(PoisonError::into_inner);
        let key = (watched.space, watched.address);
        let there = entries.get_mut(&key).ok_or(Refusal::Missing)?;
        let is_it = |entry: &Waiting| entry.watched == *watched && entry.identity == identity;
        let at = there.iter().position(is_it).ok_or(Refusal::Missing)?;
        there.swap_remove(at);
        if there.is_empty() {
            entries.remove(&key);
        }
        Ok(())
    }

    /// Gives a connection of Hyper-V's an eventfd.
    ///
    /// # Errors
    /// [`Refusal::Exists`]: it has one.
    pub fn connect(&self, number: u32, eventfd: OwnedFd) -> Result<(), Refusal> {
        let mut connections = self.connections.write().unwrap_or_else(PoisonError::into_inner);
        match connections.entry(number.into()) {
            Entry::Occupied(_) => Err(Refusal::Exists),
            Entry::Vacant(free) => {
                free.insert(eventfd);
                Ok(())
            }
        }
    }

    /// Takes it away.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub fn disconnect(&self, number: u32) -> Result<(), Refusal> {
        let mut connections = self.connections.write().unwrap_or_else(PoisonError::into_inner);
        connections.remove(&number.into()).map(drop).ok_or(Refusal::Missing)
    }

    /// The guest signals a connection: true if that has an eventfd.
    pub fn signal_connection(&self, number: u64) -> bool {
        let connections = self.connections.read().unwrap_or_else(PoisonError::into_inner);
        connections.get(&number).map(eventfd::signal).is_some()
    }

    /// A write of the guest: true if an eventfd was waiting for it, and has been signalled.
    pub fn signal(&self, space: Space, address: u64, bytes: &[u8]) -> bool {
        let entries = self.writes.read().unwrap_or_else(PoisonError::into_inner);
        let there = entries.get(&(space, address)).map_or(&[][..], Vec::as_slice);
        let Some(entry) = there.iter().find(|entry| entry.watched.takes(bytes)) else {
            return false;
        };
        eventfd::signal(&entry.eventfd);
        true
    }
}

static OF_VMS: LazyLock<RwLock<HashMap<u16, Arc<IoEventfds>>>> = LazyLock::new(RwLock::default);

/// The entries of a VM; none at first.
pub fn of_vm(vmid: u16) -> Arc<IoEventfds> {
    let there = OF_VMS.read().unwrap_or_else(PoisonError::into_inner).get(&vmid).map(Arc::clone);
    there.unwrap_or_else(|| {
        let mut of_vms = OF_VMS.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(of_vms.entry(vmid).or_default())
    })
}

/// Forgets the entries of a VM that ends.
pub fn forget(vmid: u16) {
    OF_VMS.write().unwrap_or_else(PoisonError::into_inner).remove(&vmid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::EventfdFlags;

    fn eventfd() -> (OwnedFd, OwnedFd) {
        let ours = rustix::event::eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        (ours.try_clone().unwrap(), ours)
    }

    fn watched(len: u8, data: Option<u64>) -> Watched {
        Watched { space: Space::Port, address: 0x10, len, data }
    }

    #[test]
    fn a_write_signals_the_entry_it_matches() {
        for (len, data, written, expected) in [
            (2, None, vec![1, 2], true),
            (2, None, vec![1], false),
            (2, Some(0x201), vec![1, 2], true),
            (2, Some(0x202), vec![1, 2], false),
            (0, None, vec![1, 2, 3, 4], true),
            (8, Some(u64::MAX), vec![0xFF; 8], true),
        ] {
            let events = IoEventfds::default();
            let (theirs, ours) = eventfd();
            events.add(watched(len, data), 1, theirs).unwrap();
            assert_eq!(events.signal(Space::Port, 0x10, &written), expected, "{len} {data:?}");
            assert_eq!(eventfd::take(&ours), expected);
        }
    }

    #[test]
    fn other_addresses_and_spaces_are_not_waited_for() {
        let events = IoEventfds::default();
        events.add(watched(1, None), 1, eventfd().0).unwrap();
        assert!(!events.signal(Space::Port, 0x11, &[0]));
        assert!(!events.signal(Space::Memory, 0x10, &[0]));
    }

    #[test]
    fn one_write_is_for_one_entry() {
        let events = IoEventfds::default();
        events.add(watched(2, Some(1)), 1, eventfd().0).unwrap();
        for (len, data, expected) in [
            (2, Some(1), Err(Refusal::Exists)),
            (2, None, Err(Refusal::Exists)),
            (0, None, Err(Refusal::Exists)),
            (2, Some(2), Ok(())),
            (4, Some(1), Ok(())),
        ] {
            assert_eq!(events.add(watched(len, data), 2, eventfd().0), expected, "{len} {data:?}");
        }
    }

    #[test]
    fn an_entry_is_removed_by_what_it_is() {
        let events = IoEventfds::default();
        events.add(watched(2, Some(1)), 7, eventfd().0).unwrap();
        assert_eq!(events.remove(&watched(2, Some(1)), 8), Err(Refusal::Missing));
        assert_eq!(events.remove(&watched(2, Some(2)), 7), Err(Refusal::Missing));
        assert_eq!(events.remove(&watched(2, Some(1)), 7), Ok(()));
        assert_eq!(events.remove(&watched(2, Some(1)), 7), Err(Refusal::Missing));
        assert!(!events.signal(Space::Port, 0x10, &[1, 0]));
    }
}
