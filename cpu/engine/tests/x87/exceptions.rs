//! #NM, pending #MF, memory faults, and what the vendors note about the last instruction.

use cpu_defs::{Gpr, Reg, cr4};
use cpu_engine::{Personality, supported_cpuid_as};

use super::guest::{Guest, PAGE_TABLE, START};
use super::rings::{exception, supervisor};

const NM: u64 = 7;
const GP: u64 = 13;
const PF: u64 = 14;
const MF: u64 = 16;

const AT: u64 = 0x2_0000;
const EM: u64 = 4;
const MP: u64 = 2;
const TS: u64 = 8;
const NE: u64 = 0x20;
const CR0: u64 = 0x8001_0011;

const FWAIT: &[u8] = &[0x9B];
const FLD1: &[u8] = &[0xD9, 0xE8];
const FLD_M64: &[u8] = &[0xDD, 0x07];
const FSTP_M80: &[u8] = &[0xDB, 0x3F];
const FSTP_M32: &[u8] = &[0xD9, 0x1F];
const FLDCW: &[u8] = &[0xD9, 0x2F];
const FRSTOR: &[u8] = &[0xDD, 0x27];
const FNSAVE: &[u8] = &[0xDD, 0x37];
const FLDENV: &[u8] = &[0xD9, 0x27];
const FNSTENV: &[u8] = &[0xD9, 0x37];
/// FNINIT, FNCLEX, FNSTCW, FNSTSW, FNSTSW AX, FNSTENV, FNSAVE, FNENI, FNDISI, FNSETPM.
const NOT_WAITING: [&[u8]; 10] = [
    &[0xDB, 0xE3],
    &[0xDB, 0xE2],
    &[0xD9, 0x3F],
    &[0xDD, 0x3F],
    &[0xDF, 0xE0],
    FNSTENV,
    FNSAVE,
    &[0xDB, 0xE0],
    &[0xDB, 0xE1],
    &[0xDB, 0xE4],
];
const WAITING: [&[u8]; 8] =
    [FLD1, FLD_M64, FSTP_M80, FSTP_M32, FLDCW, FRSTOR, FLDENV, &[0xD9, 0xD0]];

fn guest(code: &[u8]) -> Guest {
    let code = [code, &[0xF4]].concat();
    let mut guest = supervisor(cr4::OSFXSR | cr4::OSXSAVE, |a| a.db(&code).unwrap());
    guest.set(Reg::Cr0, CR0 | NE);
    guest.set_gpr(Gpr::Rdi, AT);
    guest
}

/// Sets control and status word, one register in use, the others empty.
fn set_state(guest: &mut Guest, control: u16, status: u16) {
    let mut area = [0; 576];
    area[..2].copy_from_slice(&control.to_le_bytes());
    area[2..4].copy_from_slice(&(status | 0x3800).to_le_bytes());
    area[4] = 0x80;
    area[8] = 1;
    area[16] = 2;
    area[32..42].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F]);
    area[512] = 1;
    guest.vcpu.xrstor(&area).expect("an area");
}

fn vector(guest: &Guest) -> Option<u64> {
    exception(guest).map(|found| found.0)
}

/// Where the halted handler of an exception without error code was entered from.
fn fault_address(guest: &Guest) -> u64 {
    guest.read_u64(guest.gpr(Gpr::Rsp))
}

#[test]
fn em_and_ts_make_x87_unavailable() {
    for code in NOT_WAITING.iter().chain(&WAITING) {
        for (bits, expected) in [(0, None), (MP, None), (EM, Some(NM)), (TS, Some(NM))] {
            let mut guest = guest(code);
            set_state(&mut guest, 0x37F, 0);
            guest.set(Reg::Cr0, CR0 | bits);
            guest.run_to_hlt();
            assert_eq!(vector(&guest), expected, "{code:02x?} {bits:x}");
        }
    }
    for (bits, expected) in [(EM, None), (TS, None), (MP, None), (MP | TS, Some(NM))] {
        let mut guest = guest(FWAIT);
        guest.set(Reg::Cr0, CR0 | bits);
        guest.run_to_hlt();
        assert_eq!(vector(&guest), expected, "{bits:x}");
    }
}

#[test]
fn a_pending_exception_is_raised_by_waiting_instructions() {
    for code in WAITING.iter().chain(&[FWAIT]) {
        for cr0 in [CR0, CR0 | NE] {
            let mut guest = guest(code);
            set_state(&mut guest, 0x37E, 1);
            guest.set(Reg::Cr0, cr0);
            let before = guest.vcpu.xsave();
            // An address that would fault comes second.
            guest.set_gpr(Gpr::Rdi, 1 << 63);
            guest.run_to_hlt();
            assert_eq!(vector(&guest), Some(MF), "{code:02x?}");
            assert_eq!(fault_address(&guest), START);
            assert!(guest.vcpu.xsave() == before);
        }
    }
    for code in NOT_WAITING {
        let mut guest = guest(code);
        set_state(&mut guest, 0x37E, 1);
        guest.run_to_hlt();
        assert_eq!(vector(&guest), None, "{code:02x?}");
    }
}

#[test]
fn an_instruction_that_raises_completes_and_the_next_one_faults() {
    // fldz; fdivp; fnstsw ax; fwait
    let mut guest = guest(&[0xD9, 0xEE, 0xDE, 0xF9, 0xDF, 0xE0, 0x9B]);
    set_state(&mut guest, 0x37B, 0);
    guest.run_to_hlt();
    assert_eq!(vector(&guest), Some(MF));
    assert_eq!(fault_address(&guest), START + 6);
    assert_eq!(guest.gpr(Gpr::Rax) & 0x80FF, 0x8084);
}

