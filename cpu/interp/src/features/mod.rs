//! What the guest's CPUID table means to the interpreter: which instructions exist, how they are
//! decoded, and what else depends on the table.
//!
//! An empty table hides nothing.

mod announced;

use cpu_defs::{CpuidBit, CpuidEntry, CpuidWord, cpuid_bit as bit, find_cpuid};
use iced_x86::{Code, CpuidFeature, DecoderOptions, Instruction, OpKind};

use crate::control_bits::cr4_bits;
use crate::xstate;

/// Physical address bits when CPUID leaf 80000008H is absent: all that the physical map holds.
const DEFAULT_MAX_PHY_ADDR: u8 = 45;
const WORDS: usize = CpuidWord::ALL.len();

/// A maker of processors; others count as Intel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel and those that follow it.
    Intel,
    /// AMD and Hygon.
    Amd,
}

/// Decoded CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Physical address bits.
    pub max_phy_addr: u8,
    /// The vendor is AMD or Hygon. SYSCALL works outside 64-bit mode and SYSENTER does not work
    /// inside long mode; see also the uses of this field.
    pub amd: bool,
    /// The table is empty.
    pub hides_nothing: bool,
    /// Loading a null selector leaves the base of a data segment.
    pub null_keeps_base: bool,
    /// Bits of CR4 that can be set.
    pub cr4: u64,
    /// Bits of XCR0 that can be set.
    pub xcr0: u64,
    /// By [`CpuidWord`].
    words: [u32; WORDS],
}

impl Features {
    /// Of this table.
    #[must_use]
    pub fn of(table: &[CpuidEntry]) -> Self {
        let vendor = find_cpuid(table, 0, 0).map(|entry| (entry.ebx, entry.edx, entry.ecx));
        let word = |word: CpuidWord| {
            let (function, index, reg) = word.position();
            find_cpuid(table, function, index).map_or(0, |entry| reg.of(entry))
        };
        let hides_nothing = table.is_empty();
        let amd = vendor.is_some_and(|name| name == AUTHENTIC_AMD || name == HYGON_GENUINE);
        let (extended, index, reg) = bit::NULL_SELECTOR_CLEARS_BASE.word.position();
        let clears = find_cpuid(table, extended, index)
            .is_some_and(|entry| reg.of(entry) & bit::NULL_SELECTOR_CLEARS_BASE.mask() != 0);
        Features {
            max_phy_addr: find_cpuid(table, 0x8000_0008, 0)
                .map_or(DEFAULT_MAX_PHY_ADDR, |entry| entry.eax as u8)
                .clamp(32, 52),
            amd,
            hides_nothing,
            null_keeps_base: amd && !clears,
            cr4: cr4_bits(table),
            xcr0: xcr0_bits(table),
            words: std::array::from_fn(|number| {
                if hides_nothing { u32::MAX } else { word(CpuidWord::ALL[number]) }
            }),
        }
    }

    /// Whether the table has this bit.
    #[must_use]
    pub fn has(&self, bit: CpuidBit) -> bool {
        self.words[bit.word as usize] & bit.mask() != 0
    }

    /// Whether the table announces long mode; an empty one does not.
    #[must_use]
    pub fn announces_long_mode(&self) -> bool {
        !self.hides_nothing && self.has(bit::LONG_MODE)
    }

    /// Whether the processor is of this vendor; one with an empty table is of every vendor.
    #[must_use]
    pub fn is_of(&self, vendor: Vendor) -> bool {
        self.hides_nothing || self.amd == (vendor == Vendor::Amd)
    }

    /// Whether an instruction that needs all of these exists.
    #[must_use]
    pub fn announces(&self, needs: &[CpuidFeature]) -> bool {
        needs.iter().all(|&feature| announced::announced(self, feature))
    }

    /// Whether an instruction exists: what it needs is announced, and the vendor has this form.
    #[must_use]
    pub fn have(&self, instruction: &Instruction) -> bool {
        let form = match instruction.code() {
            // There is a host to call, however little of virtualization the guest has itself.
            Code::Vmcall | Code::Vmmcall => return true,
            // With LOCK, CR0 means CR8.
            Code::Mov_r32_cr | Code::Mov_cr_r32 | Code::Mov_r64_cr | Code::Mov_cr_r64 => {
                !instruction.has_lock_prefix() || self.has(bit::ALT_MOV_CR8)
            }
            Code::Clzerow | Code::Clzerod | Code::Clzeroq => {
                !instruction.has_rep_prefix() && !instruction.has_repne_prefix()
            }
            // The prefetches of 3DNow! need memory.
            Code::Reservednop_rm16_r16_0F0D
            | Code::Reservednop_rm32_r32_0F0D
            | Code::Reservednop_rm64_r64_0F0D => {
                !self.amd || instruction.op0_kind() == OpKind::Memory
            }
            _ => true,
        };
        form && self.announces(instruction.cpuid_features())
    }

    /// How bytes are decoded: an instruction that is an older one with a prefix is that older one
    /// where it is not announced.
    ///
    /// ENDBR, RDSSP, CLDEMOTE and the prefetches are hints in the space of reserved NOPs, which
    /// change nothing whether announced or not.
    #[must_use]
    pub fn decoder_options(&self) -> u32 {
        let without = |bit, option| if self.has(bit) { 0 } else { option };
        DecoderOptions::FORCE_RESERVED_NOP
            | without(bit::BMI1, DecoderOptions::NO_MPFX_0FBC)
            | without(bit::LZCNT, DecoderOptions::NO_MPFX_0FBD)
            | without(bit::WBNOINVD, DecoderOptions::NO_WBNOINVD)
            | without(bit::LAHF_SAHF, DecoderOptions::NO_LAHF_SAHF_64)
            | if self.amd { DecoderOptions::AMD } else { 0 }
    }
}

/// Leaf 0DH has them, as far as this processor does.
fn xcr0_bits(table: &[CpuidEntry]) -> u64 {
    let announced = match find_cpuid(table, 0xD, 0) {
        Some(entry) => u64::from(entry.eax) | u64::from(entry.edx) << 32,
        None if table.is_empty() => u64::MAX,
        None => 0,
    };
    (announced | xstate::bit::X87) & xstate::supported()
}

/// EBX, EDX, ECX of leaf 0.
const AUTHENTIC_AMD: (u32, u32, u32) = (0x6874_7541, 0x6974_6E65, 0x444D_4163);
const HYGON_GENUINE: (u32, u32, u32) = (0x6F67_7948, 0x6E65_476E, 0x656E_6975);
