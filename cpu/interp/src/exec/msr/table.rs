//! The MSRs that change nothing in the processor: storage, constants, and what is ignored.
//!
//! SDM volume 4, "Model-Specific Registers"; APM volume 2, "MSR Cross-Reference". What they hold
//! and which writes they take is as in KVM, without a performance counter.
//!
//! A new MSR is one row.

use cpu_defs::{CpuidBit, cpuid_bit as bit, msr};

use super::MsrRefusal;
use super::rules::{self, Origin, Rule, Write};
use crate::features::{Features, Vendor};

/// Consecutive MSRs of one kind.
struct Row {
    first: u32,
    count: u32,
    vendor: Option<Vendor>,
    /// For a guest it exists with any of these; with none listed always.
    needs: &'static [CpuidBit],
    /// A client saves and restores it.
    listed: bool,
    kind: Kind,
}

enum Kind {
    /// Always reads so. Writes are refused.
    Constant(u64),
    /// Always reads so. Writes are ignored.
    Ignored(u64),
    /// Cannot be read. Legal writes have no effect.
    Command(Rule),
    /// Holds what was written; the value after power-up, and the bits that are dropped.
    Stored(u64, Rule, u64),
}

use Kind::{Command, Constant, Ignored, Stored};

/// Of both vendors, of one.
const BOTH: Option<Vendor> = None;
const INTEL: Option<Vendor> = Some(Vendor::Intel);
const AMD: Option<Vendor> = Some(Vendor::Amd);

/// Cache-line-flush filter, TLB cache, IGNNE: writes do not stick.
pub(super) const HWCR_DROPPED: u64 = 1 << 3 | 1 << 6 | 1 << 8;
/// Write combining, fixed ranges, eight variable ranges.
const MTRRCAP: u64 = 1 << 10 | 1 << 8 | 8;
/// 32 banks, no common control, no corrected-error interrupts.
const MCG_CAP: u64 = MC_BANKS as u64;
pub(super) const MC_BANKS: u32 = 32;
/// Fast strings; no branch trace, no PEBS.
const MISC_ENABLE: u64 = 0x1801;
/// CPUID faulting works.
const PLATFORM_INFO: u64 = 1 << 31;
/// Not vulnerable: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO,
/// SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO.
const ARCH_CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;
/// Multiplier and voltage that say nothing.
const PERF_STATUS: u64 = 1000 | 4 << 40;
const BBL_CR_CTL3: u64 = 0xBE70_2111;

const fn row(first: u32, count: u32, vendor: Option<Vendor>, kind: Kind) -> Row {
    Row { first, count, vendor, needs: &[], listed: false, kind }
}

const fn listed(first: u32, count: u32, vendor: Option<Vendor>, kind: Kind) -> Row {
    Row { listed: true, ..row(first, count, vendor, kind) }
}

const fn with(needs: &'static [CpuidBit], first: u32, vendor: Option<Vendor>, kind: Kind) -> Row {
    Row { needs, ..listed(first, 1, vendor, kind) }
}

const SPECULATION: &[CpuidBit] =
    &[bit::SPEC_CTRL, bit::STIBP, bit::SSBD, bit::IBRS, bit::AMD_STIBP, bit::AMD_SSBD];

