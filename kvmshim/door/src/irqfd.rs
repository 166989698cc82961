//! KVM_IRQFD: eventfds that raise an interrupt line.
//!
//! `Documentation/virt/kvm/api.rst`, KVM_IRQFD. One thread waits for all of them. An edge is a
//! pulse, routed when it comes. With a resample eventfd the line stays high until its interrupt
//! ends; then the line falls and the resample eventfd is signalled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use microv::abi::hypercall::MV_VM_OP_VAL;
use microv::abi::index::{MV_VM_OP_IRQ_LINE_IDX_VAL, MV_VM_OP_LINES_ENDED_IDX_VAL};
use microv::abi::irqchip::{MV_IRQ_LEVEL, MV_IRQ_RESAMPLED, mv_line_list_t};
use microv::abi::status::MV_STATUS_SUCCESS;
use rustix::event::epoll;

use crate::eventfd;
use crate::root_page::{call, call3, with_page};

/// Events taken from the kernel at once.
const BATCH: usize = 64;

struct Irqfd {
    vmid: u16,
    gsi: u32,
    identity: u64,
    eventfd: OwnedFd,
    resample: Option<OwnedFd>,
}

/// All of this process: the key is what epoll returns.
#[derive(Default)]
struct Irqfds {
    by_key: HashMap<u64, Irqfd>,
    /// By VM and identity: an eventfd raises one line of a VM.
    by_eventfd: BTreeMap<(u16, u64), u64>,
    /// VM, line and key of those that are resampled.
    resampled: BTreeSet<(u16, u32, u64)>,
    next_key: u64,
}

impl Irqfds {
    /// It gets `next_key`.
    fn insert(&mut self, irqfd: Irqfd) {
        let key = self.next_key;
        self.next_key += 1;
        self.by_eventfd.insert((irqfd.vmid, irqfd.identity), key);
        if irqfd.resample.is_some() {
            self.resampled.insert((irqfd.vmid, irqfd.gsi, key));
        }
        self.by_key.insert(key, irqfd);
    }

    fn remove(&mut self, key: u64) -> Option<Irqfd> {
        let irqfd = self.by_key.remove(&key)?;
        self.by_eventfd.remove(&(irqfd.vmid, irqfd.identity));
        self.resampled.remove(&(irqfd.vmid, irqfd.gsi, key));
        Some(irqfd)
    }

    fn of_eventfd(&self, vmid: u16, identity: u64) -> Option<u64> {
        self.by_eventfd.get(&(vmid, identity)).copied()
    }

    fn of_vm(&self, vmid: u16) -> Vec<u64> {
        self.by_eventfd.range((vmid, 0)..=(vmid, u64::MAX)).map(|(_, key)| *key).collect()
    }

    /// Whether an irqfd is resampled, and no irqfd here is on the same line.
    fn is_only_resampled(&self, irqfd: &Irqfd) -> bool {
        irqfd.resample.is_some() && self.resampled_of(irqfd.vmid, irqfd.gsi).next().is_none()
    }

    fn resampled_of(&self, vmid: u16, gsi: u32) -> impl Iterator<Item = &Irqfd> {
        let keys = self.resampled.range((vmid, gsi, 0)..=(vmid, gsi, u64::MAX));
        keys.filter_map(|(_, _, key)| self.by_key.get(key))
    }
}

struct Waiter {
    epoll: OwnedFd,
    irqfds: Mutex<Irqfds>,
}

static WAITER: LazyLock<&'static Waiter> = LazyLock::new(|| {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
    let waiter: &'static Waiter = Box::leak(Box::new(Waiter { epoll, irqfds: Mutex::default() }));
    let thread = std::thread::Builder::new().name("irqfds".into());
    thread.spawn(move || waiter.wait_for_all()).expect("a thread for the irqfds");
    waiter
});

/// Why an irqfd is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The eventfd raises a line of this VM already.
    Busy,
    /// The descriptor cannot be waited for.
    Unfit,
}

/// Lets an eventfd raise line `gsi`. A count that it has already raises it now.
///
/// # Errors
/// [`Refusal`].
pub fn assign(
    vmid: u16,
    gsi: u32,
    identity: u64,
    eventfd: OwnedFd,
    resample: Option<OwnedFd>,
) -> Result<(), Refusal> {
    WAITER.assign(Irqfd { vmid, gsi, identity, eventfd, resample })
}

/// Undoes [`assign`]; there may be none.
pub fn deassign(vmid: u16, gsi: u32, identity: u64) {
    let mut irqfds = WAITER.lock();
    if let Some(key) = irqfds.of_eventfd(vmid, identity)
        && irqfds.by_key.get(&key).is_some_and(|irqfd| irqfd.gsi == gsi)
    {
        let removed = WAITER.remove(&mut irqfds, key);
        if let Some(irqfd) = removed.filter(|irqfd| irqfds.is_only_resampled(irqfd)) {
            drive(&irqfd, MV_IRQ_RESAMPLED);
        }
    }
}

