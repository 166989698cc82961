//! Whose processor the guest sees: vendor, signature, brand.
//!
//! A personality decides what is offered. What a vCPU does where the vendors differ follows the
//! vendor in its own CPUID table.

use std::arch::x86_64::__cpuid;

/// The maker of the processor that a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// GenuineIntel.
    Intel,
    /// AuthenticAMD.
    Amd,
}

/// EBX, EDX, ECX of leaf 0.
const GENUINE_INTEL: &[u8; 12] = b"GenuineIntel";
const AUTHENTIC_AMD: &[u8; 12] = b"AuthenticAMD";
const HYGON_GENUINE: &[u8; 12] = b"HygonGenuine";

/// Family, model and stepping where the host is the other vendor's: Sapphire Rapids, Genoa.
const INTEL_SIGNATURE: u32 = 0x0008_06F8;
const AMD_SIGNATURE: u32 = 0x00A1_0F11;

const INTEL_BRAND: &[u8; 48] =
    b"Intel(R) Xeon(R) Processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const AMD_BRAND: &[u8; 48] =
    b"AMD EPYC Processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

impl Personality {
    /// That of the host's vendor; Intel for those that follow it.
    #[must_use]
    pub fn of_host() -> Self {
        let host = host_vendor();
        let amd = host == *AUTHENTIC_AMD || host == *HYGON_GENUINE;
        if amd { Personality::Amd } else { Personality::Intel }
    }

    /// EBX, ECX, EDX of leaves 0 and 80000000H.
    pub(super) fn vendor(self) -> [u32; 3] {
        let name = match self {
            Personality::Intel => GENUINE_INTEL,
            Personality::Amd => AUTHENTIC_AMD,
        };
        let word = |at| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
        [word(0), word(8), word(4)]
    }

    /// Family, model and stepping: the host's where it is of this vendor.
    pub(super) fn signature(self) -> u32 {
        match self {
            Personality::Intel if host_vendor() == *GENUINE_INTEL => __cpuid(1).eax,
            Personality::Amd if host_vendor() == *AUTHENTIC_AMD => __cpuid(1).eax,
            Personality::Intel => INTEL_SIGNATURE,
            Personality::Amd => AMD_SIGNATURE,
        }
    }

    /// The name of the processor, in three leaves of sixteen bytes.
    pub(super) fn brand(self) -> &'static [u8; 48] {
        match self {
            Personality::Intel => INTEL_BRAND,
            Personality::Amd => AMD_BRAND,
        }
    }
}

fn host_vendor() -> [u8; 12] {
    let leaf = __cpuid(0);
    let mut name = [0; 12];
    for (part, word) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    name
}
