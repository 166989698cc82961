//! The local APIC of a VS, and the MSRs that it answers for.

use std::sync::Arc;

use cpu_chipset::lapic::Lapic;
use cpu_chipset::lapic::register::{self, base};
use cpu_defs::cpuid_bit;
use cpu_defs::msr::IA32_APIC_BASE;
use cpu_engine::Vcpu;
use cpu_paravirt::hyperv::msr as hyperv_msr;

use super::presence::Presence;
use crate::alarm::Alarm;

/// IA32_TSC_DEADLINE.
pub const IA32_TSC_DEADLINE: u32 = 0x6E0;
/// First and last MSR of x2APIC mode.
pub const X2APIC_MSRS: std::ops::RangeInclusive<u32> = 0x800..=0x8FF;
/// Bits of IA32_APIC_BASE that can be set: base below 2^45, enable, x2APIC, boot processor.
const APIC_BASE_LEGAL: u64 = 0x1FFF_FFFF_FD00;

/// A local APIC and the alarm of its timer.
#[derive(Debug)]
pub struct LocalApic {
    /// The registers.
    pub lapic: Lapic,
    /// Wakes the VS when the timer wants to be looked at.
    pub alarm: Arc<Alarm>,
}

/// The modes that IA32_APIC_BASE can select for a processor.
#[derive(Clone, Copy, Debug)]
pub struct ApicModes {
    /// CPUID shows x2APIC mode; without, its bit is reserved.
    pub x2apic: bool,
}

impl ApicModes {
    /// Of this processor.
    pub fn of(vcpu: &Vcpu) -> ApicModes {
        ApicModes { x2apic: vcpu.announces(cpuid_bit::X2APIC) }
    }

    /// Whether there is a mode with this value of IA32_APIC_BASE.
    pub fn have(self, value: u64) -> bool {
        let legal = if self.x2apic { APIC_BASE_LEGAL } else { APIC_BASE_LEGAL & !base::X2APIC };
        value & !legal == 0 && value & (base::ENABLED | base::X2APIC) != base::X2APIC
    }
}

/// The register that an MSR of Hyper-V is.
#[must_use]
pub fn hyperv_register(index: u32) -> u8 {
    match index {
        hyperv_msr::EOI => register::EOI,
        hyperv_msr::ICR => register::ICR_LOW,
        _ => register::TPR,
    }
}

/// The MSR does not exist, or cannot hold the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrRefused;

impl LocalApic {
    /// A local APIC after power-up.
    pub fn new(id: u32, apic_base: u64, presence: &Arc<Presence>) -> Self {
        let sleeper = Arc::downgrade(presence);
        let ring = move || {
            if let Some(presence) = sleeper.upgrade() {
                presence.notify();
            }
        };
        let lapic = Lapic::new(id, apic_base);
        presence.lapic.publish(&lapic.address(), lapic.accepts_external());
        LocalApic { lapic, alarm: Alarm::new(ring) }
    }

    /// Whether an MSR is answered here.
    pub fn has_msr(index: u32) -> bool {
        index == IA32_APIC_BASE || index == IA32_TSC_DEADLINE || X2APIC_MSRS.contains(&index)
    }

    /// What the root reads.
    ///
    /// # Errors
    /// [`MsrRefused`]: no such register, or not in x2APIC mode.
    pub fn msr(&self, index: u32, now_ns: u64) -> Result<u64, MsrRefused> {
        match index {
            IA32_APIC_BASE => Ok(self.lapic.apic_base()),
            IA32_TSC_DEADLINE => Ok(self.lapic.tsc_deadline()),
            _ if !self.lapic.x2apic() => Err(MsrRefused),
            _ => self
                .lapic
                .read_msr((index - X2APIC_MSRS.start()) as u8, now_ns)
                .map_err(|_| MsrRefused),
        }
    }

    /// What the root writes: any mode of IA32_APIC_BASE, and registers without an effect outside.
    ///
    /// # Errors
    /// [`MsrRefused`].
    pub fn set_msr(
        &mut self,
        index: u32,
        value: u64,
        modes: ApicModes,
        presence: &Presence,
    ) -> Result<(), MsrRefused> {
        match index {
            IA32_APIC_BASE if !modes.have(value) => return Err(MsrRefused),
            IA32_APIC_BASE => self.lapic.set_apic_base(value),
            IA32_TSC_DEADLINE => self.lapic.set_tsc_deadline(value),
            _ => return Err(MsrRefused),
        }
        presence.lapic.publish(&self.lapic.address(), self.lapic.accepts_external());
        // Looked at when the VS runs next, which sets the alarm.
        presence.notify();
        Ok(())
    }

    /// Task priority in an image of the registers, as CR8 shows it.
    pub fn cr8_of(image: &[u8]) -> u64 {
        u64::from(image[usize::from(register::TPR) * 16] >> 4)
    }
}
