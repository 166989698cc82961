//! Feature bits of CPUID by name, and the words (a register of a leaf) they are in.
//!
//! SDM volume 2, "CPUID"; APM volume 3, "Obtaining Processor Information Via the CPUID
//! Instruction". Names are the manuals'; where they disagree, Intel's.

use crate::CpuidEntry;

/// An output register of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum CpuidReg {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl CpuidReg {
    /// The register's value in an entry.
    #[must_use]
    pub fn of(self, entry: &CpuidEntry) -> u32 {
        match self {
            CpuidReg::Eax => entry.eax,
            CpuidReg::Ebx => entry.ebx,
            CpuidReg::Ecx => entry.ecx,
            CpuidReg::Edx => entry.edx,
        }
    }
}

/// One bit of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidBit {
    /// The word.
    pub word: CpuidWord,
    /// Bit number, below 32.
    pub number: u8,
}

impl CpuidBit {
    /// The word with this bit alone.
    #[must_use]
    pub const fn mask(self) -> u32 {
        1 << (self.number & 31)
    }
}

macro_rules! words {
    ($($word:ident = ($function:literal, $index:literal, $reg:ident) { $($bit:ident = $number:literal,)* })*) => {
        /// A register of a leaf (and subleaf) that holds feature bits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "leaf, subleaf and register are in the name")]
        pub enum CpuidWord {
            $($word,)*
        }

        impl CpuidWord {
            /// Every word, in the order of the numbers.
            pub const ALL: &[CpuidWord] = &[$(CpuidWord::$word,)*];

            /// Leaf, subleaf and register.
            #[must_use]
            pub const fn position(self) -> (u32, u32, CpuidReg) {
                match self {
                    $(CpuidWord::$word => ($function, $index, CpuidReg::$reg),)*
                }
            }
        }

        /// The bits.
        #[allow(missing_docs, reason = "the names are the manual's")]
        pub mod cpuid_bit {
            use super::{CpuidBit, CpuidWord};
            $($(pub const $bit: CpuidBit = CpuidBit { word: CpuidWord::$word, number: $number };)*)*
        }
    };
}

