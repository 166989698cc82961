//! Asynchronous page faults: the guest runs something else while the host fetches a page.
//! Linux, `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_ASYNC_PF_EN; `virt/kvm/async_pf.c`.
//!
//! Memory of a VM is always there, so no page is ever said to be missing. What is left is what a guest
//! that was moved here needs: when the feature is enabled, whoever waits for a page of another host
//! is told to look again.

use cpu_mem::PhysMap;
use cpu_paravirt::async_pf as layout;

use super::memory::Structure;
use crate::object::local_apic::MsrRefused;

/// The feature of one VS.
#[derive(Debug, Default)]
pub struct AsyncPf {
    /// MSR_KVM_ASYNC_PF_EN.
    enable: u64,
    /// MSR_KVM_ASYNC_PF_INT.
    interrupt: u64,
    /// "Look again" has not been told.
    waits: bool,
    /// It may be told now, where the guest is ready for it.
    due: bool,
    /// CR0.PG when the VS was looked at last.
    paging: bool,
}

impl AsyncPf {
    /// MSR_KVM_ASYNC_PF_EN.
    pub fn enable(&self) -> u64 {
        self.enable
    }

    /// MSR_KVM_ASYNC_PF_INT.
    pub fn interrupt(&self) -> u64 {
        self.interrupt
    }

    /// Sets MSR_KVM_ASYNC_PF_EN, which tells all to look again.
    ///
    /// # Errors
    /// [`MsrRefused`]: there is no such memory. As in KVM the MSR has the value all the same.
    pub fn set_enable(&mut self, mem: &PhysMap, value: u64) -> Result<(), MsrRefused> {
        self.enable = value;
        if !layout::is_enabled(value) {
            self.waits = false;
            return Ok(());
        }
        if !Structure::exists(mem, layout::address(value), layout::SIZE) {
            return Err(MsrRefused);
        }
        if !self.waits {
            self.waits = true;
            self.due = true;
        }
        Ok(())
    }

    /// Sets MSR_KVM_ASYNC_PF_INT.
    pub fn set_interrupt(&mut self, value: u64) {
        self.interrupt = value;
    }

    /// Writes MSR_KVM_ASYNC_PF_ACK.
    pub fn acknowledge(&mut self, value: u64) {
        self.due |= value & layout::ACKNOWLEDGE != 0;
    }

    /// Whether something is to be told.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Tells what is to be told, before the VS executes: the vector of the interrupt that does.
    /// `open`: its local APIC is enabled.
    pub fn tell(&mut self, mem: &PhysMap, paging: bool, open: bool) -> Option<u8> {
        // A guest that switches paging on may have missed something.
        let switched_on = paging && !std::mem::replace(&mut self.paging, paging);
        let due = std::mem::take(&mut self.due) || switched_on;
        if !self.waits || !due || !open {
            return None;
        }
        let memory = Structure::at(mem, layout::address(self.enable), layout::SIZE)?;
        if memory.u32(layout::TOKEN) != 0 {
            return None;
        }
        self.waits = false;
        memory.write(layout::TOKEN, &layout::ALL.to_le_bytes());
        Some(self.interrupt as u8)
    }
}
