//! The feature bits that this processor announces.
//!
//! A bit is here only if the feature works. A new feature is one row: in [`INTERPRETED`] if the
//! interpreter does all of it, in [`BY_HOST`] if the host executes its instructions (it is
//! announced then only where the host has it), in [`WITH_COMPONENT`] if it has registers of its own in
//! an XSAVE area. What one vendor alone has is a row of [`AMD_ONLY`]
//! or [`INTEL_ONLY`] besides.

use std::arch::x86_64::__cpuid_count;

use cpu_defs::{CpuidBit, CpuidEntry, CpuidReg, CpuidWord, cpuid_bit as bit};

use cpu_interp::xstate::bit as component;

use super::Personality;

/// Features of the interpreter.
const INTERPRETED: &[CpuidBit] = &[
    bit::VME,
    bit::DE,
    bit::PSE,
    bit::TSC,
    bit::MSR,
    bit::PAE,
    bit::CX8,
    bit::APIC,
    bit::SEP,
    bit::PGE,
    bit::CMOV,
    bit::PAT,
    bit::PSE36,
    bit::MCE,
    bit::MCA,
    bit::MTRR,
    bit::TSC_ADJUST,
    bit::SPEC_CTRL,
    bit::STIBP,
    bit::SSBD,
    bit::ARCH_CAPABILITIES,
    bit::IBPB,
    bit::IBRS,
    bit::AMD_STIBP,
    bit::AMD_SSBD,
    bit::SSB_NO,
    bit::CLFSH,
    bit::X2APIC,
    bit::MOVBE,
    bit::POPCNT,
    bit::FSGSBASE,
    bit::BMI1,
    bit::BMI2,
    bit::ERMS,
    bit::ADX,
    bit::CLFLUSHOPT,
    bit::CLWB,
    bit::RDPID,
    bit::FSRM,
    bit::SERIALIZE,
    bit::LZCNT,
    bit::PREFETCHW,
    bit::CLZERO,
    bit::WBNOINVD,
    bit::FXSR,
    bit::FFXSR,
    bit::XSAVE_ERPTR,
    bit::FDP_EXCPTN_ONLY,
    bit::ZERO_FCS_FDS,
    bit::SMEP,
    bit::INVPCID,
    bit::SMAP,
    bit::UMIP,
    bit::LA57,
    bit::CMPXCHG16B,
    bit::XSAVE,
    bit::XSAVEOPT,
    bit::XSAVEC,
    bit::XGETBV_ECX1,
    bit::XSAVES,
    bit::PCID,
    bit::HYPERVISOR,
    bit::SYSCALL,
    bit::NX,
    bit::PAGE_1GB,
    bit::RDTSCP,
    bit::LONG_MODE,
    bit::LAHF_SAHF,
    bit::INVARIANT_TSC,
    bit::ALT_MOV_CR8,
    bit::TOPOLOGY_EXTENSIONS,
    bit::ARAT,
    bit::NO_NESTED_DATA_BP,
    bit::LFENCE_SERIALIZING,
    bit::NULL_SELECTOR_CLEARS_BASE,
    bit::NO_SMM_CTL,
];

/// Features that AMD's processors alone have.
const AMD_ONLY: &[CpuidBit] = &[
    bit::FFXSR,
    bit::XSAVE_ERPTR,
    bit::ALT_MOV_CR8,
    bit::SSE4A,
    bit::TOPOLOGY_EXTENSIONS,
    bit::MMXEXT,
    bit::CLZERO,
    bit::IBPB,
    bit::IBRS,
    bit::AMD_STIBP,
    bit::AMD_SSBD,
    bit::SSB_NO,
    bit::NO_NESTED_DATA_BP,
    bit::LFENCE_SERIALIZING,
    bit::NULL_SELECTOR_CLEARS_BASE,
    bit::NO_SMM_CTL,
];

/// Features that Intel's processors alone have.
const INTEL_ONLY: &[CpuidBit] = &[
    bit::SERIALIZE,
    bit::SPEC_CTRL,
    bit::STIBP,
    bit::SSBD,
    bit::ARCH_CAPABILITIES,
    bit::FDP_EXCPTN_ONLY,
    bit::ZERO_FCS_FDS,
];

