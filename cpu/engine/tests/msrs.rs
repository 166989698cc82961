//! MSRs as guests of both vendors see them, and as the host saves them.

mod guest;

use cpu_defs::{CpuidEntry, Gpr, Reg, SegField, SegReg, msr};
use cpu_engine::{Exit, Personality, feature_msrs, supported_cpuid_as, supported_msrs};
use guest::Guest;
use iced_x86::code_asm::*;

const BOTH: [Personality; 2] = [Personality::Intel, Personality::Amd];
/// An MTRR beyond the physical addresses of every supported table.
const BEYOND_MEMORY: u64 = 1 << 52;

fn guest(personality: Personality, program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::protected_mode(program);
    guest.vcpu.set_cpuid(supported_cpuid_as(personality));
    guest
}

/// A guest that can access MSRs one after another.
struct Accessor(Guest);

impl Accessor {
    fn new(personality: Personality) -> Self {
        Accessor(guest(personality, |a| {
            a.rdmsr().unwrap();
            a.wrmsr().unwrap();
        }))
    }

    /// Executes the instruction at `offset`; false if it raises an exception.
    fn step(&mut self, offset: u64, index: u32) -> bool {
        self.0.set(Reg::Rip, guest::START + offset);
        self.0.set_gpr(Gpr::Rcx, index.into());
        self.0.vcpu.step().is_none_or(|exit| {
            assert_eq!(exit, Exit::Shutdown);
            false
        })
    }

    fn read(&mut self, index: u32) -> Option<u64> {
        self.step(0, index).then(|| self.0.gpr(Gpr::Rdx) << 32 | self.0.gpr(Gpr::Rax))
    }

    fn write(&mut self, index: u32, value: u64) -> bool {
        self.0.set_gpr(Gpr::Rax, value & 0xFFFF_FFFF);
        self.0.set_gpr(Gpr::Rdx, value >> 32);
        self.step(2, index)
    }

    fn takes(&mut self, index: u32, value: u64) -> bool {
        self.write(index, value) && self.read(index) == Some(value)
    }
}

#[test]
fn every_listed_msr_can_be_saved_and_restored() {
    for personality in BOTH {
        let mut guest = guest(personality, |a| a.hlt().unwrap());
        for index in supported_msrs(personality) {
            let value = guest.vcpu.msr(index).expect("it is listed");
            assert_eq!(guest.vcpu.set_msr(index, value), Ok(()), "{index:#x} {value:#x}");
        }
    }
}

#[test]
fn a_guest_reads_every_listed_msr_of_its_vendor() {
    for personality in BOTH {
        let mut guest = Accessor::new(personality);
        let announced = |index: &u32| match *index {
            msr::IA32_ARCH_CAPABILITIES => personality == Personality::Intel,
            // The host's alone.
            msr::IA32_SMBASE => false,
            _ => true,
        };
        for index in supported_msrs(personality).into_iter().filter(announced) {
            assert!(guest.read(index).is_some(), "{index:#x}");
        }
    }
}

#[test]
fn corrected_error_interrupts_exist_with_their_capability() {
    let (bank, enable) = (msr::IA32_MC0_CTL2 + 31, 1 << 30);
    for personality in BOTH {
        let mut guest = Accessor::new(personality);
        assert_eq!(guest.read(bank), None);
        assert!(!guest.write(bank, 0));
        assert!(guest.0.vcpu.set_msr(bank, enable).is_err());
        assert_eq!(guest.0.vcpu.set_msr(bank, 0), Ok(()));
        guest.0.vcpu.set_msr(msr::IA32_MCG_CAP, 1 << 10 | 32).unwrap();
        assert!(guest.takes(bank, enable | 0x7FFF));
        assert!(!guest.write(bank, enable | 0x8000));
        assert!(!guest.write(bank, 1 << 31));
    }
}

#[test]
fn no_msr_is_listed_twice() {
    for mut listed in BOTH.map(supported_msrs) {
        let count = listed.len();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), count);
    }
}

