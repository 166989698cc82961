//! The state that XSAVE manages: its components, their places in an XSAVE area, their conversion.
//!
//! SDM volume 1, "Managing State Using the XSAVE Feature Set". Components are laid out as on the
//! host, so that areas can be exchanged with it.

mod area;
mod components;
mod exchange;
mod layout;

pub(crate) use area::{Area, COMPACTED, Image, MXCSR_RANGE};
pub use area::{HEADER, HEADER_LEN};
pub(crate) use components::{Form, numbers};
pub use exchange::XsaveError;
pub use layout::{MAX_LEN, compacted_len, component, standard_len};

/// Components by their bit in XCR0.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod bit {
    pub const X87: u64 = 1 << 0;
    pub const SSE: u64 = 1 << 1;
    pub const AVX: u64 = 1 << 2;
    pub const OPMASK: u64 = 1 << 5;
    pub const ZMM_HI256: u64 = 1 << 6;
    pub const HI16_ZMM: u64 = 1 << 7;
    pub const PKRU: u64 = 1 << 9;
    /// The three of AVX-512.
    pub const AVX512: u64 = OPMASK | ZMM_HI256 | HI16_ZMM;
}

/// Components that this processor has, given what the host's processor executes.
#[must_use]
pub fn supported() -> u64 {
    let avx = if is_x86_feature_detected!("avx") { bit::AVX } else { 0 };
    let avx512 = if is_x86_feature_detected!("avx512f") { bit::AVX512 } else { 0 };
    bit::X87 | bit::SSE | avx | avx512 | bit::PKRU
}

/// Whether XCR0 can hold a value on a processor with the components `supported` (SDM volume 2,
/// "XSETBV").
#[must_use]
pub fn is_xcr0(value: u64, supported: u64) -> bool {
    let needs = |what: u64, other: u64| value & what == 0 || value & other == other;
    value & !supported == 0
        && value & bit::X87 != 0
        && needs(bit::AVX, bit::SSE)
        && needs(bit::AVX512, bit::AVX512 | bit::AVX)
}
