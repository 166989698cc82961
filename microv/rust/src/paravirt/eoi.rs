//! MSR_KVM_PV_EOI_EN: a bit in guest memory that says "this interrupt needs no EOI". A guest that finds it
//! clears it and writes no EOI register. Linux, `Documentation/virt/kvm/x86/msr.rst`.
//!
//! Laws: the bit is set only for the interrupt that was delivered last, while none is requested and
//! where nobody waits for its end. It is taken back before anybody looks at the local APIC, and
//! before the guest is left: so what it stands for is never seen half done, nor saved.

use cpu_mem::PhysMap;
use cpu_paravirt::msr;

use super::memory::Structure;

/// The bit, and with it all of the byte: the rest is zero.
const NO_EOI_NEEDED: u8 = 1;

/// Spares a guest the ends of interrupts.
#[derive(Debug)]
pub struct SparedEnd<'a> {
    mem: &'a PhysMap,
    /// Where the bit is, if the guest wants to be spared.
    gpa: Option<u64>,
    /// The bit was set, and has not been taken back.
    offered: bool,
}

impl<'a> SparedEnd<'a> {
    /// As the MSR says.
    pub fn new(mem: &'a PhysMap, msr: u64) -> Self {
        let mut spared = SparedEnd { mem, gpa: None, offered: false };
        spared.set_msr(msr);
        spared
    }

    /// Follows the MSR, while nothing is offered.
    pub fn set_msr(&mut self, value: u64) {
        self.gpa = (value & msr::ENABLED != 0).then_some(value & !msr::ENABLED);
    }

    /// Whether the guest wants to be spared.
    pub fn is_wanted(&self) -> bool {
        self.gpa.is_some()
    }

    /// Sets the bit for the interrupt that is about to be delivered.
    pub fn offer(&mut self) {
        if let Some(memory) = self.memory() {
            memory.write(0, &[NO_EOI_NEEDED]);
            self.offered = true;
        }
    }

    /// Clears the bit. True: the guest had done so, and the interrupt has ended. Where its memory is
    /// gone the guest ends it by the register.
    pub fn take_back(&mut self) -> bool {
        if !std::mem::take(&mut self.offered) {
            return false;
        }
        let Some(memory) = self.memory() else { return false };
        let ended = memory.byte(0) & NO_EOI_NEEDED == 0;
        if !ended {
            memory.write(0, &[0]);
        }
        ended
    }

    fn memory(&self) -> Option<Structure> {
        Structure::at(self.mem, self.gpa?, size_of::<u8>())
    }
}