#[test]
fn mtrrs_take_legal_types_and_addresses_only() {
    let mut guest = Accessor::new(Personality::Intel);
    let base = msr::IA32_MTRR_PHYSBASE0;
    assert_eq!(guest.read(msr::IA32_MTRRCAP), Some(0x508));
    assert!(guest.takes(msr::IA32_MTRR_DEF_TYPE, 0xC06));
    assert!(guest.takes(msr::IA32_MTRR_FIX64K_00000, 0x0605_0401_0006_0606));
    assert!(guest.takes(base, 0x8000_0006) && guest.takes(base + 1, 0x8000_0800));
    assert!(guest.takes(base + 15, 0x800));
    let refused = [
        (msr::IA32_MTRRCAP, 0x508),
        (msr::IA32_MTRR_DEF_TYPE, 2),
        (msr::IA32_MTRR_DEF_TYPE, 0x100),
        (msr::IA32_MTRR_FIX4K_C0000, 0x0700_0000_0000_0000),
        (base, 3),
        (base, 0x106),
        (base, BEYOND_MEMORY),
        (base + 1, 0x400),
        (base + 1, BEYOND_MEMORY),
        (base + 16, 0),
    ];
    for (index, value) in refused {
        assert!(!guest.write(index, value), "{index:#x} {value:#x}");
    }
    assert_eq!(guest.read(msr::IA32_MTRR_DEF_TYPE), Some(0xC06));
}

#[test]
fn pat_refuses_types_that_do_not_exist() {
    let mut guest = Accessor::new(Personality::Intel);
    assert!(guest.takes(msr::IA32_PAT, 0x0007_0406_0007_0401));
    assert!(!guest.write(msr::IA32_PAT, 2) && !guest.write(msr::IA32_PAT, 8 << 56));
}

#[test]
fn machine_check_banks_are_as_many_as_announced() {
    let mut guest = Accessor::new(Personality::Amd);
    let banks = (guest.read(msr::IA32_MCG_CAP).unwrap() & 0xFF) as u32;
    let last = msr::IA32_MC0_CTL + banks * 4 - 4;
    assert!(guest.takes(last, u64::MAX) && guest.takes(last + 2, 0x1234));
    assert!(guest.write(last + 1, 0), "status is cleared");
    assert!(!guest.write(last, 5) && !guest.write(last + 1, 1));
    assert!(!guest.write(last + 4, 0) && !guest.write(msr::IA32_MCG_CAP, 0));
    assert_eq!(guest.0.vcpu.set_msr(last + 1, 1 << 63), Ok(()));
    assert_eq!(guest.read(last + 1), Some(1 << 63));
}

#[test]
fn msrs_of_one_vendor_do_not_exist_with_the_other() {
    let intel = [msr::IA32_THERM_STATUS, msr::IA32_FEAT_CTL, msr::FSB_FREQ];
    let amd = [msr::HWCR, msr::SYSCFG, msr::NB_CFG, msr::DE_CFG, msr::K7_EVNTSEL0];
    let (mut with_intel, mut with_amd) =
        (Accessor::new(Personality::Intel), Accessor::new(Personality::Amd));
    for index in intel {
        assert!(with_intel.read(index).is_some() && with_amd.read(index).is_none(), "{index:#x}");
    }
    for index in amd {
        assert!(with_amd.read(index).is_some() && with_intel.read(index).is_none(), "{index:#x}");
    }
}

#[test]
fn speculation_controls_exist_by_their_bits() {
    let mut bare = Accessor::new(Personality::Intel);
    let mut table = supported_cpuid_as(Personality::Intel);
    let seven: &mut CpuidEntry = table.iter_mut().find(|entry| entry.function == 7).unwrap();
    seven.edx = 0;
    bare.0.vcpu.set_cpuid(table);
    assert!(bare.read(msr::IA32_SPEC_CTRL).is_none() && !bare.write(msr::IA32_PRED_CMD, 1));
    for personality in BOTH {
        let mut guest = Accessor::new(personality);
        assert!(guest.takes(msr::IA32_SPEC_CTRL, 7) && !guest.write(msr::IA32_SPEC_CTRL, 8));
        assert!(guest.write(msr::IA32_PRED_CMD, 1) && !guest.write(msr::IA32_PRED_CMD, 2));
        assert!(guest.read(msr::IA32_PRED_CMD).is_none());
    }
}

