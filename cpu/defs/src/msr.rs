//! Numbers of the model-specific registers that the processor implements.
#![allow(missing_docs, reason = "the names are the manual's")]

pub const IA32_TSC: u32 = 0x10;
pub const IA32_APIC_BASE: u32 = 0x1B;
pub const IA32_BIOS_SIGN_ID: u32 = 0x8B;
pub const IA32_SYSENTER_CS: u32 = 0x174;
pub const IA32_SYSENTER_ESP: u32 = 0x175;
pub const IA32_SYSENTER_EIP: u32 = 0x176;
pub const IA32_MISC_ENABLE: u32 = 0x1A0;
pub const IA32_PAT: u32 = 0x277;
pub const IA32_XSS: u32 = 0xDA0;
pub const EFER: u32 = 0xC000_0080;
pub const STAR: u32 = 0xC000_0081;
pub const LSTAR: u32 = 0xC000_0082;
pub const CSTAR: u32 = 0xC000_0083;
pub const SFMASK: u32 = 0xC000_0084;
pub const FS_BASE: u32 = 0xC000_0100;
pub const GS_BASE: u32 = 0xC000_0101;
pub const KERNEL_GS_BASE: u32 = 0xC000_0102;
pub const TSC_AUX: u32 = 0xC000_0103;

pub const P5_MC_ADDR: u32 = 0x0;
pub const P5_MC_TYPE: u32 = 0x1;
pub const IA32_PLATFORM_ID: u32 = 0x17;
pub const EBL_CR_POWERON: u32 = 0x2A;
pub const EBC_FREQUENCY_ID: u32 = 0x2C;
pub const SMI_COUNT: u32 = 0x34;
pub const IA32_FEAT_CTL: u32 = 0x3A;
pub const IA32_TSC_ADJUST: u32 = 0x3B;
pub const IA32_SPEC_CTRL: u32 = 0x48;
pub const IA32_PRED_CMD: u32 = 0x49;
pub const IA32_UCODE_WRITE: u32 = 0x79;
pub const IA32_SMBASE: u32 = 0x9E;
pub const P6_PERFCTR0: u32 = 0xC1;
pub const FSB_FREQ: u32 = 0xCD;
pub const PLATFORM_INFO: u32 = 0xCE;
pub const IA32_MTRRCAP: u32 = 0xFE;
pub const IA32_ARCH_CAPABILITIES: u32 = 0x10A;
pub const BBL_CR_CTL3: u32 = 0x11E;
pub const MISC_FEATURES_ENABLES: u32 = 0x140;
pub const IA32_MCG_CAP: u32 = 0x179;
pub const IA32_MCG_STATUS: u32 = 0x17A;
pub const IA32_MCG_CTL: u32 = 0x17B;
pub const P6_EVNTSEL0: u32 = 0x186;
pub const IA32_PERF_STATUS: u32 = 0x198;
pub const IA32_PERF_CTL: u32 = 0x199;
pub const IA32_CLOCK_MODULATION: u32 = 0x19A;
pub const IA32_THERM_INTERRUPT: u32 = 0x19B;
pub const IA32_THERM_STATUS: u32 = 0x19C;
pub const IA32_PACKAGE_THERM_STATUS: u32 = 0x1B1;
pub const IA32_PACKAGE_THERM_INTERRUPT: u32 = 0x1B2;
pub const IA32_DEBUGCTL: u32 = 0x1D9;
pub const LASTBRANCHFROMIP: u32 = 0x1DB;
pub const POWER_CTL: u32 = 0x1FC;
pub const IA32_MTRR_PHYSBASE0: u32 = 0x200;
pub const IA32_MTRR_FIX64K_00000: u32 = 0x250;
pub const IA32_MTRR_FIX16K_80000: u32 = 0x258;
pub const IA32_MTRR_FIX4K_C0000: u32 = 0x268;
pub const IA32_MC0_CTL2: u32 = 0x280;
pub const IA32_MTRR_DEF_TYPE: u32 = 0x2FF;
pub const IA32_PERF_CAPABILITIES: u32 = 0x345;
pub const IA32_MC0_CTL: u32 = 0x400;
pub const RAPL_POWER_UNIT: u32 = 0x606;
pub const PKG_ENERGY_STATUS: u32 = 0x611;
pub const DRAM_ENERGY_STATUS: u32 = 0x619;
pub const PP0_ENERGY_STATUS: u32 = 0x639;
pub const PP1_ENERGY_STATUS: u32 = 0x641;
pub const K7_EVNTSEL0: u32 = 0xC001_0000;
pub const K7_PERFCTR0: u32 = 0xC001_0004;
pub const SYSCFG: u32 = 0xC001_0010;
pub const HWCR: u32 = 0xC001_0015;
pub const NB_CFG: u32 = 0xC001_001F;
pub const PATCH_LOADER: u32 = 0xC001_0020;
pub const INT_PENDING: u32 = 0xC001_0055;
pub const MMIO_CONF_BASE: u32 = 0xC001_0058;
pub const SMM_ADDR: u32 = 0xC001_0112;
pub const SMM_MASK: u32 = 0xC001_0113;
pub const DC_CFG: u32 = 0xC001_1022;
pub const TW_CFG: u32 = 0xC001_1023;
pub const DE_CFG: u32 = 0xC001_1029;
pub const BU_CFG2: u32 = 0xC001_102A;

/// IA32_APIC_BASE: bootstrap processor.
pub const APIC_BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: local APIC enabled.
pub const APIC_BASE_ENABLE: u64 = 1 << 11;
/// IA32_APIC_BASE at reset on the bootstrap processor.
pub const APIC_BASE_RESET: u64 = 0xFEE0_0000 | APIC_BASE_BSP | APIC_BASE_ENABLE;
/// IA32_MCG_CAP: corrected machine checks raise interrupts.
pub const MCG_CMCI_P: u64 = 1 << 10;
/// IA32_SMBASE at reset.
pub const SMBASE_RESET: u64 = 0x3_0000;
/// IA32_PAT at reset.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
