//! The part of CPUID that changes what instructions do.

use cpu_defs::CpuidEntry;

use crate::control_bits::cr4_bits;

/// Physical address bits when CPUID leaf 80000008H is absent: all that the physical map holds.
const DEFAULT_MAX_PHY_ADDR: u8 = 45;
const LEAF1_EDX_MMX: u32 = 1 << 23;
const LEAF1_EDX_SSE: u32 = 1 << 25;

/// Decoded CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Physical address bits.
    pub max_phy_addr: u8,
    /// SYSCALL works outside 64-bit mode and SYSENTER does not work inside long mode.
    pub amd: bool,
    /// MMX instructions exist. An empty table hides nothing.
    pub mmx: bool,
    /// SSE instructions exist.
    pub sse: bool,
    /// RDTSCP and TSC_AUX exist.
    pub rdtscp: bool,
    /// Bits of CR4 that can be set.
    pub cr4: u64,
}

impl Features {
    /// Of this table.
    #[must_use]
    pub fn of(table: &[CpuidEntry]) -> Self {
        let leaf = |function| table.iter().find(|entry| entry.function == function);
        let edx1 = if table.is_empty() { u32::MAX } else { leaf(1).map_or(0, |entry| entry.edx) };
        let vendor = leaf(0).map(|entry| (entry.ebx, entry.edx, entry.ecx));
        Features {
            max_phy_addr: leaf(0x8000_0008)
                .map_or(DEFAULT_MAX_PHY_ADDR, |entry| entry.eax as u8)
                .clamp(32, 52),
            amd: vendor.is_some_and(|name| name == AUTHENTIC_AMD || name == HYGON_GENUINE),
            mmx: edx1 & LEAF1_EDX_MMX != 0,
            sse: edx1 & LEAF1_EDX_SSE != 0,
            rdtscp: leaf(0x8000_0001).is_some_and(|entry| entry.edx & (1 << 27) != 0),
            cr4: cr4_bits(table),
        }
    }
}

/// EBX, EDX, ECX of leaf 0.
const AUTHENTIC_AMD: (u32, u32, u32) = (0x6874_7541, 0x6974_6E65, 0x444D_4163);
const HYGON_GENUINE: (u32, u32, u32) = (0x6F67_7948, 0x6E65_476E, 0x656E_6975);
