//! Which CPUID bit announces what an instruction needs.
//!
//! The decoder's names of features against the bits of SDM volume 2, "CPUID", and APM volume 3,
//! "Instruction Subsets and CPUID Feature Flags".

use cpu_defs::cpuid_bit as bit;
use iced_x86::CpuidFeature as Needs;

use super::Features;

/// Whether the table announces one of the decoder's features.
pub(super) fn announced(features: &Features, needs: Needs) -> bool {
    let by_bit = match needs {
        // Every x86-64 processor has them. Whether 64-bit code runs is decided by the mode, x87 by
        // CR0.EM. RDPMC exists without performance counters.
        Needs::INTEL8086
        | Needs::INTEL186
        | Needs::INTEL286
        | Needs::INTEL386
        | Needs::INTEL486
        | Needs::SMM
        | Needs::X64
        | Needs::FPU
        | Needs::FPU287
        | Needs::FPU387
        | Needs::CPUID
        | Needs::MULTIBYTENOP
        | Needs::PAUSE
        | Needs::RDPMC => return true,
        // Whether they are #UD is for the moment they are executed: see `Cpu::has_mwait`.
        Needs::MONITOR => return true,
        Needs::PREFETCHW => bit::PREFETCHW,
        Needs::HLE_or_RTM => return features.has(bit::HLE) || features.has(bit::RTM),
        Needs::SKINIT_or_SVM => return features.has(bit::SKINIT) || features.has(bit::SVM),
        Needs::ADX => bit::ADX,
        Needs::AES => bit::AES,
        Needs::AVX => bit::AVX,
        Needs::AVX2 => bit::AVX2,
        Needs::AVX512_4FMAPS => bit::AVX512_4FMAPS,
        Needs::AVX512_4VNNIW => bit::AVX512_4VNNIW,
        Needs::AVX512_BF16 => bit::AVX512_BF16,
        Needs::AVX512_BITALG => bit::AVX512_BITALG,
        Needs::AVX512_IFMA => bit::AVX512_IFMA,
        Needs::AVX512_VBMI => bit::AVX512_VBMI,
        Needs::AVX512_VBMI2 => bit::AVX512_VBMI2,
        Needs::AVX512_VNNI => bit::AVX512_VNNI,
        Needs::AVX512_VP2INTERSECT => bit::AVX512_VP2INTERSECT,
        Needs::AVX512_VPOPCNTDQ => bit::AVX512_VPOPCNTDQ,
        Needs::AVX512BW => bit::AVX512BW,
        Needs::AVX512CD => bit::AVX512CD,
        Needs::AVX512DQ => bit::AVX512DQ,
        Needs::AVX512ER => bit::AVX512ER,
        Needs::AVX512F => bit::AVX512F,
        Needs::AVX512PF => bit::AVX512PF,
        Needs::AVX512VL => bit::AVX512VL,
        Needs::BMI1 => bit::BMI1,
        Needs::BMI2 => bit::BMI2,
        Needs::CET_IBT => bit::CET_IBT,
        Needs::CET_SS => bit::CET_SS,
        Needs::CLDEMOTE => bit::CLDEMOTE,
        Needs::CLFLUSHOPT => bit::CLFLUSHOPT,
        Needs::CLFSH => bit::CLFSH,
        Needs::CLWB => bit::CLWB,
        Needs::CLZERO => bit::CLZERO,
        Needs::CMOV => bit::CMOV,
        Needs::CMPXCHG16B => bit::CMPXCHG16B,
        Needs::CX8 => bit::CX8,
        Needs::D3NOW => bit::D3NOW,
        Needs::D3NOWEXT => bit::D3NOWEXT,
        Needs::ENQCMD => bit::ENQCMD,
        Needs::F16C => bit::F16C,
        Needs::FMA => bit::FMA,
        Needs::FMA4 => bit::FMA4,
        Needs::FSGSBASE => bit::FSGSBASE,
        Needs::FXSR => bit::FXSR,
        Needs::GFNI => bit::GFNI,
        Needs::HLE => bit::HLE,
        Needs::INVPCID => bit::INVPCID,
        Needs::LWP => bit::LWP,
        Needs::LZCNT => bit::LZCNT,
        Needs::MCOMMIT => bit::MCOMMIT,
        Needs::MMX => bit::MMX,
        Needs::MONITORX => bit::MONITORX,
        Needs::MOVBE => bit::MOVBE,
        Needs::MOVDIR64B => bit::MOVDIR64B,
        Needs::MOVDIRI => bit::MOVDIRI,
        Needs::MPX => bit::MPX,
        Needs::MSR => bit::MSR,
        Needs::PCLMULQDQ => bit::PCLMULQDQ,
        Needs::PCOMMIT => bit::PCOMMIT,
        Needs::PCONFIG => bit::PCONFIG,
        Needs::PKU => bit::PKU,
        Needs::POPCNT => bit::POPCNT,
        Needs::PTWRITE => bit::PTWRITE,
        Needs::RDPID => bit::RDPID,
        Needs::RDPRU => bit::RDPRU,
        Needs::RDRAND => bit::RDRAND,
        Needs::RDSEED => bit::RDSEED,
        Needs::RDTSCP => bit::RDTSCP,
        Needs::RTM => bit::RTM,
        Needs::SEP => bit::SEP,
        Needs::SHA => bit::SHA,
        Needs::SKINIT => bit::SKINIT,
        Needs::SMAP => bit::SMAP,
        Needs::SMX => bit::SMX,
        Needs::SSE => bit::SSE,
        Needs::SSE2 => bit::SSE2,
        Needs::SSE3 => bit::SSE3,
        Needs::SSE4_1 => bit::SSE4_1,
        Needs::SSE4_2 => bit::SSE4_2,
        Needs::SSE4A => bit::SSE4A,
        Needs::SSSE3 => bit::SSSE3,
        Needs::SVM => bit::SVM,
        Needs::SEV_ES => bit::SEV_ES,
        Needs::SYSCALL => bit::SYSCALL,
        Needs::TBM => bit::TBM,
        Needs::TSC => bit::TSC,
        Needs::VAES => bit::VAES,
        Needs::VMX => bit::VMX,
        Needs::VPCLMULQDQ => bit::VPCLMULQDQ,
        Needs::WAITPKG => bit::WAITPKG,
        Needs::WBNOINVD => bit::WBNOINVD,
        Needs::XOP => bit::XOP,
        Needs::XSAVE => bit::XSAVE,
        Needs::XSAVEC => bit::XSAVEC,
        Needs::XSAVEOPT => bit::XSAVEOPT,
        Needs::XSAVES => bit::XSAVES,
        Needs::SEV_SNP => bit::SEV_SNP,
        Needs::SERIALIZE => bit::SERIALIZE,
        Needs::TSXLDTRK => bit::TSXLDTRK,
        Needs::INVLPGB => bit::INVLPGB,
        Needs::AMX_BF16 => bit::AMX_BF16,
        Needs::AMX_TILE => bit::AMX_TILE,
        Needs::AMX_INT8 => bit::AMX_INT8,
        Needs::KL => bit::KL,
        Needs::AESKLE => bit::AESKLE,
        Needs::WIDE_KL => bit::WIDE_KL,
        Needs::UINTR => bit::UINTR,
        Needs::HRESET => bit::HRESET,
        Needs::AVX_VNNI => bit::AVX_VNNI,
        Needs::FRED => bit::FRED,
        Needs::LKGS => bit::LKGS,
        Needs::AVX512_FP16 => bit::AVX512_FP16,
        Needs::RMPQUERY => bit::RMPQUERY,
        Needs::RAO_INT => bit::RAO_INT,
        Needs::PREFETCHITI => bit::PREFETCHITI,
        Needs::AMX_FP16 => bit::AMX_FP16,
        Needs::CMPCCXADD => bit::CMPCCXADD,
        Needs::AVX_IFMA => bit::AVX_IFMA,
        Needs::AVX_NE_CONVERT => bit::AVX_NE_CONVERT,
        Needs::AVX_VNNI_INT8 => bit::AVX_VNNI_INT8,
        Needs::MSRLIST => bit::MSRLIST,
        Needs::WRMSRNS => bit::WRMSRNS,
        Needs::AMX_COMPLEX => bit::AMX_COMPLEX,
        Needs::SHA512 => bit::SHA512,
        Needs::SM3 => bit::SM3,
        Needs::SM4 => bit::SM4,
        Needs::TSE => bit::TSE,
        Needs::AVX_VNNI_INT16 => bit::AVX_VNNI_INT16,
        // Of other processors, of modes that do not exist here (SMM, TDX), or announced by MSRs.
        _ => return false,
    };
    features.has(by_bit)
}
