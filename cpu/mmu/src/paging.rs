//! The registers that govern paging, decoded ("Paging Modes and Control Bits").

use crate::Pdptes;

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_LA57: u64 = 1 << 12;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const CR4_PKE: u64 = 1 << 22;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// Bits of CR3 that say where the paging structures begin.
pub const ROOT: u64 = 0x000f_ffff_ffff_f000;

/// The registers as the guest wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlRegisters {
    /// CR0; PG and WP are read.
    pub cr0: u64,
    /// CR3: the address of the first paging structure, and the process-context identifier.
    pub cr3: u64,
    /// CR4; PSE, PAE, PGE, LA57, PCIDE, SMEP, SMAP and PKE are read.
    pub cr4: u64,
    /// EFER; LMA and NXE are read.
    pub efer: u64,
    /// PKRU: two bits for each protection key.
    pub pkru: u32,
}

/// How linear addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// CR0.PG clear: the linear address is the physical one.
    Off,
    /// Two levels of 32-bit entries.
    Legacy,
    /// The four PDPTE registers, then two levels of 64-bit entries.
    Pae,
    /// Four levels, linear addresses of 48 bits.
    Level4,
    /// Five levels, linear addresses of 57 bits.
    Level5,
}

/// What a page walk depends on besides memory. Built anew when one of the registers changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Mode by CR0.PG, CR4.PAE, EFER.LMA and CR4.LA57.
    pub mode: Mode,
    /// CR3.
    pub cr3: u64,
    /// The first level of PAE paging.
    pub pdptes: Pdptes,
    /// MAXPHYADDR of CPUID leaf 80000008H: physical address bits, 32 to 52.
    pub max_phy_addr: u8,
    /// CPUID says that four- and five-level paging has pages of 1 GiB. [`Paging::new`] says so.
    pub page_1g: bool,
    /// CR0.WP: supervisor writes respect R/W.
    pub wp: bool,
    /// CR4.PSE: 32-bit paging has pages of 4 MiB.
    pub pse: bool,
    /// CR4.PGE: the G bit counts.
    pub pge: bool,
    /// CR4.SMEP: supervisor code does not execute user pages.
    pub smep: bool,
    /// CR4.SMAP: supervisor code does not touch user pages, unless EFLAGS.AC is set.
    pub smap: bool,
    /// Rights of the sixteen protection keys of user pages, if CR4.PKE is set in four- or five-level
    /// paging.
    pub pkru: Option<u32>,
    /// The process-context identifier of CR3; 0 unless CR4.PCIDE is set.
    pub pcid: u16,
    /// CR4.PCIDE.
    pub pcide: bool,
    /// EFER.NXE, in modes whose entries have an XD bit (else false).
    pub nxe: bool,
}

impl Paging {
    /// Decodes the registers; they are taken as consistent (LMA only with PG and PAE).
    ///
    /// `max_phy_addr` is in bits, 32 to 52.
    pub fn new(registers: &ControlRegisters, max_phy_addr: u8, pdptes: Pdptes) -> Self {
        let ControlRegisters { cr0, cr3, cr4, efer, pkru } = *registers;
        let mode = if cr0 & CR0_PG == 0 {
            Mode::Off
        } else if cr4 & CR4_PAE == 0 {
            Mode::Legacy
        } else if efer & EFER_LMA == 0 {
            Mode::Pae
        } else if cr4 & CR4_LA57 == 0 {
            Mode::Level4
        } else {
            Mode::Level5
        };
        Self {
            mode,
            cr3,
            pdptes,
            max_phy_addr,
            page_1g: true,
            wp: cr0 & CR0_WP != 0,
            pse: cr4 & CR4_PSE != 0,
            pge: cr4 & CR4_PGE != 0,
            smep: cr4 & CR4_SMEP != 0,
            smap: cr4 & CR4_SMAP != 0,
            pkru: (matches!(mode, Mode::Level4 | Mode::Level5) && cr4 & CR4_PKE != 0)
                .then_some(pkru),
            pcid: if cr4 & CR4_PCIDE != 0 { cr3 as u16 & 0xfff } else { 0 },
            pcide: cr4 & CR4_PCIDE != 0,
            nxe: cr4 & CR4_PAE != 0 && efer & EFER_NXE != 0,
        }
    }
}

/// Whether bits 63:47 (63:56 with `la57`) of a linear address are all equal.
#[inline]
pub const fn is_canonical(gla: u64, la57: bool) -> bool {
    let unused = if la57 { 64 - 57 } else { 64 - 48 };
    ((gla << unused) as i64 >> unused) as u64 == gla
}
