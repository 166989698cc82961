//! 64-bit guests at CPL 0 and 3 with one user page, whose #UD, #NM, #GP, #PF, #MF and #XM halt them.
#![allow(dead_code, reason = "every test file uses its own part")]

use cpu_defs::{Gpr, Reg, SegField, SegReg, cr4};
use iced_x86::code_asm::CodeAssembler;

use crate::guest::{Guest, PAGE_TABLE, assemble, descriptor, long_gate};

pub const GDT: u64 = 0x5000;
pub const IDT: u64 = 0x6000;
pub const TSS: u64 = 0x7000;
pub const HANDLERS: u64 = 0x9000;
const KERNEL_STACK: u64 = 0xC000;
/// The one user page; the others are the supervisor's.
pub const USER_PAGE: u64 = 0xA000;

/// A guest in 64-bit mode at CPL 0 with these bits of CR4; every exception handler halts.
pub fn supervisor(bits: u64, program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::long_mode(program);
    for page in 0..0x200 {
        let user = if page << 12 == USER_PAGE { 4 } else { 0 };
        guest.write_u64(PAGE_TABLE + page * 8, page << 12 | 3 | user);
    }
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xA));
    guest.set(Reg::Gdtr(cpu_defs::TableField::Base), GDT);
    guest.set(Reg::Gdtr(cpu_defs::TableField::Limit), 0xF);
    guest.set(Reg::Idtr(cpu_defs::TableField::Base), IDT);
    guest.set(Reg::Idtr(cpu_defs::TableField::Limit), 0xFFF);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Base), TSS);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x67);
    guest.write_u64(TSS + 4, KERNEL_STACK);
    for vector in [6, 7, 13, 14, 16, 19] {
        guest.load(HANDLERS + vector * 16, &[0xF4]);
        guest.load(IDT + vector * 16, &long_gate(8, HANDLERS + vector * 16, 0x8E, 0));
    }
    guest.set(Reg::Cr4, cr4::PAE | bits);
    guest.set_gpr(Gpr::Rbx, USER_PAGE);
    guest.write_u64(USER_PAGE, 0x1122_3344_5566_7788);
    guest
}

/// The same at CPL 3, with the program on the user page.
pub fn user(bits: u64, program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = supervisor(bits, |a| a.nop().unwrap());
    guest.load(USER_PAGE, &assemble(64, USER_PAGE, program));
    guest.set_flat(SegReg::Cs, 0x1B, 0xA0FB);
    guest.set_flat(SegReg::Ss, 0x23, 0xC0F3);
    guest.set(Reg::Rip, USER_PAGE);
    guest
}

/// Vector and error code of the exception whose handler halted.
pub fn exception(guest: &Guest) -> Option<(u64, u64)> {
    let at = guest.rip();
    let vector = at.checked_sub(HANDLERS + 1)? / 16;
    (at < HANDLERS + 0x200).then(|| (vector, guest.read_u64(guest.gpr(Gpr::Rsp))))
}
