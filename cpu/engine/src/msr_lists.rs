//! Which MSRs a client is told of.

use std::sync::Arc;

use cpu_interp::{Cpu, Origin, TscClock, Vendor};
use cpu_mem::PhysMap;

use crate::{Personality, supported_cpuid_as};

/// The MSRs that a VM of this personality has and that [`crate::Vcpu::msr`] and
/// [`crate::Vcpu::set_msr`] save and restore.
#[must_use]
pub fn supported_msrs(personality: Personality) -> Vec<u32> {
    cpu_interp::saved_msrs(vendor(personality))
}

/// MSRs that describe the processor, with their values on a vCPU that nobody has changed.
#[must_use]
pub fn feature_msrs(personality: Personality) -> Vec<(u32, u64)> {
    let cpuid = supported_cpuid_as(personality);
    let cpu = Cpu::new(Arc::new(PhysMap::new()), cpuid, TscClock::new(1));
    let listed = cpu_interp::feature_msrs(vendor(personality)).iter();
    listed.filter_map(|&index| Some((index, cpu.read_msr(index, Origin::Host).ok()?))).collect()
}

fn vendor(personality: Personality) -> Vendor {
    match personality {
        Personality::Intel => Vendor::Intel,
        Personality::Amd => Vendor::Amd,
    }
}
