//! Refusals of the host-side interface.

use std::fmt;

use cpu_defs::Reg;

/// A register value that the register cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegError {
    /// The register.
    pub reg: Reg,
    /// The refused value.
    pub value: u64,
}

impl fmt::Display for RegError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot hold {:#x}", self.reg, self.value)
    }
}

impl std::error::Error for RegError {}

/// Why an MSR access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrError {
    /// The processor has no such MSR.
    Unknown(u32),
    /// The value sets reserved bits, is not canonical, or has an illegal encoding.
    Invalid(u32, u64),
}

impl fmt::Display for MsrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MsrError::Unknown(index) => write!(f, "no MSR {index:#x}"),
            MsrError::Invalid(index, value) => write!(f, "MSR {index:#x} cannot hold {value:#x}"),
        }
    }
}

impl std::error::Error for MsrError {}

/// An interrupt is already queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an interrupt is already queued")
    }
}

impl std::error::Error for QueueFull {}

/// The state breaks a consistency rule of APM volume 2, "Canonicalization and Consistency Checks".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFailure {
    /// CR0.NW without CR0.CD.
    Cr0NwWithoutCd,
    /// CR0 bits 63:32 or other reserved bits.
    Cr0Reserved,
    /// CR0.PG without CR0.PE.
    PagingWithoutProtection,
    /// CR3 reserved bits.
    Cr3Reserved,
    /// CR4 reserved bits.
    Cr4Reserved,
    /// EFER reserved bits.
    EferReserved,
    /// DR6 or DR7 bits 63:32.
    DebugReserved,
    /// EFER.LME and CR0.PG without CR4.PAE.
    LongModeWithoutPae,
    /// EFER.LMA that is not EFER.LME and CR0.PG.
    LmaInconsistent,
    /// Long mode with CS.L and CS.D.
    CsLongAndDefault,
}

impl fmt::Display for EntryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inconsistent state: {self:?}")
    }
}

impl std::error::Error for EntryFailure {}
