//! Flushes that wait: a processor may be kept from being flushed by hypercalls of others, and who wants
//! to flush it meanwhile is suspended.
//!
//! TLFS, "Virtual Secure Mode", TLB locks. A suspended processor executes nothing and takes no event; the
//! hypercall has not ended, and is made again when the flush may be tried again. It waits for the first
//! processor of its set that was inhibited, and may come to wait for the next one.
//!
//! Law: that a processor may be flushed is decided, and who waits for it is entered and released, while
//! [`FlushOrder`] is held. So an inhibition that has begun is seen by each later flush, and no release is
//! missed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cpu_engine::trace::Event;
use cpu_engine::{Exit, Halted, Vcpu};

use super::Hyperv;
use crate::abi::activity::{MV_ACTIVITY_RUNNING, MV_ACTIVITY_SUSPENDED};
use crate::object::Vm;
use crate::object::presence::Presence;

/// What a processor is suspended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspended {
    /// The VS that may not be flushed.
    pub on: u16,
    /// The hypercall that is made again.
    pub code: u16,
}

/// Whether a processor may be flushed, and whether it waits for another one; for any thread to read.
#[derive(Debug, Default)]
pub struct Inhibition {
    inhibited: AtomicBool,
    /// Bit 32: suspended; bits 31:16 the code of the hypercall, bits 15:0 the VS waited for.
    suspended: AtomicU64,
}

const SUSPENDED: u64 = 1 << 32;

impl Inhibition {
    /// No hypercall of another processor may flush this one.
    pub fn is_inhibited(&self) -> bool {
        self.inhibited.load(Ordering::Acquire)
    }

    /// What this processor waits for.
    pub fn suspended(&self) -> Option<Suspended> {
        let word = self.suspended.load(Ordering::Acquire);
        (word & SUSPENDED != 0).then_some(Suspended { on: word as u16, code: (word >> 16) as u16 })
    }

    fn suspend(&self, Suspended { on, code }: Suspended) {
        let word = SUSPENDED | u64::from(code) << 16 | u64::from(on);
        self.suspended.store(word, Ordering::Release);
    }

    fn resume(&self) {
        self.suspended.store(0, Ordering::Release);
    }
}

/// Which comes first, a flush or its inhibition: one lock of a partition, held for moments.
#[derive(Debug, Default)]
pub struct FlushOrder(Mutex<()>);

impl FlushOrder {
    /// Nobody else decides meanwhile.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a processor from being flushed by hypercalls, or lets it be flushed again; those that wait for
/// it try again then. A flush that was asked for before may still be carried out.
pub fn set_inhibited(vm: &Vm, target: &Presence, inhibited: bool) {
    let _order = vm.hyperv.flush_order.hold();
    target.inhibition.inhibited.store(inhibited, Ordering::Release);
    if !inhibited {
        release(vm, target);
    }
}

/// A processor is gone, which others may wait for. It is none of the VM's any more.
pub fn forget(vm: &Vm, target: &Presence) {
    let _order = vm.hyperv.flush_order.hold();
    release(vm, target);
}

fn release(vm: &Vm, target: &Presence) {
    for waiting in vm.vcpus().iter() {
        if waiting.inhibition.suspended().is_some_and(|wait| wait.on == target.vsid) {
            waiting.inhibition.resume();
            waiting.notify();
        }
    }
}

impl Hyperv {
    /// The processor waits for `inhibitor` until it may make its hypercall again. The caller holds the
    /// partition's [`FlushOrder`].
    pub(super) fn suspend(&self, vcpu: &Vcpu, inhibitor: &Presence, code: u16) {
        self.presence.inhibition.suspend(Suspended { on: inhibitor.vsid, code });
        let number = inhibitor.vp_index.load(Ordering::Relaxed);
        vcpu.trace_event(Event::Suspended, code as u8, Some(number));
    }

    /// Sleeps while the processor is suspended. Some: it was asked to leave.
    pub fn sit_out_suspension(&self, vcpu: &mut Vcpu) -> Option<Exit> {
        let presence = &self.presence;
        presence.inhibition.suspended()?;
        loop {
            match vcpu.poll_suspended() {
                Halted::Left => return Some(Exit::Interrupted),
                Halted::Paused => return Some(Exit::Paused),
                _ if presence.inhibition.suspended().is_none() => {
                    vcpu.trace_event(Event::Resumed, 0, None);
                    return None;
                }
                _ => {
                    presence.activity.store(MV_ACTIVITY_SUSPENDED, Ordering::Relaxed);
                    presence.sleep();
                    presence.activity.store(MV_ACTIVITY_RUNNING, Ordering::Relaxed);
                }
            }
        }
    }
}
