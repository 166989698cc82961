//! RDMSR, WRMSR, RDTSC, RDTSCP, RDPID, RDPMC, and the MSRs.

use cpu_defs::{Gpr, SegReg, cpuid_bit, cr0, cr4, efer, msr};
use cpu_mmu::is_canonical;
use iced_x86::{Instruction, Mnemonic};

use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp};

/// Every MSR of the processor.
pub const MSRS: &[u32] = &[
    msr::IA32_TSC,
    msr::IA32_APIC_BASE,
    msr::IA32_BIOS_SIGN_ID,
    msr::IA32_SYSENTER_CS,
    msr::IA32_SYSENTER_ESP,
    msr::IA32_SYSENTER_EIP,
    msr::IA32_MISC_ENABLE,
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
];

/// Bits of EFER that can be set.
const EFER_LEGAL: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;
/// Bits of IA32_APIC_BASE that can be set: base below 2^45, enable, bootstrap processor.
const APIC_BASE_LEGAL: u64 = 0x1FFF_FFFF_F900;

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

    /// Reads an MSR.
    ///
    /// # Errors
    /// [`MsrRefusal::Unknown`].
    pub fn read_msr(&self, index: u32) -> Result<u64, MsrRefusal> {
        let msrs = &self.arch.msrs;
        Ok(match index {
            msr::IA32_TSC => self.tsc(),
            msr::IA32_APIC_BASE => msrs.apic_base,
            msr::IA32_BIOS_SIGN_ID => msrs.bios_sign_id,
            msr::IA32_SYSENTER_CS => msrs.sysenter_cs,
            msr::IA32_SYSENTER_ESP => msrs.sysenter_esp,
            msr::IA32_SYSENTER_EIP => msrs.sysenter_eip,
            msr::IA32_MISC_ENABLE => msrs.misc_enable,
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
            _ => return Err(MsrRefusal::Unknown),
        })
    }

    /// Writes an MSR with the checks that WRMSR and the host share.
    ///
    /// # Errors
    /// [`MsrRefusal`].
    pub fn write_msr(&mut self, index: u32, value: u64) -> Result<(), MsrRefusal> {
        let plain = self.plain_msr(index);
        if let Some((slot, legal)) = plain {
            if !legal(value) {
                return Err(MsrRefusal::Invalid);
            }
            *slot = value;
            return Ok(());
        }
        match index {
            msr::IA32_TSC => self.tsc_offset = value.wrapping_sub(self.clock.now()),
            msr::FS_BASE => self.set_base(SegReg::Fs, value)?,
            msr::GS_BASE => self.set_base(SegReg::Gs, value)?,
            msr::EFER => {
                if value & !EFER_LEGAL != 0 {
                    return Err(MsrRefusal::Invalid);
                }
                self.arch.efer = value;
                self.refresh_control();
            }
            _ => return Err(MsrRefusal::Unknown),
        }
        Ok(())
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
            msr::IA32_BIOS_SIGN_ID => (&mut msrs.bios_sign_id, any),
            msr::IA32_SYSENTER_CS => (&mut msrs.sysenter_cs, any),
            msr::IA32_SYSENTER_ESP => (&mut msrs.sysenter_esp, canonical),
            msr::IA32_SYSENTER_EIP => (&mut msrs.sysenter_eip, canonical),
            msr::IA32_MISC_ENABLE => (&mut msrs.misc_enable, any),
            msr::IA32_PAT => (&mut msrs.pat, is_pat),
            msr::STAR => (&mut msrs.star, any),
            msr::LSTAR => (&mut msrs.lstar, canonical),
            msr::CSTAR => (&mut msrs.cstar, canonical),
            msr::SFMASK => (&mut msrs.sfmask, narrow),
            msr::KERNEL_GS_BASE => (&mut msrs.kernel_gs_base, canonical),
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

    /// WRMSR of EFER: LMA is read-only, LME fixed while paging is on.
    fn guest_efer(&self, value: u64) -> Option<u64> {
        let paging = self.arch.cr0 & cr0::PG != 0;
        if paging && (value ^ self.arch.efer) & efer::LME != 0 {
            return None;
        }
        Some((value & !efer::LMA) | (self.arch.efer & efer::LMA))
    }
}

/// Memory types 0, 1, 4, 5, 6 and 7 in each of eight fields.
fn is_pat(value: u64) -> bool {
    value.to_le_bytes().into_iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

fn msr_index(cpu: &Cpu) -> u32 {
    cpu.get(Gpr::Rcx as u8)
}

fn set_pair(cpu: &mut Cpu, value: u64) {
    cpu.set(Gpr::Rax as u8, value as u32);
    cpu.set(Gpr::Rdx as u8, (value >> 32) as u32);
}

fn rdmsr(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    let Ok(value) = cpu.read_msr(msr_index(cpu)) else {
        return gp(0);
    };
    set_pair(cpu, value);
    Ok(())
}

fn wrmsr(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    let high = u64::from(cpu.get::<u32>(Gpr::Rdx as u8));
    let mut value = high << 32 | u64::from(cpu.get::<u32>(Gpr::Rax as u8));
    let index = msr_index(cpu);
    if index == msr::EFER {
        let Some(allowed) = cpu.guest_efer(value) else {
            return gp(0);
        };
        value = allowed;
    }
    cpu.write_msr(index, value).or_else(|_| gp(0))
}

fn check_tsc(cpu: &Cpu) -> Done {
    if cpu.arch.cr4 & cr4::TSD != 0 && cpu.arch.cpl != 0 { gp(0) } else { Ok(()) }
}

fn rdtsc(cpu: &mut Cpu, _: &Op) -> Done {
    check_tsc(cpu)?;
    let tsc = cpu.tsc();
    set_pair(cpu, tsc);
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
