//! RDMSR, WRMSR, RDTSC, RDTSCP, RDPID, RDPMC, and the MSRs.
//!
//! Here are those that mean something to the processor; the others are rows of [`table`].

mod rules;
mod table;

use cpu_defs::{Gpr, SegReg, cpuid_bit, cr0, cr4, efer, msr};
use cpu_mmu::is_canonical;
use iced_x86::{Instruction, Mnemonic};

pub use self::rules::Origin;
pub use self::table::MsrStore;
use crate::cpu::Cpu;
use crate::features::Vendor;
use crate::msr_rules::MsrReason;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp};

/// Those of this file that a client saves and restores.
const OWN: &[u32] = &[
    msr::IA32_TSC,
    msr::IA32_TSC_ADJUST,
    msr::IA32_APIC_BASE,
    msr::IA32_BIOS_SIGN_ID,
    msr::IA32_SYSENTER_CS,
    msr::IA32_SYSENTER_ESP,
    msr::IA32_SYSENTER_EIP,
    msr::IA32_PAT,
    msr::IA32_XSS,
    msr::EFER,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::SFMASK,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
    msr::TSC_AUX,
    msr::IA32_SMBASE,
];

/// The MSRs that a client of a VM of this vendor saves and restores.
#[must_use]
pub fn saved_msrs(vendor: Vendor) -> Vec<u32> {
    OWN.iter().copied().chain(table::saved(vendor)).collect()
}

/// The MSRs that tell the client what the processor can do.
#[must_use]
pub fn feature_msrs(vendor: Vendor) -> &'static [u32] {
    const OF_ALL: &[u32] = &[
        msr::IA32_BIOS_SIGN_ID,
        msr::PLATFORM_INFO,
        msr::IA32_ARCH_CAPABILITIES,
        msr::IA32_PERF_CAPABILITIES,
        msr::DE_CFG,
    ];
    match vendor {
        Vendor::Intel => &OF_ALL[..4],
        Vendor::Amd => OF_ALL,
    }
}

/// Bits of EFER that can be set; FFXSR where it is announced.
const EFER_LEGAL: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;
/// Bits of IA32_APIC_BASE that can be set: base below 2^45, enable, bootstrap processor.
const APIC_BASE_LEGAL: u64 = 0x1FFF_FFFF_F900;
/// IA32_BIOS_SIGN_ID, which AMD calls PATCH_LEVEL, until the host sets another.
const INTEL_MICROCODE: u64 = 1 << 32;
const AMD_MICROCODE: u64 = 0x0100_0065;

/// Why an MSR access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrRefusal {
    /// No such MSR.
    Unknown,
    /// The MSR cannot hold the value.
    Invalid,
}

/// Whether an MSR can hold a value.
type ValueRule = fn(u64) -> bool;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Rdmsr => rdmsr,
        Mnemonic::Wrmsr => wrmsr,
        Mnemonic::Rdtsc => rdtsc,
        Mnemonic::Rdtscp => rdtscp,
        Mnemonic::Rdpid => rdpid,
        Mnemonic::Rdpmc => |_, _| gp(0),
        _ => return None,
    })
}

impl Cpu {
    /// The time-stamp counter.
    #[must_use]
    pub fn tsc(&self) -> u64 {
        self.clock.now().wrapping_add(self.tsc_offset)
    }

    /// What it is ahead of the host's; None if it is more than moved.
    #[must_use]
    #[inline]
    pub fn tsc_ahead_of_host(&self) -> Option<u64> {
        Some(self.clock.ahead_of_host()?.wrapping_add(self.tsc_offset))
    }

    /// Reads an MSR.
    ///
    /// # Errors
    /// [`MsrRefusal::Unknown`].
    pub fn read_msr(&self, index: u32, origin: Origin) -> Result<u64, MsrRefusal> {
        self.check_announced(index, origin)?;
        let msrs = &self.arch.msrs;
        Ok(match index {
            msr::IA32_TSC => self.tsc(),
            msr::IA32_APIC_BASE => msrs.apic_base,
            msr::IA32_TSC_ADJUST => msrs.tsc_adjust,
            msr::IA32_BIOS_SIGN_ID if msrs.bios_sign_id != 0 => msrs.bios_sign_id,
            msr::IA32_BIOS_SIGN_ID if self.features.amd => AMD_MICROCODE,
            msr::IA32_BIOS_SIGN_ID => INTEL_MICROCODE,
            msr::IA32_SYSENTER_CS => msrs.sysenter_cs,
            msr::IA32_SYSENTER_ESP => msrs.sysenter_esp,
            msr::IA32_SYSENTER_EIP => msrs.sysenter_eip,
            msr::IA32_PAT => msrs.pat,
            msr::EFER => self.arch.efer,
            msr::STAR => msrs.star,
            msr::LSTAR => msrs.lstar,
            msr::CSTAR => msrs.cstar,
            msr::SFMASK => msrs.sfmask,
            msr::FS_BASE => self.arch.segment(SegReg::Fs).base,
            msr::GS_BASE => self.arch.segment(SegReg::Gs).base,
            msr::KERNEL_GS_BASE => msrs.kernel_gs_base,
            msr::TSC_AUX => msrs.tsc_aux,
            msr::IA32_XSS => msrs.xss,
            msr::IA32_SMBASE => msrs.smbase,
            _ => return self.msr_store.read(&self.features, index, origin),
        })
    }