words! {
    Leaf1Ecx = (1, 0, Ecx) {
        SSE3 = 0, PCLMULQDQ = 1, MONITOR = 3, VMX = 5, SMX = 6, SSSE3 = 9, FMA = 12,
        CMPXCHG16B = 13, PDCM = 15, PCID = 17, SSE4_1 = 19, SSE4_2 = 20, X2APIC = 21, MOVBE = 22,
        POPCNT = 23, TSC_DEADLINE = 24, AES = 25, XSAVE = 26, OSXSAVE = 27, AVX = 28, F16C = 29,
        RDRAND = 30, HYPERVISOR = 31,
    }
    Leaf1Edx = (1, 0, Edx) {
        FPU = 0, VME = 1, DE = 2, PSE = 3, TSC = 4, MSR = 5, PAE = 6, MCE = 7, CX8 = 8, APIC = 9,
        SEP = 11, MTRR = 12, PGE = 13, MCA = 14, CMOV = 15, PAT = 16, PSE36 = 17, CLFSH = 19,
        DS = 21, ACPI = 22, MMX = 23, FXSR = 24, SSE = 25, SSE2 = 26, SS = 27, HTT = 28, TM = 29,
        PBE = 31,
    }
    Leaf6Eax = (6, 0, Eax) { DTS = 0, ARAT = 2, PTM = 6, }
    Leaf7Ebx = (7, 0, Ebx) {
        FSGSBASE = 0, TSC_ADJUST = 1, SGX = 2, BMI1 = 3, HLE = 4, AVX2 = 5, FDP_EXCPTN_ONLY = 6,
        SMEP = 7, BMI2 = 8, ERMS = 9, INVPCID = 10, RTM = 11, ZERO_FCS_FDS = 13, MPX = 14,
        AVX512F = 16, AVX512DQ = 17, RDSEED = 18, ADX = 19, SMAP = 20, AVX512_IFMA = 21,
        PCOMMIT = 22, CLFLUSHOPT = 23, CLWB = 24, AVX512PF = 26, AVX512ER = 27, AVX512CD = 28,
        SHA = 29, AVX512BW = 30, AVX512VL = 31,
    }
    Leaf7Ecx = (7, 0, Ecx) {
        PREFETCHWT1 = 0, AVX512_VBMI = 1, UMIP = 2, PKU = 3, OSPKE = 4, WAITPKG = 5,
        AVX512_VBMI2 = 6, CET_SS = 7, GFNI = 8, VAES = 9, VPCLMULQDQ = 10, AVX512_VNNI = 11,
        AVX512_BITALG = 12, AVX512_VPOPCNTDQ = 14, LA57 = 16, RDPID = 22, KL = 23, CLDEMOTE = 25,
        MOVDIRI = 27, MOVDIR64B = 28, ENQCMD = 29, PKS = 31,
    }
    Leaf7Edx = (7, 0, Edx) {
        AVX512_4VNNIW = 2, AVX512_4FMAPS = 3, FSRM = 4, UINTR = 5, AVX512_VP2INTERSECT = 8,
        MD_CLEAR = 10, SERIALIZE = 14, TSXLDTRK = 16, PCONFIG = 18, CET_IBT = 20, AMX_BF16 = 22,
        AVX512_FP16 = 23, AMX_TILE = 24, AMX_INT8 = 25, SPEC_CTRL = 26, STIBP = 27, L1D_FLUSH = 28,
        ARCH_CAPABILITIES = 29, CORE_CAPABILITIES = 30, SSBD = 31,
    }
    Leaf7Sub1Eax = (7, 1, Eax) {
        SHA512 = 0, SM3 = 1, SM4 = 2, RAO_INT = 3, AVX_VNNI = 4, AVX512_BF16 = 5, CMPCCXADD = 7,
        FZRM = 10, FSRS = 11, FSRC = 12, FRED = 17, LKGS = 18, WRMSRNS = 19, AMX_FP16 = 21,
        HRESET = 22, AVX_IFMA = 23, LAM = 26, MSRLIST = 27,
    }
    Leaf7Sub1Ebx = (7, 1, Ebx) { TSE = 1, }
    Leaf7Sub1Edx = (7, 1, Edx) {
        AVX_VNNI_INT8 = 4, AVX_NE_CONVERT = 5, AMX_COMPLEX = 8, AVX_VNNI_INT16 = 10,
        PREFETCHITI = 14,
    }
    LeafDSub1Eax = (0xD, 1, Eax) { XSAVEOPT = 0, XSAVEC = 1, XGETBV_ECX1 = 2, XSAVES = 3, }
    Leaf14Ebx = (0x14, 0, Ebx) { PTWRITE = 4, }
    Leaf19Ebx = (0x19, 0, Ebx) { AESKLE = 0, WIDE_KL = 2, }
    Extended1Ecx = (0x8000_0001, 0, Ecx) {
        LAHF_SAHF = 0, CMP_LEGACY = 1, SVM = 2, EXT_APIC_SPACE = 3, ALT_MOV_CR8 = 4, LZCNT = 5,
        SSE4A = 6, MISALIGN_SSE = 7, PREFETCHW = 8, OSVW = 9, XOP = 11, SKINIT = 12, LWP = 15,
        FMA4 = 16, TBM = 21, TOPOLOGY_EXTENSIONS = 22, PERF_CTR_EXT_CORE = 23, MONITORX = 29,
    }
    Extended1Edx = (0x8000_0001, 0, Edx) {
        SYSCALL = 11, NX = 20, MMXEXT = 22, FFXSR = 25, PAGE_1GB = 26, RDTSCP = 27, LONG_MODE = 29,
        D3NOWEXT = 30, D3NOW = 31,
    }
    Extended7Edx = (0x8000_0007, 0, Edx) { INVARIANT_TSC = 8, }
    Extended8Ebx = (0x8000_0008, 0, Ebx) {
        CLZERO = 0, IRPERF = 1, XSAVE_ERPTR = 2, INVLPGB = 3, RDPRU = 4, MCOMMIT = 8, WBNOINVD = 9,
        IBPB = 12, IBRS = 14, AMD_STIBP = 15, AMD_SSBD = 24, VIRT_SSBD = 25, SSB_NO = 26,
    }
    Extended1FEax = (0x8000_001F, 0, Eax) { SEV_ES = 3, SEV_SNP = 4, RMPQUERY = 6, }
    Extended21Eax = (0x8000_0021, 0, Eax) {
        NO_NESTED_DATA_BP = 0, FSGS_NOT_SERIALIZING = 1, LFENCE_SERIALIZING = 2,
        NULL_SELECTOR_CLEARS_BASE = 6, AUTOMATIC_IBRS = 8, NO_SMM_CTL = 9,
        PREFETCH_CTL_MSR = 13, CPUID_USER_DISABLE = 17,
    }
}
