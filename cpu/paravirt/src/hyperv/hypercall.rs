//! Hypercalls: the input word, the result, codes, statuses, and what announces each.
//!
//! TLFS, "Hypercall Interface" and "Hypercall Status Codes".

use super::cpuid::{Announced, privilege, recommend};

/// Flushes translations of processors, all or of one address space.
pub const FLUSH_VIRTUAL_ADDRESS_SPACE: u16 = 0x02;
/// The same for a list of pages.
pub const FLUSH_VIRTUAL_ADDRESS_LIST: u16 = 0x03;
/// A spin lock is not to be had.
pub const NOTIFY_LONG_SPIN_WAIT: u16 = 0x08;
/// Sends an interrupt to processors.
pub const SEND_IPI: u16 = 0x0B;
/// As [`FLUSH_VIRTUAL_ADDRESS_SPACE`], for a set of processors.
pub const FLUSH_VIRTUAL_ADDRESS_SPACE_EX: u16 = 0x13;
/// As [`FLUSH_VIRTUAL_ADDRESS_LIST`], for a set of processors.
pub const FLUSH_VIRTUAL_ADDRESS_LIST_EX: u16 = 0x14;
/// As [`SEND_IPI`], for a set of processors.
pub const SEND_IPI_EX: u16 = 0x15;
/// Tells the number of the guest's partition.
pub const GET_PARTITION_ID: u16 = 0x46;
/// Tells registers of a processor.
pub const GET_VP_REGISTERS: u16 = 0x50;
/// Sets them.
pub const SET_VP_REGISTERS: u16 = 0x51;
/// Sends a message to another partition.
pub const POST_MESSAGE: u16 = 0x5C;
/// Signals an event to another partition.
pub const SIGNAL_EVENT: u16 = 0x5D;
/// Sends a packet of the debugger's.
pub const POST_DEBUG_DATA: u16 = 0x69;
/// Gets one.
pub const RETRIEVE_DEBUG_DATA: u16 = 0x6A;
/// Drops what was received for the debugger.
pub const RESET_DEBUG_SESSION: u16 = 0x6B;

/// Starts a processor with given registers.
pub const START_VIRTUAL_PROCESSOR: u16 = 0x99;
/// Tells the numbers of processors by the identifiers of their local APICs.
pub const GET_VP_INDEX_FROM_APIC_ID: u16 = 0x9A;

/// The first of the extended hypercalls, which the root answers.
pub const EXTENDED_FIRST: u16 = 0x8001;
/// The last of them.
pub const EXTENDED_LAST: u16 = 0x8041;

/// How a hypercall ended: bits 15:0 of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
#[repr(u16)]
pub enum Status {
    Success = 0,
    InvalidHypercallCode = 2,
    InvalidHypercallInput = 3,
    InvalidAlignment = 4,
    InvalidParameter = 5,
    AccessDenied = 6,
    OperationDenied = 8,
    InvalidPartitionId = 13,
    InvalidVpIndex = 14,
    InvalidPortId = 17,
    InvalidVpState = 0x15,
    InvalidRegisterValue = 0x50,
    InvalidVtlState = 0x51,
}

/// Bits of the input word that mean nothing and must be 0.
const RESERVED: u64 = 0x1F << 27 | 0xF << 44 | 0xF << 60;

/// The input word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input(pub u64);

impl Input {
    /// Which hypercall.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0 as u16
    }

    /// The input is in registers, not in memory.
    #[must_use]
    pub const fn is_fast(self) -> bool {
        self.0 >> 16 & 1 != 0
    }

    /// 8-byte words of the header's variable part.
    #[must_use]
    pub const fn header_words(self) -> usize {
        (self.0 >> 17 & 0x3FF) as usize
    }

    /// Elements of the list.
    #[must_use]
    pub const fn reps(self) -> u16 {
        (self.0 >> 32 & 0xFFF) as u16
    }

    /// The element to begin with.
    #[must_use]
    pub const fn first_rep(self) -> u16 {
        (self.0 >> 48 & 0xFFF) as u16
    }

    /// It is a list.
    #[must_use]
    pub const fn has_reps(self) -> bool {
        self.reps() != 0 || self.first_rep() != 0
    }

    /// A bit is set that must be 0.
    #[must_use]
    pub const fn has_reserved(self) -> bool {
        self.0 & RESERVED != 0
    }

    /// The fast form has more than two words, in XMM registers.
    #[must_use]
    pub const fn may_use_xmm(self) -> bool {
        matches!(
            self.code(),
            FLUSH_VIRTUAL_ADDRESS_SPACE
                | FLUSH_VIRTUAL_ADDRESS_LIST
                | FLUSH_VIRTUAL_ADDRESS_SPACE_EX
                | FLUSH_VIRTUAL_ADDRESS_LIST_EX
                | SEND_IPI_EX
                | GET_VP_REGISTERS
                | SET_VP_REGISTERS
                | GET_VP_INDEX_FROM_APIC_ID
        )
    }

    /// There is output beside the result; of the fast form in registers.
    #[must_use]
    pub const fn has_output(self) -> bool {
        let code = self.code();
        matches!(code, GET_PARTITION_ID | GET_VP_REGISTERS | GET_VP_INDEX_FROM_APIC_ID)
    }

    /// The result of a hypercall that did all its elements, or none.
    #[must_use]
    pub const fn result(self, status: Status) -> u64 {
        let done = if matches!(status, Status::Success) { self.reps() as u64 } else { 0 };
        status as u64 | done << 32
    }

    /// The result of a list of which so many elements are done, those before the first included.
    #[must_use]
    pub const fn result_after(status: Status, done: u16) -> u64 {
        status as u64 | (done as u64) << 32
    }
}