    /// Writes an MSR. EFER is checked here as the host may set it.
    ///
    /// # Errors
    /// [`MsrRefusal`].
    pub fn write_msr(&mut self, index: u32, value: u64, origin: Origin) -> Result<(), MsrRefusal> {
        self.check_announced(index, origin)?;
        let plain = self.plain_msr(index);
        if let Some((slot, legal)) = plain {
            if !legal(value) {
                return Err(MsrRefusal::Invalid);
            }
            *slot = value;
            return Ok(());
        }
        match index {
            msr::IA32_TSC => {
                let moved = value.wrapping_sub(self.tsc());
                self.tsc_offset = self.tsc_offset.wrapping_add(moved);
                if origin == Origin::Guest {
                    let adjust = &mut self.arch.msrs.tsc_adjust;
                    *adjust = adjust.wrapping_add(moved);
                }
            }
            msr::IA32_TSC_ADJUST => {
                let adjust = &mut self.arch.msrs.tsc_adjust;
                let moved = value.wrapping_sub(*adjust);
                *adjust = value;
                if origin == Origin::Guest {
                    self.tsc_offset = self.tsc_offset.wrapping_add(moved);
                }
            }
            // A guest asks for the revision by writing zero first.
            msr::IA32_BIOS_SIGN_ID if origin == Origin::Guest => {}
            msr::IA32_BIOS_SIGN_ID => self.arch.msrs.bios_sign_id = value,
            msr::FS_BASE => self.set_base(SegReg::Fs, value)?,
            msr::GS_BASE => self.set_base(SegReg::Gs, value)?,
            msr::EFER => {
                let ffxsr = if self.features.has(cpuid_bit::FFXSR) { efer::FFXSR } else { 0 };
                if value & !(EFER_LEGAL | ffxsr) != 0 {
                    return Err(MsrRefusal::Invalid);
                }
                self.arch.efer = value;
                self.refresh_control();
            }
            _ if is_mc_ctl2(index) && value != 0 && !self.has_cmci() => {
                return Err(MsrRefusal::Invalid);
            }
            msr::IA32_MISC_ENABLE if self.is_mwait_without_sse3(value) => {
                return Err(MsrRefusal::Invalid);
            }
            _ => return self.msr_store.write(&self.features, index, value, origin),
        }
        Ok(())
    }

    /// A guest sees an MSR of a feature only with the feature.
    fn check_announced(&self, index: u32, origin: Origin) -> Result<(), MsrRefusal> {
        let has = |bits: &[_]| bits.iter().any(|&bit| self.features.has(bit));
        let exists = match index {
            msr::IA32_TSC_ADJUST => has(&[cpuid_bit::TSC_ADJUST]),
            msr::TSC_AUX => has(&[cpuid_bit::RDTSCP, cpuid_bit::RDPID]),
            msr::IA32_XSS => has(&[cpuid_bit::XSAVES]),
            // As in KVM not even in system management mode.
            msr::IA32_SMBASE => false,
            _ if is_mc_ctl2(index) => self.has_cmci(),
            _ => true,
        };
        if exists || origin == Origin::Host { Ok(()) } else { Err(MsrRefusal::Unknown) }
    }

    /// Machine-check banks can raise corrected-error interrupts.
    fn has_cmci(&self) -> bool {
        let capabilities = self.msr_store.read(&self.features, msr::IA32_MCG_CAP, Origin::Host);
        capabilities.is_ok_and(|value| value & msr::MCG_CMCI_P != 0)
    }

    /// CPUID outside ring 0 raises #GP, as the guest has asked for.
    pub(super) fn cpuid_faults(&self) -> bool {
        let enabled = self
            .msr_store
            .read(&self.features, msr::MISC_FEATURES_ENABLES, Origin::Guest)
            .is_ok_and(|value| value & 1 != 0);
        self.arch.cpl != 0 && enabled
    }

