//! KVM_IRQFD: eventfds that raise an interrupt line.
//!
//! `Documentation/virt/kvm/api.rst`, KVM_IRQFD. One thread waits for all of them. An edge is a
//! pulse, routed when it comes. With a resample eventfd the line stays high until its interrupt
//! ends; then the line falls and the resample eventfd is signalled.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// All of this process, by the key that epoll returns.
struct Waiter {
    epoll: OwnedFd,
    irqfds: Mutex<HashMap<u64, Irqfd>>,
    next_key: AtomicU64,
}

static WAITER: LazyLock<&'static Waiter> = LazyLock::new(|| {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
    let waiter: &'static Waiter = Box::leak(Box::new(Waiter {
        epoll,
        irqfds: Mutex::default(),
        next_key: AtomicU64::new(0),
    }));
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
    WAITER.remove(|irqfd| irqfd.vmid == vmid && irqfd.gsi == gsi && irqfd.identity == identity);
}

/// Forgets every irqfd of a VM that ends.
pub fn forget(vmid: u16) {
    WAITER.remove(|irqfd| irqfd.vmid == vmid);
}

/// Lets resampled lines of a VM fall whose interrupts have ended, and signals their eventfds.
pub fn lines_ended(vmid: u16) {
    let lines: Vec<u32> = with_page(|page| {
        let (status, _) = call(MV_VM_OP_VAL, MV_VM_OP_LINES_ENDED_IDX_VAL, vmid.into(), 0);
        if status != MV_STATUS_SUCCESS {
            return Vec::new();
        }
        let list: mv_line_list_t = page.get(0);
        list.lines.into_iter().take(list.num_entries as usize).collect()
    });
    if !lines.is_empty() {
        ended(vmid, |gsi| lines.contains(&gsi));
    }
}

fn ended(vmid: u16, is_line: impl Fn(u32) -> bool) {
    for irqfd in WAITER.lock().values() {
        if let Some(resample) = &irqfd.resample
            && irqfd.vmid == vmid
            && is_line(irqfd.gsi)
        {
            drive(irqfd, MV_IRQ_RESAMPLED);
            eventfd::signal(resample);
        }
    }
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Irqfd>> {
        self.irqfds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign(&self, irqfd: Irqfd) -> Result<(), Refusal> {
        let mut irqfds = self.lock();
        let same = |other: &Irqfd| other.vmid == irqfd.vmid && other.identity == irqfd.identity;
        if irqfds.values().any(same) {
            return Err(Refusal::Busy);
        }
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let data = epoll::EventData::new_u64(key);
        let added = epoll::add(&self.epoll, &irqfd.eventfd, data, epoll::EventFlags::IN);
        added.map_err(|_| Refusal::Unfit)?;
        irqfds.insert(key, irqfd);
        Ok(())
    }

    fn remove(&self, is_it: impl Fn(&Irqfd) -> bool) {
        self.lock().retain(|_, irqfd| {
            let gone = is_it(irqfd);
            if gone {
                // The client may have the eventfd open, so that closing ours does not end it.
                let _ = epoll::delete(&self.epoll, &irqfd.eventfd);
            }
            !gone
        });
    }

    fn wait_for_all(&self) {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None);
            for event in events.drain(..) {
                // Held while the line is raised, so that none is once an irqfd was removed.
                if let Some(irqfd) = self.lock().get(&event.data.u64())
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