/// Forgets every irqfd of a VM that ends.
pub fn forget(vmid: u16) {
    let mut irqfds = WAITER.lock();
    for key in irqfds.of_vm(vmid) {
        WAITER.remove(&mut irqfds, key);
    }
}

/// Signals the eventfds of a VM's resampled lines whose interrupts have ended; the lines fell then.
pub fn lines_ended(vmid: u16) {
    let lines: BTreeSet<u32> = with_page(|page| {
        let (status, _) = call(MV_VM_OP_VAL, MV_VM_OP_LINES_ENDED_IDX_VAL, vmid.into(), 0);
        if status != MV_STATUS_SUCCESS {
            return BTreeSet::new();
        }
        let list: mv_line_list_t = page.get(0);
        list.lines.into_iter().take(list.num_entries as usize).collect()
    });
    if lines.is_empty() {
        return;
    }
    let irqfds = WAITER.lock();
    for irqfd in lines.into_iter().flat_map(|gsi| irqfds.resampled_of(vmid, gsi)) {
        if let Some(resample) = &irqfd.resample {
            eventfd::signal(resample);
        }
    }
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, Irqfds> {
        self.irqfds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign(&self, irqfd: Irqfd) -> Result<(), Refusal> {
        let mut irqfds = self.lock();
        if irqfds.of_eventfd(irqfd.vmid, irqfd.identity).is_some() {
            return Err(Refusal::Busy);
        }
        let data = epoll::EventData::new_u64(irqfds.next_key);
        if irqfds.is_only_resampled(&irqfd) {
            // Low as it is; from now on the line's ends are told, whoever raised it.
            drive(&irqfd, MV_IRQ_RESAMPLED);
        }
        let added = epoll::add(&self.epoll, &irqfd.eventfd, data, epoll::EventFlags::IN);
        added.map_err(|_| Refusal::Unfit)?;
        irqfds.insert(irqfd);
        Ok(())
    }

    fn remove(&self, irqfds: &mut Irqfds, key: u64) -> Option<Irqfd> {
        let irqfd = irqfds.remove(key)?;
        // The client may have the eventfd open, so that closing ours does not end it.
        let _ = epoll::delete(&self.epoll, &irqfd.eventfd);
        Some(irqfd)
    }

    fn wait_for_all(&self) {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None);
            for event in events.drain(..) {
                // Held while the line is raised, so that none is once an irqfd was removed.
                if let Some(irqfd) = self.lock().by_key.get(&event.data.u64())
                    && eventfd::take(&irqfd.eventfd)
                {
                    raise(irqfd);
                }
            }
        }
    }
}

fn raise(irqfd: &Irqfd) {
    if irqfd.resample.is_some() {
        return drive(irqfd, MV_IRQ_LEVEL | MV_IRQ_RESAMPLED);
    }
    drive(irqfd, MV_IRQ_LEVEL);
    drive(irqfd, 0);
}

fn drive(irqfd: &Irqfd, flags: u64) {
    // A VM that is ending has no use for it.
    let operation = MV_VM_OP_IRQ_LINE_IDX_VAL;
    let _ = call3(MV_VM_OP_VAL, operation, irqfd.vmid.into(), irqfd.gsi.into(), flags);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn irqfd(vmid: u16, gsi: u32, identity: u64, resampled: bool) -> Irqfd {
        let new = || eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        Irqfd { vmid, gsi, identity, eventfd: new(), resample: resampled.then(new) }
    }

    #[test]
    fn only_what_is_resampled_on_a_line_is_found_by_it() {
        let mut irqfds = Irqfds::default();
        for (vmid, gsi, identity, resampled) in [
            (1, 4, 10, true),
            (1, 4, 11, false),
            (1, 4, 12, true),
            (1, 5, 13, true),
            (2, 4, 10, true),
        ] {
            irqfds.insert(irqfd(vmid, gsi, identity, resampled));
        }
        let of_line = |vmid, gsi| irqfds.resampled_of(vmid, gsi).map(|one| one.identity);
        assert_eq!(of_line(1, 4).collect::<Vec<_>>(), [10, 12]);
        assert_eq!(of_line(1, 6).count(), 0);
        assert_eq!(irqfds.of_vm(1).len(), 4);
    }

    #[test]
    fn nothing_is_left_of_what_is_removed() {
        let mut irqfds = Irqfds::default();
        irqfds.insert(irqfd(1, 4, 10, true));
        irqfds.insert(irqfd(1, 4, 11, true));
        let key = irqfds.of_eventfd(1, 10).unwrap();
        assert!(irqfds.remove(key).is_some());
        assert!(irqfds.remove(key).is_none());
        assert_eq!(irqfds.of_eventfd(1, 10), None);
        assert_eq!(irqfds.resampled_of(1, 4).count(), 1);
        assert_eq!(irqfds.of_vm(1).len(), 1);
    }
}