    /// An MSR that is storage, with the rule for its values.
    fn plain_msr(&mut self, index: u32) -> Option<(&mut u64, ValueRule)> {
        let any: ValueRule = |_| true;
        let canonical: ValueRule = if self.features.has(cpuid_bit::LA57) {
            |value| is_canonical(value, true)
        } else {
            |value| is_canonical(value, false)
        };
        let narrow: ValueRule = |value| value >> 32 == 0;
        let msrs = &mut self.arch.msrs;
        Some(match index {
            msr::IA32_APIC_BASE => (&mut msrs.apic_base, |value| value & !APIC_BASE_LEGAL == 0),
            msr::IA32_SYSENTER_CS => (&mut msrs.sysenter_cs, any),
            msr::IA32_SYSENTER_ESP => (&mut msrs.sysenter_esp, canonical),
            msr::IA32_SYSENTER_EIP => (&mut msrs.sysenter_eip, canonical),
            msr::IA32_PAT => (&mut msrs.pat, rules::is_pat),
            msr::STAR => (&mut msrs.star, any),
            msr::LSTAR => (&mut msrs.lstar, canonical),
            msr::CSTAR => (&mut msrs.cstar, canonical),
            msr::SFMASK => (&mut msrs.sfmask, narrow),
            msr::KERNEL_GS_BASE => (&mut msrs.kernel_gs_base, canonical),
            msr::IA32_SMBASE => (&mut msrs.smbase, any),
            msr::TSC_AUX => (&mut msrs.tsc_aux, narrow),
            // No supervisor component exists here.
            msr::IA32_XSS => (&mut msrs.xss, |value| value == 0),
            _ => return None,
        })
    }

    fn set_base(&mut self, reg: SegReg, value: u64) -> Result<(), MsrRefusal> {
        if !self.is_canonical_base(value) {
            return Err(MsrRefusal::Invalid);
        }
        self.arch.seg[reg as usize].base = value;
        Ok(())
    }

    pub(super) fn guest_write_msr(&mut self, index: u32, value: u64) -> Result<(), MsrRefusal> {
        let value = match index {
            msr::EFER => self.guest_efer(value).ok_or(MsrRefusal::Invalid)?,
            _ => value,
        };
        self.write_msr(index, value, Origin::Guest)
    }

    /// WRMSR of EFER: LMA is read-only, LME fixed while paging is on. LME and NXE are bits of
    /// features, as in KVM; the host may set them regardless.
    fn guest_efer(&self, value: u64) -> Option<u64> {
        let paging = self.arch.cr0 & cr0::PG != 0;
        if paging && (value ^ self.arch.efer) & efer::LME != 0 {
            return None;
        }
        let hidden = |bits, feature| value & bits != 0 && !self.features.has(feature);
        if hidden(efer::LME, cpuid_bit::LONG_MODE) || hidden(efer::NXE, cpuid_bit::NX) {
            return None;
        }
        Some((value & !efer::LMA) | (self.arch.efer & efer::LMA))
    }
}

fn is_mc_ctl2(index: u32) -> bool {
    (msr::IA32_MC0_CTL2..msr::IA32_MC0_CTL2 + table::MC_BANKS).contains(&index)
}

fn msr_index(cpu: &Cpu) -> u32 {
    cpu.get(Gpr::Rcx as u8)
}

fn rdmsr(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    let index = msr_index(cpu);
    let found = match cpu.ask_outside(index, None)? {
        Some(value) => Ok(value),
        // KVM says so, too, though the MSR is only unreadable.
        None if cpu.msr_rules.hide(index) => Err(MsrReason::Invalid),
        None => cpu.read_msr(index, Origin::Guest).map_err(MsrReason::from),
    };
    let value = found.or_else(|reason| cpu.refuse_msr(reason, index, None))?;
    cpu.set_edx_eax(value);
    Ok(())
}

fn wrmsr(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    cpu.serialize();
    let value = cpu.edx_eax();
    let index = msr_index(cpu);
    if cpu.ask_outside(index, Some(value))?.is_some() {
        return Ok(());
    }
    let done = cpu.guest_write_msr(index, value).map_err(MsrReason::from);
    done.or_else(|reason| cpu.refuse_msr(reason, index, Some(value)))
}

fn check_tsc(cpu: &Cpu) -> Done {
    if cpu.arch.cr4 & cr4::TSD != 0 && cpu.arch.cpl != 0 { gp(0) } else { Ok(()) }
}

fn rdtsc(cpu: &mut Cpu, _: &Op) -> Done {
    check_tsc(cpu)?;
    let tsc = cpu.tsc();
    cpu.set_edx_eax(tsc);
    Ok(())
}

fn rdtscp(cpu: &mut Cpu, op: &Op) -> Done {
    rdtsc(cpu, op)?;
    cpu.set(Gpr::Rcx as u8, cpu.arch.msrs.tsc_aux as u32);
    Ok(())
}

/// The register is 64 bits wide in 64-bit code.
fn rdpid(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.set(op.dst, cpu.arch.msrs.tsc_aux as u32);
    Ok(())
}
