//! Virtual-8086 mode with and without CR4.VME, and protected-mode virtual interrupts (CR4.PVI).

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField};
use cpu_engine::Exit;
use guest::{Guest, assemble, descriptor, gate};
use iced_x86::code_asm::*;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
const HANDLERS: u64 = 0x9000;
const KERNEL_STACK: u64 = 0xC000;
/// Segment of the 8086 program, and its linear address.
const SEGMENT: u64 = 0xA00;
const PROGRAM: u64 = 0xA000;
/// Where INT 0x21 of the 8086 program itself leads.
const DOS_HANDLER: u64 = 0xB00;

const TF: u64 = 1 << 8;
const IF: u64 = 1 << 9;
const IOPL: u64 = 3 << 12;
const VM: u64 = 1 << 17;
const VIF: u64 = 1 << 19;
const VIP: u64 = 1 << 20;

const VME: u64 = 1;
const PVI: u64 = 2;

/// A machine with a monitor: its handlers of #UD, #GP and INT 0x21 pop nothing and halt.
fn monitor() -> Guest {
    let mut guest = Guest::protected_mode(|_| {});
    let gdt = [0, descriptor(0, 0xF_FFFF, 0x9B, 0xC), descriptor(0, 0xF_FFFF, 0x93, 0xC)];
    for (number, entry) in (0..).zip(gdt) {
        guest.write_u64(GDT + number * 8, entry);
    }
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0x17);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0x7FF);
    for (vector, access) in [(6, 0x8E), (13, 0x8E), (0x21, 0xEE)] {
        let at = HANDLERS + vector * 0x10;
        guest.load(at, &[0xF4, 0xCF]);
        guest.write_u64(IDT + vector * 8, gate(8, at as u32, access, 0));
    }
    guest.write_u64(TSS + 4, KERNEL_STACK | 0x10 << 32);
    // The redirection bitmap is all clear and the I/O map is empty.
    guest.load(TSS + 0x66, &[0x88, 0]);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Base), TSS);
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x88);
    guest
}

/// In virtual-8086 mode with these flags and CR4; `program` ends in UD2.
fn v86(enabled: u64, flags: u64, program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = monitor();
    let code = assemble(16, 0, |a| {
        program(a);
        a.ud2().unwrap();
    });
    guest.load(PROGRAM, &code);
    guest.load(0x21 * 4, &[0, 0, (DOS_HANDLER >> 4) as u8, 0]);
    guest.load(DOS_HANDLER, &[0xCF]);
    guest.set(Reg::Cr4, enabled);
    guest.set(Reg::Rflags, 2 | VM | flags);
    for reg in SegReg::SREG {
        guest.set_segment(reg, SEGMENT, 0xF3);
    }
    guest.set(Reg::Rip, 0);
    guest.set_gpr(Gpr::Rsp, 0x800);
    guest
}

fn stacked(guest: &Guest, slot: u64) -> u64 {
    u64::from(u32::from_le_bytes(guest.read(guest.gpr(Gpr::Rsp) + slot * 4)))
}

/// Runs to a handler of the monitor: its vector, IP and flags of the 8086 program.
fn leaves_by(guest: &mut Guest) -> (u64, u64, u64) {
    assert_eq!(guest.run(), Exit::Hlt);
    let vector = (guest.rip() - HANDLERS) / 0x10;
    let code = u64::from(vector == 13);
    if code == 1 {
        assert_eq!(stacked(guest, 0), 0, "the error code");
    }
    (vector, stacked(guest, code), stacked(guest, code + 2) & !(1 << 16))
}

type Program = fn(&mut CodeAssembler);

const SENSITIVE: [Program; 8] = [
    |a| a.cli().unwrap(),
    |a| a.sti().unwrap(),
    |a| a.pushf().unwrap(),
    |a| a.popf().unwrap(),
    |a| a.pushfd().unwrap(),
    |a| a.popfd().unwrap(),
    |a| a.int(0x21).unwrap(),
    |a| a.iret().unwrap(),
];

#[test]
fn without_vme_the_sensitive_instructions_need_iopl_3() {
    for (number, program) in SENSITIVE.into_iter().enumerate() {
        let mut guest = v86(0, IF, program);
        assert_eq!(leaves_by(&mut guest), (13, 0, 2 | VM | IF), "instruction {number}");
        let mut guest = v86(0, IF | IOPL, program);
        // Where the IRET goes: to the UD2.
        guest.load(PROGRAM + 0x800, &[1, 0, SEGMENT as u8, (SEGMENT >> 8) as u8]);
        assert_ne!(leaves_by(&mut guest).0, 13, "instruction {number}");
    }
}

