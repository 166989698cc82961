//! What the host's processor can execute.

use std::arch::x86_64::__cpuid_count;

use iced_x86::CpuidFeature;

/// Whether the host executes instructions of this CPUID feature, with the registers that its
/// operating system saves. False for all that is neither x87 nor vectors.
#[must_use]
pub fn host_has(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    macro_rules! detected {
        ($($feature:ident $name:tt),* $(,)?) => {
            match feature {
                F::FPU | F::FPU287 | F::FPU387 | F::MMX | F::SSE | F::SSE2 => true,
                // Requires more than its own bit says: 512-bit registers.
                $(F::$feature => is_x86_feature_detected!($name),)*
                F::CMOV => true,
                F::AVX512_VP2INTERSECT => leaf7_edx(8) && is_x86_feature_detected!("avx512f"),
                _ => false,
            }
        };
    }
    detected! {
        SSE3 "sse3", SSSE3 "ssse3", SSE4_1 "sse4.1", SSE4_2 "sse4.2", SSE4A "sse4a",
        AES "aes", PCLMULQDQ "pclmulqdq", SHA "sha", GFNI "gfni",
        AVX "avx", AVX2 "avx2", FMA "fma", F16C "f16c", VAES "vaes", VPCLMULQDQ "vpclmulqdq",
        AVX_VNNI "avxvnni", AVX_IFMA "avxifma",
        AVX512F "avx512f", AVX512VL "avx512vl", AVX512DQ "avx512dq", AVX512BW "avx512bw",
        AVX512CD "avx512cd", AVX512_IFMA "avx512ifma", AVX512_VBMI "avx512vbmi",
        AVX512_VBMI2 "avx512vbmi2", AVX512_VNNI "avx512vnni", AVX512_BITALG "avx512bitalg",
        AVX512_VPOPCNTDQ "avx512vpopcntdq", AVX512_BF16 "avx512bf16", AVX512_FP16 "avx512fp16",
    }
}

fn leaf7_edx(bit: u32) -> bool {
    __cpuid_count(7, 0).edx >> bit & 1 != 0
}
