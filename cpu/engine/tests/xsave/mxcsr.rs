//! LDMXCSR, STMXCSR, and EFER.FFXSR.

use cpu_defs::{Gpr, Reg, cr4, msr};
use cpu_engine::{Personality, supported_cpuid_as};

use super::native::Area;
use super::rings::{exception, supervisor};
use super::{AT, components, guest, state};

/// `ldmxcsr [rdi]; stmxcsr [rdi+8]` and their VEX forms.
const LEGACY: &[u8] = &[0x0F, 0xAE, 0x17, 0x0F, 0xAE, 0x5F, 0x08];
const VEX: &[u8] = &[0xC5, 0xF8, 0xAE, 0x17, 0xC5, 0xF8, 0xAE, 0x5F, 0x08];
const UD: u64 = 6;
const NM: u64 = 7;
const GP: u64 = 13;

#[test]
fn reserved_bits_of_mxcsr_are_refused() {
    for code in [LEGACY, VEX] {
        for (value, legal) in [(0_u32, true), (0xFFFF, true), (0x1_0000, false), (1 << 31, false)] {
            let mut guest = guest(code);
            guest.write_u64(AT, u64::from(value));
            guest.run_to_hlt();
            assert_eq!(exception(&guest), (!legal).then_some((GP, 0)));
            let expected = if legal { u64::from(value) } else { 0 };
            assert_eq!(guest.read_u64(AT + 8), expected);
        }
    }
}

#[test]
fn mxcsr_needs_what_the_registers_need() {
    for (code, bits, cr0, expected) in [
        (LEGACY, cr4::OSFXSR, 0, None),
        (LEGACY, 0, 0, Some(UD)),
        (LEGACY, cr4::OSFXSR, 4, Some(UD)),
        (LEGACY, cr4::OSFXSR, 8, Some(NM)),
        (VEX, 0, 0, Some(UD)),
        (VEX, cr4::OSXSAVE, 8, Some(NM)),
        (VEX, cr4::OSXSAVE, 0, None),
    ] {
        let mut guest = supervisor(bits, |a| a.db(&[code, &[0xF4]].concat()).unwrap());
        guest.set(Reg::Xcr0, components());
        guest.set(Reg::Cr0, 0x8001_0011 | cr0);
        guest.set_gpr(Gpr::Rdi, AT);
        guest.run_to_hlt();
        assert_eq!(exception(&guest).map(|found| found.0), expected, "{code:02x?} {bits:x} {cr0}");
    }
}

#[test]
fn ffxsr_leaves_the_vector_registers_out() {
    const FFXSR: u64 = 1 << 14;
    // fxsave64 [rdi]; fxrstor64 [rdi+0x200]
    let code = [0x48, 0x0F, 0xAE, 0x07, 0x48, 0x0F, 0xAE, 0x8F, 0, 2, 0, 0];
    let mut guest = guest(&code);
    guest.vcpu.set_cpuid(supported_cpuid_as(Personality::Intel));
    assert!(guest.vcpu.set_msr(msr::EFER, 0xD01 | FFXSR).is_err());
    guest.vcpu.set_cpuid(supported_cpuid_as(Personality::Amd));
    if guest.vcpu.set_msr(msr::EFER, 0xD01 | FFXSR).is_err() {
        return; // Not on this host.
    }
    let before = state(components(), 5);
    guest.vcpu.xrstor(&before.0).expect("an area");
    guest.load(AT, &Area::filled(0xCC).0[..512]);
    guest.load(AT + 0x200, &state(3, 6).0[..512]);
    guest.run_to_hlt();
    let saved: [u8; 512] = guest.read(AT);
    assert_eq!(saved[32..42], before.0[32..42]);
    assert!(saved[160..].iter().all(|&byte| byte == 0xCC));
    let after = guest.vcpu.xsave();
    assert_eq!(after[160..416], before.0[160..416]);
    assert_eq!(after[32..42], state(3, 6).0[32..42]);
}