#[test]
fn privileged_instructions_and_ports_are_refused_at_any_iopl() {
    let programs: [Program; 5] = [
        |a| a.hlt().unwrap(),
        |a| a.clts().unwrap(),
        |a| a.mov(eax, cr0).unwrap(),
        |a| a.in_(al, 0x40).unwrap(),
        |a| a.out(dx, al).unwrap(),
    ];
    for program in programs {
        let mut guest = v86(VME, IOPL, program);
        assert_eq!(leaves_by(&mut guest).0, 13);
    }
    let mut guest = v86(VME, 0, |a| a.lldt(ax).unwrap());
    assert_eq!(leaves_by(&mut guest).0, 6);
}

#[test]
fn an_interrupt_pushes_the_8086_segments_and_iret_restores_them() {
    let mut guest = v86(0, IF | IOPL, |a| {
        a.int(0x21).unwrap();
        a.mov(ax, gs).unwrap();
    });
    guest.set_segment(SegReg::Gs, 0x123, 0xF3);
    assert_eq!(leaves_by(&mut guest), (0x21, 2, 2 | VM | IF | IOPL));
    assert_eq!(guest.gpr(Gpr::Rsp), KERNEL_STACK - 36);
    let frame = [2, SEGMENT, 2 | VM | IF | IOPL, 0x800, SEGMENT, SEGMENT, SEGMENT, SEGMENT, 0x123];
    for (slot, value) in (0..).zip(frame) {
        assert_eq!(stacked(&guest, slot), value, "slot {slot}");
    }
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Gs, SegField::Selector)), 0);
    assert_eq!(leaves_by(&mut guest).0, 6, "IRETD went back");
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFFFF, 0x123);
}

#[test]
fn a_handler_cannot_use_the_8086_segments() {
    let mut guest = v86(0, IF | IOPL, |a| a.int(0x21).unwrap());
    let handler = HANDLERS + 0x210;
    guest.load(handler, &assemble(32, handler, |a| a.mov(eax, dword_ptr(0).ds()).unwrap()));
    let (vector, at, _) = leaves_by(&mut guest);
    assert_eq!((vector, at), (13, handler));
}

#[test]
fn cli_and_sti_of_vme_change_vif() {
    let mut guest = v86(VME, IF | VIF, |a| a.cli().unwrap());
    assert_eq!(leaves_by(&mut guest), (6, 1, 2 | VM | IF));
    let mut guest = v86(VME, IF, |a| a.sti().unwrap());
    assert_eq!(leaves_by(&mut guest), (6, 1, 2 | VM | IF | VIF));
    let mut guest = v86(VME, IF | VIP, |a| a.sti().unwrap());
    assert_eq!(leaves_by(&mut guest), (13, 0, 2 | VM | IF | VIP));
    let mut guest = v86(VME, IF | IOPL | VIF, |a| a.cli().unwrap());
    assert_eq!(leaves_by(&mut guest).2, 2 | VM | IOPL | VIF, "IOPL 3: IF itself");
}

#[test]
fn pushf_of_vme_shows_vif_as_if_and_iopl_3() {
    for (flags, seen) in [(IF, 0), (VIF, IF)] {
        let mut guest = v86(VME, flags, |a| {
            a.pushf().unwrap();
            a.pop(bx).unwrap();
        });
        assert_eq!(leaves_by(&mut guest).0, 6);
        assert_eq!(guest.gpr(Gpr::Rbx) & 0xFFFF, 2 | IOPL | seen);
    }
}

#[test]
fn popf_and_iret_of_vme_load_vif() {
    let popf: Program = |a| a.popf().unwrap();
    let iret: Program = |a| a.iret().unwrap();
    // Held back, loaded FLAGS, whether it is refused.
    let cases = [(0, IF, false), (0, 0, false), (VIP, 0, false), (VIP, IF, true), (0, TF, true)];
    for (program, flags_slot) in [(popf, 0_u64), (iret, 4)] {
        for (vip, loaded, refused) in cases {
            let mut guest = v86(VME, IF | vip | (VIF * u64::from(loaded == 0)), program);
            let stack = PROGRAM + 0x800;
            guest.load(stack, &[1, 0, SEGMENT as u8, (SEGMENT >> 8) as u8]);
            guest.load(stack + flags_slot, &((loaded | 1) as u16).to_le_bytes());
            let (vector, ip, flags) = leaves_by(&mut guest);
            if refused {
                assert_eq!((vector, ip), (13, 0));
                assert_eq!(flags & 1, 0, "nothing was loaded");
            } else {
                let vif = if loaded & IF != 0 { VIF } else { 0 };
                assert_eq!((vector, ip, flags), (6, 1, 3 | VM | IF | vip | vif));
            }
        }
    }
}