#[test]
fn fldcw_may_unmask_what_has_happened() {
    let mut guest = guest(&[FLDCW, FWAIT].concat());
    guest.load(AT, &0x37E_u16.to_le_bytes());
    set_state(&mut guest, 0x37F, 1);
    guest.run_to_hlt();
    assert_eq!(vector(&guest), Some(MF));
    assert_eq!(guest.vcpu.xsave()[..4], [0x7E, 0x03, 0x81, 0xB8]);
}

#[test]
fn fninit_turns_the_stack_but_keeps_contents() {
    // fninit; fdecstp: the register that was ST(0) is again.
    let mut guest = guest(&[0xDB, 0xE3, 0xD9, 0xF6]);
    set_state(&mut guest, 0x37F, 0);
    let before = guest.vcpu.xsave();
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.xsave()[32..160], before[32..160]);
}

#[test]
fn a_fault_of_the_operand_changes_nothing() {
    let page = PAGE_TABLE + ((AT >> 12) + 1) * 8;
    for (code, len, write) in [
        (FLD_M64, 8, 0),
        (FSTP_M80, 10, 2),
        (FLDCW, 2, 0),
        (FRSTOR, 108, 0),
        (FNSAVE, 108, 2),
        (FLDENV, 28, 0),
        (FNSTENV, 28, 2),
    ] {
        for part in [1, len / 2, len - 1] {
            let mut guest = guest(code);
            set_state(&mut guest, 0x37F, 0);
            let before = guest.vcpu.xsave();
            guest.write_u64(page, 0);
            guest.set_gpr(Gpr::Rdi, AT + 0x1000 - part);
            guest.run_to_hlt();
            assert_eq!(exception(&guest), Some((PF, write)), "{code:02x?} {part}");
            assert_eq!(guest.vcpu.reg(Reg::Cr2), AT + 0x1000);
            assert!(guest.vcpu.xsave() == before);
            assert_eq!(guest.read::<112>(AT + 0x1000 - 112), [0; 112]);
        }
        let mut guest = guest(code);
        set_state(&mut guest, 0x37F, 0);
        let before = guest.vcpu.xsave();
        guest.set_gpr(Gpr::Rdi, 0x8000_0000_0000 - 1);
        guest.run_to_hlt();
        assert_eq!(exception(&guest), Some((GP, 0)));
        assert!(guest.vcpu.xsave() == before);
    }
}

#[test]
fn operands_cross_pages() {
    // fld tbyte [rdi]; fstp tbyte [rdi+0x1000]; fnsave [rdi+0x2000]; frstor; fnsave [rdi+0x4000]
    let mut code = vec![0xDB, 0x2F, 0xDB, 0xBF, 0, 0x10, 0, 0];
    code.extend_from_slice(&[0xDD, 0xB7, 0, 0x20, 0, 0, 0xDD, 0xA7, 0, 0x20, 0, 0]);
    code.extend_from_slice(&[0xDD, 0xB7, 0, 0x40, 0, 0]);
    for part in [1, 4, 9] {
        let mut guest = guest(&code);
        let at = AT + 0x1000 - part;
        let value = [1, 2, 3, 4, 5, 6, 7, 0x88, 0x12, 0x40];
        guest.load(at, &value);
        guest.set_gpr(Gpr::Rdi, at);
        set_state(&mut guest, 0x37F, 0);
        guest.run_to_hlt();
        assert_eq!(guest.read::<10>(at + 0x1000), value);
        assert_eq!(guest.read::<108>(at + 0x2000), guest.read::<108>(at + 0x4000));
        assert_eq!(guest.read::<10>(at + 0x2000 + 28), [1, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F]);
    }
}

#[test]
fn an_unmasked_exception_keeps_a_store_from_memory() {
    // fstp dword [rdi] from a signalling NaN
    for (control, stored) in [(0x37F, true), (0x37E, false)] {
        let mut guest = guest(FSTP_M32);
        set_state(&mut guest, control, 0);
        let mut area = guest.vcpu.xsave();
        area[32..42].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x7F]);
        guest.vcpu.xrstor(&area).expect("an area");
        guest.load(AT, &[0xAA; 4]);
        guest.run_to_hlt();
        assert_eq!(guest.read::<4>(AT) != [0xAA; 4], stored);
        // The stack is popped with the store.
        assert_eq!(guest.vcpu.xsave()[4] == 0, stored);
    }
}

#[test]
fn the_vendors_note_the_last_instruction_in_their_ways() {
    // fld qword [rdi]; fnstenv [rdi]; fxsave64 [rdi+0x100]
    let code = [FLD_M64, FNSTENV, &[0x48, 0x0F, 0xAE, 0x87, 0, 1, 0, 0]].concat();
    let start = START as u32;
    for (personality, error, fields, image) in [
        (Personality::Amd, false, [start, 8 | 0x507 << 16, AT as u32, 0xFFFF_0010], 0),
        (Personality::Intel, false, [start, 0, 2, 0xFFFF_0000], START),
        (Personality::Intel, true, [start, 0x507 << 16, AT as u32, 0xFFFF_0000], START),
    ] {
        let mut guest = guest(&code);
        guest.vcpu.set_cpuid(supported_cpuid_as(personality));
        // A denormal operand.
        guest.write_u64(AT, u64::from(error));
        set_state(&mut guest, if error { 0x37D } else { 0x37F }, 0);
        guest.run_to_hlt();
        let environment: [u8; 28] = guest.read(AT);
        let field = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| environment[at + n]));
        assert_eq!([12, 16, 20, 24].map(field), fields, "{personality:?}");
        assert_eq!(guest.read_u64(AT + 0x108), image);
    }
}