const ROWS: &[Row] = &[
    row(msr::P5_MC_ADDR, 2, BOTH, Constant(0)),
    row(msr::IA32_PLATFORM_ID, 1, BOTH, Constant(0)),
    row(msr::EBL_CR_POWERON, 1, INTEL, Constant(0)),
    row(msr::EBC_FREQUENCY_ID, 1, INTEL, Constant(1 << 24)),
    listed(msr::SMI_COUNT, 1, BOTH, Stored(0, rules::host_only, 0)),
    listed(msr::IA32_FEAT_CTL, 1, INTEL, Stored(0, rules::feat_ctl, 0)),
    with(SPECULATION, msr::IA32_SPEC_CTRL, BOTH, Stored(0, rules::spec_ctrl, 0)),
    Row {
        needs: &[bit::SPEC_CTRL, bit::IBPB],
        ..row(msr::IA32_PRED_CMD, 1, BOTH, Command(rules::pred_cmd))
    },
    row(msr::IA32_UCODE_WRITE, 1, BOTH, Ignored(0)),
    row(msr::P6_PERFCTR0, 2, BOTH, Ignored(0)),
    row(msr::FSB_FREQ, 1, INTEL, Constant(3)),
    listed(msr::PLATFORM_INFO, 1, BOTH, Stored(PLATFORM_INFO, rules::host_only, 0)),
    row(msr::IA32_MTRRCAP, 1, BOTH, Constant(MTRRCAP)),
    with(
        &[bit::ARCH_CAPABILITIES],
        msr::IA32_ARCH_CAPABILITIES,
        BOTH,
        Stored(ARCH_CAPABILITIES, rules::host_only, 0),
    ),
    row(msr::BBL_CR_CTL3, 1, INTEL, Constant(BBL_CR_CTL3)),
    listed(msr::MISC_FEATURES_ENABLES, 1, BOTH, Stored(0, rules::misc_features, 0)),
    row(msr::IA32_MCG_CAP, 1, BOTH, Stored(MCG_CAP, rules::host_only, 0)),
    listed(msr::IA32_MCG_STATUS, 1, BOTH, Stored(0, rules::any, 0)),
    row(msr::IA32_MCG_CTL, 1, BOTH, Stored(0, rules::mcg_ctl, 0)),
    row(msr::P6_EVNTSEL0, 2, BOTH, Ignored(0)),
    row(msr::IA32_PERF_STATUS, 1, BOTH, Constant(PERF_STATUS)),
    row(msr::IA32_PERF_CTL, 1, BOTH, Ignored(0)),
    row(msr::IA32_CLOCK_MODULATION, 1, INTEL, Stored(0, rules::any, 0)),
    row(msr::IA32_THERM_INTERRUPT, 1, INTEL, Stored(0, rules::any, 0)),
    row(msr::IA32_THERM_STATUS, 1, INTEL, Ignored(0)),
    listed(msr::IA32_MISC_ENABLE, 1, BOTH, Stored(MISC_ENABLE, rules::misc_enable, 0)),
    row(msr::IA32_PACKAGE_THERM_STATUS, 1, INTEL, Ignored(0)),
    row(msr::IA32_PACKAGE_THERM_INTERRUPT, 1, INTEL, Stored(0, rules::any, 0)),
    row(msr::IA32_DEBUGCTL, 1, BOTH, Stored(0, rules::debugctl, 0)),
    row(msr::LASTBRANCHFROMIP, 4, BOTH, Constant(0)),
    listed(msr::POWER_CTL, 1, BOTH, Stored(0, rules::any, 0)),
    listed(msr::IA32_MTRR_PHYSBASE0, 16, BOTH, Stored(0, rules::mtrr_variable, 0)),
    listed(msr::IA32_MTRR_FIX64K_00000, 1, BOTH, Stored(0, rules::mtrr_fixed, 0)),
    listed(msr::IA32_MTRR_FIX16K_80000, 2, BOTH, Stored(0, rules::mtrr_fixed, 0)),
    listed(msr::IA32_MTRR_FIX4K_C0000, 8, BOTH, Stored(0, rules::mtrr_fixed, 0)),
    row(msr::IA32_MC0_CTL2, MC_BANKS, BOTH, Stored(0, rules::mc_ctl2, 0)),
    listed(msr::IA32_MTRR_DEF_TYPE, 1, BOTH, Stored(0, rules::mtrr_default, 0)),
    Row {
        needs: &[bit::PDCM],
        ..row(msr::IA32_PERF_CAPABILITIES, 1, BOTH, Stored(0, rules::host_zero, 0))
    },
    row(msr::IA32_MC0_CTL, MC_BANKS * 4, BOTH, Stored(0, rules::mc_bank, 0)),
    row(msr::RAPL_POWER_UNIT, 1, BOTH, Constant(0)),
    row(msr::PKG_ENERGY_STATUS, 1, BOTH, Constant(0)),
    row(msr::DRAM_ENERGY_STATUS, 1, BOTH, Constant(0)),
    row(msr::PP0_ENERGY_STATUS, 1, BOTH, Constant(0)),
    row(msr::PP1_ENERGY_STATUS, 1, BOTH, Constant(0)),
    row(msr::K7_EVNTSEL0, 8, AMD, Ignored(0)),
    row(msr::SYSCFG, 1, AMD, Constant(0)),
    listed(msr::HWCR, 1, AMD, Stored(0, rules::hwcr, HWCR_DROPPED)),
    row(msr::NB_CFG, 1, AMD, Ignored(0)),
    row(msr::PATCH_LOADER, 1, AMD, Ignored(0)),
    row(msr::INT_PENDING, 1, AMD, Constant(0)),
    row(msr::MMIO_CONF_BASE, 1, AMD, Stored(0, rules::zero, 0)),
    row(msr::SMM_ADDR, 2, AMD, Constant(0)),
    row(msr::DC_CFG, 2, AMD, Ignored(0)),
    listed(msr::DE_CFG, 1, AMD, Stored(2, rules::de_cfg, 0)),
    row(msr::BU_CFG2, 1, AMD, Ignored(0)),
];

