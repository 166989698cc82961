//! Real mode: ports, strings, the interrupt vector table, reset state.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg};
use cpu_engine::{Exit, IoDirection, Pending};
use guest::Guest;
use iced_x86::code_asm::*;

#[test]
fn a_port_loop_writes_each_byte() {
    let mut guest = Guest::real_mode(|a| {
        let mut head = a.create_label();
        a.mov(dx, 0x3F8).unwrap();
        a.mov(cx, 5).unwrap();
        a.mov(al, 'a' as u32).unwrap();
        a.set_label(&mut head).unwrap();
        a.out(dx, al).unwrap();
        a.inc(al).unwrap();
        a.loop_(head).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.run_to_hlt(), b"abcde");
}

#[test]
fn in_leaves_rip_at_the_instruction_until_completed() {
    let mut guest = Guest::real_mode(|a| {
        a.in_(al, 0x60).unwrap();
        a.hlt().unwrap();
    });
    let Exit::Io(io) = guest.run() else { panic!("no port exit") };
    assert_eq!((io.port, io.size, io.count, io.dir), (0x60, 1, 1, IoDirection::In));
    assert_eq!(guest.rip(), guest::START);
    assert_eq!(guest.vcpu.pending(), Some(Pending::IoIn { bytes: 1 }));
    assert_eq!(guest.vcpu.complete(&[0x5A]), None);
    assert_eq!(guest.rip(), guest::START + 2);
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFF, 0x5A);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), guest::START + 3);
}

#[test]
fn completion_does_not_advance_a_moved_rip() {
    let mut guest = Guest::real_mode(|a| {
        a.out(0x80, al).unwrap();
        a.hlt().unwrap();
    });
    assert!(matches!(guest.run(), Exit::Io(_)));
    guest.set(Reg::Rip, 0x2000);
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.rip(), 0x2000);
}

#[test]
fn rep_outsb_exits_once_per_byte() {
    let mut guest = Guest::real_mode(|a| {
        a.mov(dx, 0x3F8).unwrap();
        a.mov(si, 0x4000).unwrap();
        a.mov(cx, 5).unwrap();
        a.cld().unwrap();
        a.rep().outsb().unwrap();
        a.hlt().unwrap();
    });
    guest.load(0x4000, b"hello");
    assert_eq!(guest.run_to_hlt(), b"hello");
    assert_eq!((guest.gpr(Gpr::Rsi), guest.gpr(Gpr::Rcx)), (0x4005, 0));
}

#[test]
fn rep_insw_asks_in_batches_that_stay_in_the_page() {
    let mut guest = Guest::real_mode(|a| {
        a.mov(dx, 0x1F0).unwrap();
        a.mov(di, 0x4FF0).unwrap();
        a.mov(cx, 12).unwrap();
        a.rep().insw().unwrap();
        a.hlt().unwrap();
    });
    let Exit::Io(io) = guest.run() else { panic!("no port exit") };
    assert_eq!((io.size, io.count), (2, 8));
    assert_eq!(guest.gpr(Gpr::Rcx), 12);
    let answer: Vec<u8> = (0..16).collect();
    assert_eq!(guest.vcpu.complete(&answer), None);
    assert_eq!(guest.read::<16>(0x4FF0).as_slice(), answer);
    let Exit::Io(io) = guest.run() else { panic!("no port exit") };
    assert_eq!(io.count, 4);
    assert_eq!(guest.vcpu.complete(&[0xEE; 8]), None);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.read::<8>(0x5000), [0xEE; 8]);
    assert_eq!((guest.gpr(Gpr::Rdi), guest.gpr(Gpr::Rcx)), (0x5008, 0));
}

#[test]
fn rep_insb_asks_for_at_most_1024_bytes() {
    let mut guest = Guest::real_mode(|a| {
        a.mov(di, 0x4000).unwrap();
        a.mov(cx, 3000).unwrap();
        a.rep().insb().unwrap();
        a.hlt().unwrap();
    });
    let Exit::Io(io) = guest.run() else { panic!("no port exit") };
    assert_eq!(io.count, 1024);
}

