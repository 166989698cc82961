//! VP, virtual processor: owns VSs, of which one runs at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Vm;
use super::members::Members;

/// A VP of a guest VM.
#[derive(Debug)]
pub struct Vp {
    id: u16,
    /// The VM it belongs to, where it counts as a member.
    pub vm: Arc<Vm>,
    /// Its VSs.
    pub members: Members,
    active: AtomicBool,
}

impl Vp {
    /// A VP; the caller has joined the VM's members on its behalf.
    pub fn new(id: u16, vm: Arc<Vm>) -> Vp {
        Vp { id, vm, members: Members::default(), active: AtomicBool::new(false) }
    }

    /// vpid.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Makes the VP active on the calling PP; `None` where it is on another.
    pub fn activate(&self) -> Option<Active<'_>> {
        (!self.active.swap(true, Ordering::Acquire)).then_some(Active(&self.active))
    }
}

/// The VP is active for as long as this lives.
#[derive(Debug)]
pub struct Active<'a>(&'a AtomicBool);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