/// The MSRs of the table that a client saves and restores, by vendor.
pub(super) fn saved(vendor: Vendor) -> impl Iterator<Item = u32> {
    ROWS.iter()
        .filter(move |row| row.listed && row.vendor.is_none_or(|only| only == vendor))
        .flat_map(|row| row.first..row.first + row.count)
}

/// The values of the table's storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrStore {
    /// In the order of the rows; those that store nothing have a place, too.
    values: Box<[u64]>,
}

impl Default for MsrStore {
    fn default() -> Self {
        let reset = |row: &Row| match row.kind {
            Stored(reset, ..) => reset,
            _ => 0,
        };
        let values = ROWS.iter().flat_map(|row| vec![reset(row); row.count as usize]).collect();
        MsrStore { values }
    }
}

/// The row of an MSR and the number of its value, where it exists for `origin`.
fn find(features: &Features, index: u32, origin: Origin) -> Option<(&'static Row, usize)> {
    let mut before = 0;
    for row in ROWS {
        if let Some(offset) = index.checked_sub(row.first).filter(|offset| *offset < row.count) {
            let vendor = row.vendor.is_none_or(|only| features.is_of(only));
            let announced = row.needs.is_empty() || row.needs.iter().any(|&bit| features.has(bit));
            let exists = origin == Origin::Host || (vendor && announced);
            return exists.then_some((row, before + offset as usize));
        }
        before += row.count as usize;
    }
    None
}

impl MsrStore {
    /// Reads an MSR of the table.
    pub(in crate::exec) fn read(
        &self,
        features: &Features,
        index: u32,
        origin: Origin,
    ) -> Result<u64, MsrRefusal> {
        let (row, place) = find(features, index, origin).ok_or(MsrRefusal::Unknown)?;
        match row.kind {
            Constant(value) | Ignored(value) => Ok(value),
            Stored(..) => Ok(self.values.get(place).copied().unwrap_or(0)),
            Command(_) => Err(MsrRefusal::Unknown),
        }
    }

    /// Writes an MSR of the table.
    pub(super) fn write(
        &mut self,
        features: &Features,
        index: u32,
        value: u64,
        origin: Origin,
    ) -> Result<(), MsrRefusal> {
        let (row, place) = find(features, index, origin).ok_or(MsrRefusal::Unknown)?;
        let slot = self.values.get_mut(place).ok_or(MsrRefusal::Unknown)?;
        let write = Write { features, index, value, old: *slot, origin };
        let (legal, stored) = match row.kind {
            Constant(_) => (false, *slot),
            Ignored(_) => (true, *slot),
            Command(rule) => (rule(write), *slot),
            Stored(_, rule, dropped) => (rule(write), value & !dropped),
        };
        if !legal {
            return Err(MsrRefusal::Invalid);
        }
        *slot = stored;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_msr_is_in_two_rows() {
        let mut all: Vec<u32> =
            ROWS.iter().flat_map(|row| row.first..row.first + row.count).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
