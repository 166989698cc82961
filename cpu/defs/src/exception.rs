//! Exceptions (SDM volume 3, "Interrupt and Exception Handling").

/// Vector numbers of the architectural exceptions.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const MC: u8 = 18;
    pub const XM: u8 = 19;
}

/// Bits of the page-fault error code.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod page_fault {
    pub const P: u32 = 1 << 0;
    pub const WR: u32 = 1 << 1;
    pub const US: u32 = 1 << 2;
    pub const RSVD: u32 = 1 << 3;
    pub const ID: u32 = 1 << 4;
    pub const PK: u32 = 1 << 5;
}

/// A fault or trap raised by an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code pushed by those vectors that have one.
    pub error_code: Option<u32>,
    /// What a register takes when the exception is delivered: CR2 with #PF, causes in DR6 with #DB.
    /// None: the register holds it already.
    pub payload: Option<u64>,
}

impl Exception {
    /// An exception without error code.
    #[must_use]
    pub const fn plain(vector: u8) -> Self {
        Exception { vector, error_code: None, payload: None }
    }

    /// An exception with error code.
    #[must_use]
    pub const fn with_code(vector: u8, error_code: u32) -> Self {
        Exception { vector, error_code: Some(error_code), payload: None }
    }

    /// #GP with a selector (or zero) as error code.
    #[must_use]
    pub const fn gp(error_code: u32) -> Self {
        Self::with_code(vector::GP, error_code)
    }

    /// #PF at a linear address.
    #[must_use]
    pub const fn page_fault(error_code: u32, gla: u64) -> Self {
        Exception { payload: Some(gla), ..Self::with_code(vector::PF, error_code) }
    }

    /// #DB for these causes, as bits of DR6.
    #[must_use]
    pub const fn debug(dr6: u64) -> Self {
        Exception { payload: Some(dr6), ..Self::plain(vector::DB) }
    }

    /// #UD.
    #[must_use]
    pub const fn ud() -> Self {
        Self::plain(vector::UD)
    }
}