#[test]
fn the_revision_of_the_microcode_survives_the_guest_asking_for_it() {
    for (personality, revision) in [(Personality::Intel, 1 << 32), (Personality::Amd, 0x0100_0065)]
    {
        let mut guest = Accessor::new(personality);
        assert!(guest.write(msr::IA32_BIOS_SIGN_ID, 0));
        assert_eq!(guest.read(msr::IA32_BIOS_SIGN_ID), Some(revision));
        guest.0.vcpu.set_msr(msr::IA32_BIOS_SIGN_ID, 0x77 << 32).unwrap();
        assert_eq!(guest.read(msr::IA32_BIOS_SIGN_ID), Some(0x77 << 32));
    }
}

#[test]
fn the_adjustment_of_the_tsc_moves_with_it_in_the_guest() {
    let mut guest = Accessor::new(Personality::Intel);
    assert_eq!(guest.read(msr::IA32_TSC_ADJUST), Some(0));
    assert!(guest.write(msr::IA32_TSC, 1 << 50));
    let adjust = guest.read(msr::IA32_TSC_ADJUST).unwrap();
    assert!(adjust > 1 << 49);
    assert!(guest.write(msr::IA32_TSC_ADJUST, adjust + (1 << 51)));
    assert!(guest.read(msr::IA32_TSC).unwrap() > (1 << 50) + (1 << 51) - 1);
    guest.0.vcpu.set_msr(msr::IA32_TSC_ADJUST, 0).unwrap();
    assert!(guest.read(msr::IA32_TSC).unwrap() > 1 << 51, "the host restores, and moves nothing");
}

#[test]
fn cpuid_faults_outside_ring_0_where_it_was_asked_to() {
    let mut guest = guest(Personality::Intel, |a| a.cpuid().unwrap());
    guest.vcpu.set_msr(msr::MISC_FEATURES_ENABLES, 1).unwrap();
    assert_eq!(guest.vcpu.step(), None);
    guest.set(Reg::Rip, guest::START);
    guest.set(Reg::Segment(SegReg::Ss, SegField::Attrib), 0xC0F3);
    guest.set(Reg::Segment(SegReg::Cs, SegField::Attrib), 0xC0FB);
    assert_eq!(guest.vcpu.step(), Some(Exit::Shutdown));
}

#[test]
fn hwcr_keeps_two_bits_and_drops_three() {
    let mut guest = Accessor::new(Personality::Amd);
    assert!(guest.write(msr::HWCR, 1 << 24 | 1 << 18 | 1 << 8 | 1 << 6 | 1 << 3));
    assert_eq!(guest.read(msr::HWCR), Some(1 << 24 | 1 << 18));
    assert!(!guest.write(msr::HWCR, 1));
}

#[test]
fn performance_counters_that_are_not_there_swallow_writes() {
    let mut guest = Accessor::new(Personality::Amd);
    for index in [msr::P6_PERFCTR0, msr::P6_EVNTSEL0, msr::K7_EVNTSEL0, msr::K7_PERFCTR0] {
        assert!(guest.write(index, 0) && guest.write(index, 5));
        assert_eq!(guest.read(index), Some(0));
    }
}

#[test]
fn performance_capabilities_are_none() {
    let mut guest = Accessor::new(Personality::Intel);
    assert_eq!(guest.read(msr::IA32_PERF_CAPABILITIES), None);
    assert!(!guest.write(msr::IA32_PERF_CAPABILITIES, 0));
}

#[test]
fn feature_msrs_are_there_whatever_cpuid_announces() {
    let of = |personality, index| {
        feature_msrs(personality).into_iter().find(|msr| msr.0 == index).map(|msr| msr.1)
    };
    assert_eq!(of(Personality::Amd, msr::DE_CFG), Some(2));
    assert_eq!(of(Personality::Intel, msr::DE_CFG), None);
    for personality in BOTH {
        assert_eq!(of(personality, msr::IA32_PERF_CAPABILITIES), Some(0));
        let arch_capabilities = of(personality, msr::IA32_ARCH_CAPABILITIES);
        assert!(arch_capabilities.is_some_and(|bits| bits & 1 != 0));
    }
}