#[test]
fn a_clear_bit_redirects_int_n_to_the_8086_program() {
    let program: Program = |a| {
        a.int(0x21).unwrap();
        a.mov(bx, 7).unwrap();
    };
    for (flags, pushed, inside) in
        [(IF | VIF, 2 | IOPL | IF, IF), (IF, 2 | IOPL, IF), (IF | IOPL, 2 | IOPL | IF, IOPL)]
    {
        let mut guest = v86(VME, flags, program);
        guest.load(DOS_HANDLER, &[0x0F, 0x0B]);
        let (vector, ip, now) = leaves_by(&mut guest);
        assert_eq!((vector, ip, now), (6, 0, 2 | VM | inside));
        let frame = guest.read::<6>(PROGRAM + 0x800 - 6);
        assert_eq!(u64::from(u16::from_le_bytes([frame[4], frame[5]])), pushed);
        assert_eq!(frame[..4], [2, 0, SEGMENT as u8, (SEGMENT >> 8) as u8]);
    }
    let mut guest = v86(VME, IF | VIF, program);
    assert_eq!(leaves_by(&mut guest), (6, 5, 2 | VM | IF | VIF), "IRET restored VIF");
}

#[test]
fn a_set_bit_sends_int_n_to_the_monitor() {
    for (flags, vector) in [(IF | IOPL, 0x21), (IF, 13)] {
        let mut guest = v86(VME, flags, |a| a.int(0x21).unwrap());
        guest.load(TSS + 0x68 + 4, &[2]);
        assert_eq!(leaves_by(&mut guest).0, vector);
    }
    // The bitmap is beyond the limit.
    let mut guest = v86(VME, IF | IOPL, |a| a.int(0x21).unwrap());
    guest.set(Reg::Segment(SegReg::Tr, SegField::Limit), 0x6B);
    assert_eq!(leaves_by(&mut guest).0, 13);
}

/// 32-bit user code that ends in UD2.
fn user(enabled: u64, flags: u64, program: Program) -> Guest {
    let mut guest = monitor();
    let code = assemble(32, PROGRAM, |a| {
        program(a);
        a.ud2().unwrap();
    });
    guest.load(PROGRAM, &code);
    guest.set(Reg::Cr4, enabled);
    guest.set(Reg::Rflags, 2 | flags);
    guest.set_flat(SegReg::Cs, 0x1B, 0xC0FB);
    guest.set_flat(SegReg::Ss, 0x23, 0xC0F3);
    guest.set(Reg::Rip, PROGRAM);
    guest
}

#[test]
fn pvi_gives_user_code_a_virtual_flag() {
    let cli: Program = |a| a.cli().unwrap();
    let sti: Program = |a| a.sti().unwrap();
    // CR4, flags, program, vector, flags after it.
    let cases = [
        (PVI, IF | VIF, cli, 6, 2 | IF),
        (PVI, IF, sti, 6, 2 | IF | VIF),
        (PVI, IF | VIP, sti, 13, 2 | IF | VIP),
        (PVI, IF | IOPL, cli, 6, 2 | IOPL),
        (VME, IF, cli, 13, 2 | IF),
        (0, IF, sti, 13, 2 | IF),
    ];
    for (number, (enabled, flags, program, vector, after)) in cases.into_iter().enumerate() {
        let mut guest = user(enabled, flags, program);
        let (left_by, _, seen) = leaves_by(&mut guest);
        assert_eq!((left_by, seen), (vector, after), "case {number}");
    }
}

#[test]
fn vme_and_pvi_need_the_announcement() {
    let mut guest = monitor();
    let without: Vec<_> = guest
        .vcpu
        .cpuid()
        .iter()
        .map(|entry| match entry.function {
            1 => cpu_defs::CpuidEntry { edx: entry.edx & !2, ..*entry },
            _ => *entry,
        })
        .collect();
    guest.vcpu.set_cpuid(without);
    assert!(guest.vcpu.set_reg(Reg::Cr4, VME).is_err());
    assert!(guest.vcpu.set_reg(Reg::Cr4, PVI).is_err());
}
