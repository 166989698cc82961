//! Whether the state may be entered: APM volume 2, "Canonicalization and Consistency Checks".

use cpu_defs::{SegReg, attrib, cr0, cr4, efer};

use crate::{EntryFailure, Vcpu};

/// Bits of CR4 that no processor defines.
const CR4_UNDEFINED: u64 = !0x1FF_FFFF;
/// Bits of EFER that are defined, SVME and FFXSR included.
const EFER_DEFINED: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE | efer::SVME | efer::FFXSR;

/// Registers that must fit together.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct Controls {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// The attributes of CS.
    pub cs: u16,
}

impl Vcpu {
    /// Checks the state before a run.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_entry(&self) -> Result<(), EntryFailure> {
        let arch = &self.cpu().arch;
        if arch.dr6 >> 32 != 0 || arch.dr7 >> 32 != 0 {
            return Err(EntryFailure::DebugReserved);
        }
        self.check_controls(&Controls {
            cr0: arch.cr0,
            cr3: arch.cr3,
            cr4: arch.cr4,
            efer: arch.efer,
            cs: arch.segment(SegReg::Cs).attrib,
        })
    }

    /// Checks whether such a processor can have these registers.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_controls(&self, arch: &Controls) -> Result<(), EntryFailure> {
        let has = |value: u64, bit: u64| value & bit != 0;
        let long = has(arch.efer, efer::LME) && has(arch.cr0, cr0::PG);
        let both = attrib::L | attrib::DB;
        let max_phy_addr = self.cpu().features.max_phy_addr;
        let rules = [
            (has(arch.cr0, cr0::NW) && !has(arch.cr0, cr0::CD), EntryFailure::Cr0NwWithoutCd),
            (arch.cr0 >> 32 != 0, EntryFailure::Cr0Reserved),
            (
                has(arch.cr0, cr0::PG) && !has(arch.cr0, cr0::PE),
                EntryFailure::PagingWithoutProtection,
            ),
            (long && arch.cr3 >> max_phy_addr != 0, EntryFailure::Cr3Reserved),
            (has(arch.cr4, CR4_UNDEFINED), EntryFailure::Cr4Reserved),
            (has(arch.efer, !EFER_DEFINED), EntryFailure::EferReserved),
            (long && !has(arch.cr4, cr4::PAE), EntryFailure::LongModeWithoutPae),
            (has(arch.efer, efer::LMA) != long, EntryFailure::LmaInconsistent),
            (long && arch.cs & both == both, EntryFailure::CsLongAndDefault),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, failure)) => Err(failure),
            None => Ok(()),
        }
    }
}
