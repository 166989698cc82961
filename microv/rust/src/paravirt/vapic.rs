//! The task priority of a guest that the root patches: where the guest reads and writes it, and the
//! accesses of the register by which the root finds what is to be patched.
//! Linux, `Documentation/virt/kvm/api.rst`, KVM_SET_VAPIC_ADDR and KVM_EXIT_TPR_ACCESS.
//!
//! While there is such a place it counts, CR8 does not.

use cpu_chipset::lapic::Lapic;
use cpu_mem::PhysMap;
use cpu_paravirt::vapic as layout;

use super::memory;

/// An access of the task-priority register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TprAccess {
    /// RIP of the instruction.
    pub rip: u64,
    /// A write, or a read and a write.
    pub write: bool,
}

/// What the root wants of one VS.
#[derive(Debug, Default)]
pub struct Vapic {
    gpa: Option<u64>,
    /// The guest may have written there: it was shown its task priority, and has not left since.
    shown: bool,
    tells: bool,
    access: Option<TprAccess>,
}

impl Vapic {
    /// The guest has its task priority there from now on; 0 is no place. False: no such memory.
    pub fn place(&mut self, mem: &PhysMap, gpa: u64) -> bool {
        let exists = gpa == 0 || memory::exists(mem, gpa, layout::SIZE);
        if exists {
            self.gpa = (gpa != 0).then_some(gpa);
        }
        exists
    }

    /// Whether accesses of the register are told.
    pub fn tells(&self) -> bool {
        self.tells
    }

    /// Has accesses of the register told, or not; what has been noted stays.
    pub fn set_tells(&mut self, tells: bool) {
        self.tells = tells;
    }

    /// Notes an access that is to be told once its instruction is complete.
    pub fn note(&mut self, access: TprAccess) {
        self.access = Some(access);
    }

    /// Takes the access that is to be told.
    pub fn take_access(&mut self) -> Option<TprAccess> {
        self.access.take()
    }

    /// INIT: the guest is not patched yet.
    pub fn init(&mut self) {
        self.gpa = None;
    }

    /// Whether there is a place.
    pub fn is_placed(&self) -> bool {
        self.gpa.is_some()
    }

    /// The guest is left: what is there counts no more, the register does.
    pub fn leave(&mut self) {
        self.shown = false;
    }

    /// The task priority that the guest has written.
    pub fn task_priority(&self, mem: &PhysMap) -> Option<u8> {
        let mut priority = [0];
        if !self.shown {
            return None;
        }
        memory::copy_out(mem, self.gpa?, &mut priority).then_some(priority[0])
    }

    /// Shows the guest what its local APIC holds.
    pub fn show(&mut self, mem: &PhysMap, lapic: &Lapic) {
        if let Some(gpa) = self.gpa
            && lapic.software_enabled()
        {
            let (in_service, requested) = lapic.highest();
            // Memory that has gone is nobody's.
            memory::copy_in(mem, gpa, &layout::word(lapic.task_priority(), in_service, requested));
            self.shown = true;
        }
    }
}