/// Features of instructions that the host executes on the guest's registers.
const BY_HOST: &[CpuidBit] = &[
    bit::RDRAND,
    bit::RDSEED,
    bit::FPU,
    bit::MMX,
    bit::SSE,
    bit::SSE2,
    bit::SSE3,
    bit::SSSE3,
    bit::SSE4_1,
    bit::SSE4_2,
    bit::AES,
    bit::PCLMULQDQ,
    bit::AVX,
    bit::FMA,
    bit::F16C,
    bit::AVX2,
    bit::SHA,
    bit::GFNI,
    bit::VAES,
    bit::VPCLMULQDQ,
    bit::AVX_VNNI,
    bit::AVX512F,
    bit::AVX512DQ,
    bit::AVX512_IFMA,
    bit::AVX512CD,
    bit::AVX512BW,
    bit::AVX512VL,
    bit::AVX512_VBMI,
    bit::AVX512_VBMI2,
    bit::AVX512_VNNI,
    bit::AVX512_BITALG,
    bit::AVX512_VPOPCNTDQ,
    bit::AVX512_BF16,
    bit::AVX512_VP2INTERSECT,
    bit::SSE4A,
    bit::MMXEXT,
];

/// Features with registers in an XSAVE area that clients look for on the host: a component that is
/// not there has no place in the areas of their guests.
const WITH_COMPONENT: &[(CpuidBit, u64)] = &[(bit::PKU, component::PKRU)];

/// The components of [`WITH_COMPONENT`] that are not announced.
pub(super) fn missing_components() -> u64 {
    let missing = WITH_COMPONENT.iter().filter(|&&feature| !host_has(feature));
    missing.fold(0, |all, &(_, component)| all | component)
}

fn host_has((feature, component): (CpuidBit, u64)) -> bool {
    let [eax, _, _, edx] = host_leaf(super::xsave::LEAF, 0);
    let components = u64::from(edx) << 32 | u64::from(eax);
    host_word(feature.word) & feature.mask() != 0 && components & component != 0
}

/// Bits of leaf 1 EDX that AMD repeats in leaf 80000001H.
pub(super) const AMD_REPEATED: u32 = 0x0183_F3FF;

/// The bits of one word that a personality announces.
pub(super) fn word(word: CpuidWord, personality: Personality) -> u32 {
    let of = |bits: &[CpuidBit]| {
        let here = bits.iter().filter(|bit| bit.word == word);
        here.fold(0, |all, bit| all | bit.mask())
    };
    let foreign = match personality {
        Personality::Intel => of(AMD_ONLY),
        Personality::Amd => of(INTEL_ONLY),
    };
    let with_component = WITH_COMPONENT.iter().filter(|&&feature| host_has(feature));
    let with_component: Vec<_> = with_component.map(|&(feature, _)| feature).collect();
    let own = of(INTERPRETED) | of(&with_component);
    (own | (of(BY_HOST) & host_word(word))) & !foreign
}

/// The word as the host shows it.
fn host_word(word: CpuidWord) -> u32 {
    let (function, index, reg) = word.position();
    let [eax, ebx, ecx, edx] = host_leaf(function, index);
    reg.of(&CpuidEntry { eax, ebx, ecx, edx, ..CpuidEntry::default() })
}

/// A leaf of the host, zeros beyond its last one: EAX, EBX, ECX, EDX.
fn host_leaf(function: u32, index: u32) -> [u32; 4] {
    if function > __cpuid_count(function & 0x8000_0000, 0).eax {
        return [0; 4];
    }
    let leaf = __cpuid_count(function, index);
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}

/// Adds the announced bits to an entry.
pub(super) fn announce(entry: &mut CpuidEntry, personality: Personality) {
    for &of in CpuidWord::ALL {
        let (function, index, reg) = of.position();
        if (function, index) != (entry.function, entry.index) {
            continue;
        }
        match reg {
            CpuidReg::Eax => entry.eax |= word(of, personality),
            CpuidReg::Ebx => entry.ebx |= word(of, personality),
            CpuidReg::Ecx => entry.ecx |= word(of, personality),
            CpuidReg::Edx => entry.edx |= word(of, personality),
        }
    }
}