/// Whether CPUID announces a hypercall. Unknown ones are, to be told that they are unknown; so are the
/// debugger's where there is no debugger.
#[must_use]
pub fn is_announced(announced: &Announced, code: u16) -> bool {
    let recommended = |bits| announced.recommended & bits == bits;
    match code {
        NOTIFY_LONG_SPIN_WAIT => !matches!(announced.spin_retries, 0 | u32::MAX),
        GET_PARTITION_ID => announced.privileges & privilege::PARTITION_ID != 0,
        GET_VP_REGISTERS | SET_VP_REGISTERS => announced.privileges & privilege::VP_REGISTERS != 0,
        // No privilege is named for the second one, which serves the first.
        START_VIRTUAL_PROCESSOR | GET_VP_INDEX_FROM_APIC_ID => {
            announced.privileges & privilege::START_VIRTUAL_PROCESSOR != 0
        }
        POST_MESSAGE => announced.privileges & privilege::POST_MESSAGES != 0,
        SIGNAL_EVENT => announced.privileges & privilege::SIGNAL_EVENTS != 0,
        POST_DEBUG_DATA | RETRIEVE_DEBUG_DATA | RESET_DEBUG_SESSION => {
            !announced.has_debugging() || announced.privileges & privilege::DEBUGGING != 0
        }
        EXTENDED_FIRST..=EXTENDED_LAST => {
            announced.privileges & privilege::EXTENDED_HYPERCALLS != 0
        }
        FLUSH_VIRTUAL_ADDRESS_SPACE | FLUSH_VIRTUAL_ADDRESS_LIST => {
            recommended(recommend::REMOTE_TLB_FLUSH)
        }
        FLUSH_VIRTUAL_ADDRESS_SPACE_EX | FLUSH_VIRTUAL_ADDRESS_LIST_EX => {
            recommended(recommend::REMOTE_TLB_FLUSH | recommend::EX_PROCESSOR_MASKS)
        }
        SEND_IPI => recommended(recommend::CLUSTER_IPI),
        SEND_IPI_EX => recommended(recommend::CLUSTER_IPI | recommend::EX_PROCESSOR_MASKS),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_00j_the_input_word_has_its_fields() {
        let input = Input(0x0123_0FED_0000_0003 | 1 << 16 | 0x3FF << 17);
        assert_eq!(input.code(), 3);
        assert!(input.is_fast());
        assert_eq!(input.header_words(), 0x3FF);
        assert_eq!((input.reps(), input.first_rep()), (0xFED, 0x123));
        assert!(!input.has_reserved());
        assert_eq!(input.result(Status::Success), 0xFED << 32);
        assert_eq!(input.result(Status::AccessDenied), 6);
    }

    #[test]
    fn hv_00j_every_other_bit_is_reserved() {
        for bit in 0..64 {
            let field = matches!(bit, 0..=26 | 32..=43 | 48..=59);
            assert_eq!(Input(1 << bit).has_reserved(), !field, "bit {bit}");
        }
    }

    #[test]
    fn hv_24_hypercalls_have_their_bits() {
        let none = Announced::default();
        for code in [0x02, 0x03, 0x08, 0x0B, 0x13, 0x14, 0x15, 0x46, 0x50, 0x51, 0x5C, 0x5D] {
            assert!(!is_announced(&none, code), "{code:#x}");
        }
        for code in [0x99, 0x9A, 0x8001, 0x8041] {
            assert!(!is_announced(&none, code), "{code:#x}");
        }
        assert!(is_announced(&none, 0xBEEF) && is_announced(&none, RESET_DEBUG_SESSION));
        let never = Announced { spin_retries: u32::MAX, ..none };
        assert!(!is_announced(&never, NOTIFY_LONG_SPIN_WAIT));
    }
}