#[test]
fn software_and_external_interrupts_go_through_the_vector_table() {
    let mut guest = Guest::real_mode(|a| {
        a.int(0x21).unwrap();
        a.sti().unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
        a.hlt().unwrap();
    });
    for (vector, byte) in [(0x21_u64, b's'), (0x30, b'x')] {
        let handler = 0x2000 + vector * 16;
        let code = guest::assemble(16, handler, |a| {
            a.mov(al, u32::from(byte)).unwrap();
            a.out(0x80, al).unwrap();
            a.iret().unwrap();
        });
        guest.load(handler, &code);
        guest.load(vector * 4, &(handler as u32).to_le_bytes());
    }
    guest.vcpu.queue_interrupt(0x30).unwrap();
    assert!(guest.vcpu.queue_interrupt(0x31).is_err());
    assert_eq!(guest.run_to_hlt(), b"sx");
    assert_eq!(guest.gpr(Gpr::Rsp), guest::START);
    assert_eq!(guest.vcpu.queued_interrupt(), None);
}

#[test]
fn sti_shadow_lets_one_instruction_pass_before_the_window() {
    let mut guest = Guest::real_mode(|a| {
        a.sti().unwrap();
        a.inc(ax).unwrap();
        a.inc(ax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.vcpu.run(true), Exit::InterruptWindow);
    assert_eq!(guest.gpr(Gpr::Rax), 1);
    assert!(guest.vcpu.interruptible());
}

#[test]
fn divide_error_reaches_its_handler_with_the_faulting_address() {
    let mut guest = Guest::real_mode(|a| {
        a.xor(cl, cl).unwrap();
        a.div(cl).unwrap();
        a.hlt().unwrap();
    });
    guest.load(0x3000, &[0xF4]);
    guest.load(0, &0x3000_u32.to_le_bytes());
    assert_eq!(guest.run(), Exit::Hlt);
    let frame = guest.read::<6>(guest.gpr(Gpr::Rsp));
    assert_eq!(u16::from_le_bytes([frame[0], frame[1]]), guest::START as u16 + 2);
}

#[test]
fn unreal_limits_survive_a_segment_load() {
    let mut guest = Guest::real_mode(|a| {
        a.xor(ax, ax).unwrap();
        a.mov(ds, ax).unwrap();
        a.mov(byte_ptr(ebx), 0x77).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Segment(SegReg::Ds, SegField::Limit), 0xFFFF_FFFF);
    guest.set_gpr(Gpr::Rbx, 0x12_3456);
    guest.run_to_hlt();
    assert_eq!(guest.read::<1>(0x12_3456), [0x77]);
}

#[test]
fn power_up_executes_at_the_reset_vector() {
    let mut guest = Guest::new();
    guest.add_page(0xFFFF_F000, cpu_mem::PageFlags::ALL);
    guest.load(0xFFFF_FFF0, &[0xF4]);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), 0xFFF1);
}

#[test]
fn the_reset_state_is_the_manuals() {
    let guest = Guest::new();
    let expected = [
        (Reg::Rip, 0xFFF0),
        (Reg::Rflags, 2),
        (Reg::Gpr(Gpr::Rdx), 0x600),
        (Reg::Cr0, 0x6000_0010),
        (Reg::Dr6, 0xFFFF_0FF0),
        (Reg::Dr7, 0x400),
        (Reg::Segment(SegReg::Cs, SegField::Base), 0xFFFF_0000),
        (Reg::Segment(SegReg::Cs, SegField::Attrib), 0x9B),
        (Reg::Segment(SegReg::Tr, SegField::Attrib), 0x8B),
    ];
    for (reg, value) in expected {
        assert_eq!(guest.vcpu.reg(reg), value, "{reg:?}");
    }
}
