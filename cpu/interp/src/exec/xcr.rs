//! XGETBV, XSETBV, and what CPUID shows of control registers and MSRs as they are now.
//!
//! SDM volume 2, "XGETBV", "XSETBV", "CPUID".

use cpu_defs::msr::{APIC_BASE_ENABLE, IA32_MISC_ENABLE};
use cpu_defs::{CpuidBit, Gpr, cpuid_bit as bit, cr4, find_cpuid};
use iced_x86::{Instruction, Mnemonic};

use super::msr::Origin;
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp, ud};
use crate::xstate::{compacted_len, is_xcr0, standard_len};

/// In IA32_MISC_ENABLE.
const MISC_ENABLE_MWAIT: u64 = 1 << 18;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Xgetbv => xgetbv,
        Mnemonic::Xsetbv => xsetbv,
        _ => return None,
    })
}

/// #UD where the operating system has not enabled XSAVE.
pub(super) fn check_osxsave(cpu: &Cpu) -> Done {
    if cpu.arch.cr4 & cr4::OSXSAVE == 0 { ud() } else { Ok(()) }
}

fn xgetbv(cpu: &mut Cpu, _: &Op) -> Done {
    check_osxsave(cpu)?;
    let value = match cpu.get::<u32>(Gpr::Rcx as u8) {
        0 => cpu.arch.xcr0,
        1 if cpu.features.has(bit::XGETBV_ECX1) => cpu.arch.xcr0 & cpu.xinuse_with_mxcsr(),
        _ => return gp(0),
    };
    cpu.set_edx_eax(value);
    Ok(())
}

fn xsetbv(cpu: &mut Cpu, _: &Op) -> Done {
    check_osxsave(cpu)?;
    let value = cpu.edx_eax();
    let legal = cpu.arch.cpl == 0
        && cpu.get::<u32>(Gpr::Rcx as u8) == 0
        && is_xcr0(value, cpu.features.xcr0);
    if !legal {
        return gp(0);
    }
    cpu.arch.xcr0 = value;
    Ok(())
}

impl Cpu {
    /// Whether IA32_MISC_ENABLE has them.
    fn enables_mwait(&self) -> bool {
        let value = self.msr_store.read(&self.features, IA32_MISC_ENABLE, Origin::Host);
        value.is_ok_and(|value| value & MISC_ENABLE_MWAIT != 0)
    }

    /// Whether a value of IA32_MISC_ENABLE would announce MONITOR and MWAIT, or no longer, without
    /// SSE3, which had them first.
    pub(super) fn is_mwait_without_sse3(&self, value: u64) -> bool {
        let changes = self.enables_mwait() != (value & MISC_ENABLE_MWAIT != 0);
        !self.quirks.mwait_by_table && changes && !self.features.has(bit::SSE3)
    }

    /// Whether MONITOR and MWAIT are executed.
    pub(super) fn has_mwait(&self) -> bool {
        self.quirks.mwait_never_undefined
            || if self.quirks.mwait_by_table {
                self.features.has(bit::MONITOR)
            } else {
                self.enables_mwait()
            }
    }
}

/// CPUID: EAX, EBX, ECX and EDX of the table, with what follows CR4, XCR0 and MSRs as they are.
pub(super) fn live_cpuid(cpu: &Cpu, function: u32, index: u32) -> [u32; 4] {
    let Some(entry) = find_cpuid(&cpu.cpuid, function, index) else {
        return [0; 4];
    };
    let (mut ebx, mut ecx, mut edx) = (entry.ebx, entry.ecx, entry.edx);
    let follow = |word: u32, shown: CpuidBit, has: CpuidBit, control: u64| {
        let set = word & has.mask() != 0 && cpu.arch.cr4 & control != 0;
        (word & !shown.mask()) | if set { shown.mask() } else { 0 }
    };
    match (function, index) {
        (1, _) => {
            let enabled = cpu.arch.msrs.apic_base & APIC_BASE_ENABLE != 0;
            edx = (edx & !bit::APIC.mask()) | if enabled { bit::APIC.mask() } else { 0 };
            ecx = follow(ecx, bit::OSXSAVE, bit::XSAVE, cr4::OSXSAVE);
            if !cpu.quirks.mwait_by_table {
                let shown = if cpu.enables_mwait() { bit::MONITOR.mask() } else { 0 };
                ecx = (ecx & !bit::MONITOR.mask()) | shown;
            }
        }
        (0x8000_0007, _) if cpu.withheld.hides_invariant_tsc() => {
            edx &= !bit::INVARIANT_TSC.mask();
        }
        (7, 0) => ecx = follow(ecx, bit::OSPKE, bit::PKU, cr4::PKE),
        (0xD, 0) => ebx = standard_len(cpu.arch.xcr0) as u32,
        (0xD, 1) if entry.eax & (bit::XSAVEC.mask() | bit::XSAVES.mask()) != 0 => {
            ebx = compacted_len(cpu.arch.xcr0 | cpu.arch.msrs.xss) as u32;
        }
        _ => {}
    }
    [entry.eax, ebx, ecx, edx]
}
