//! The 8259A pair, in the words of its datasheet.

use cpu_chipset::{PicPair, Raised};

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xA0;
const EOI: u8 = 0x20;

/// Vectors 8 and 70H on, cascade on line 2, everything unmasked, as a PC's firmware leaves it.
fn initialized() -> PicPair {
    let mut pic = PicPair::new();
    for (port, base, icw3) in [(MASTER, 0x08, 4), (SLAVE, 0x70, 2)] {
        pic.write_port(port, 0x11);
        for word in [base, icw3, 1] {
            pic.write_port(port + 1, word);
        }
    }
    pic
}

fn pulse(pic: &mut PicPair, line: u8) -> Raised {
    let raised = pic.set_line(line, true);
    pic.set_line(line, false);
    raised
}

#[test]
fn an_edge_interrupts_once() {
    let mut pic = initialized();
    assert_eq!(pic.set_line(1, true), Raised::New);
    assert!(pic.output());
    assert_eq!(pic.acknowledge(), 0x09);
    pic.write_port(MASTER, EOI);
    assert!(!pic.output(), "the line is still high, but there was no second edge");
}

#[test]
fn a_level_line_interrupts_until_it_falls() {
    let mut pic = initialized();
    pic.write_port(0x4D0, 1 << 5);
    pic.set_line(5, true);
    assert_eq!(pic.acknowledge(), 0x0D);
    pic.write_port(MASTER, EOI);
    assert!(pic.output());
    pic.set_line(5, false);
    assert!(!pic.output());
}

#[test]
fn a_masked_request_is_kept() {
    let mut pic = initialized();
    pic.write_port(MASTER + 1, 1 << 4);
    assert_eq!(pulse(&mut pic, 4), Raised::Masked);
    assert!(!pic.output());
    pic.write_port(MASTER + 1, 0);
    assert_eq!(pic.acknowledge(), 0x0C);
}

#[test]
fn a_second_edge_before_service_is_coalesced() {
    let mut pic = initialized();
    assert_eq!(pulse(&mut pic, 0), Raised::New);
    assert_eq!(pulse(&mut pic, 0), Raised::Coalesced);
}

#[test]
fn lower_lines_wait_for_the_end_of_higher_ones() {
    let mut pic = initialized();
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x0B);
    pulse(&mut pic, 6);
    assert!(!pic.output());
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x09);
    pic.write_port(MASTER, EOI);
    assert!(!pic.output(), "line 3 is still in service");
    pic.write_port(MASTER, EOI);
    assert_eq!(pic.acknowledge(), 0x0E);
}

#[test]
fn the_slave_comes_through_line_2() {
    let mut pic = initialized();
    pulse(&mut pic, 12);
    assert_eq!(pic.acknowledge(), 0x74);
    assert_eq!((pic.master.isr, pic.slave.isr), (1 << 2, 1 << 4));
    pulse(&mut pic, 9);
    pic.write_port(SLAVE, EOI);
    pic.write_port(MASTER, EOI);
    assert_eq!(pic.acknowledge(), 0x71);
}

#[test]
fn a_request_that_vanished_gives_the_spurious_vector() {
    let mut pic = initialized();
    assert_eq!(pic.acknowledge(), 0x0F);
    assert_eq!(pic.master.isr, 0, "a spurious interrupt is not in service");
}

#[test]
fn automatic_end_of_interrupt_leaves_nothing_in_service() {
    let mut pic = initialized();
    pic.write_port(MASTER, 0x11);
    for word in [0x08, 4, 3] {
        pic.write_port(MASTER + 1, word);
    }
    pulse(&mut pic, 0);
    pic.acknowledge();
    assert_eq!(pic.master.isr, 0);
    assert_eq!(pic.take_ended(), 1);
}

#[test]
fn rotation_makes_the_served_line_the_lowest() {
    let mut pic = initialized();
    pulse(&mut pic, 0);
    pic.acknowledge();
    pic.write_port(MASTER, 0xA0);
    pulse(&mut pic, 0);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x0D);
}

#[test]
fn specific_end_of_interrupt_names_its_line() {
    let mut pic = initialized();
    pulse(&mut pic, 6);
    pic.acknowledge();
    pulse(&mut pic, 1);
    pic.acknowledge();
    pic.write_port(MASTER, 0x66);
    assert_eq!(pic.master.isr, 1 << 1);
    assert_eq!(pic.take_ended(), 1 << 6);
}

#[test]
fn special_mask_mode_lets_lower_lines_through() {
    let mut pic = initialized();
    pulse(&mut pic, 2 + 1);
    pic.acknowledge();
    pulse(&mut pic, 7);
    assert!(!pic.output());
    pic.write_port(MASTER + 1, 1 << 3);
    pic.write_port(MASTER, 0x68);
    assert_eq!(pic.acknowledge(), 0x0F);
}

#[test]
fn the_command_port_reads_the_selected_register() {
    let mut pic = initialized();
    pulse(&mut pic, 1);
    pulse(&mut pic, 4);
    pic.acknowledge();
    assert_eq!(pic.read_port(MASTER), Some(1 << 4));
    pic.write_port(MASTER, 0x0B);
    assert_eq!(pic.read_port(MASTER), Some(1 << 1));
}

#[test]
fn a_poll_acknowledges() {
    let mut pic = initialized();
    pulse(&mut pic, 5);
    pic.write_port(MASTER, 0x0C);
    assert_eq!(pic.read_port(MASTER), Some(0x85));
    assert!(!pic.output());
    pic.write_port(MASTER, 0x0C);
    assert_eq!(pic.read_port(MASTER), Some(0));
}

#[test]
fn lines_of_timer_and_keyboard_stay_edge_triggered() {
    let mut pic = initialized();
    pic.write_port(0x4D0, 0xFF);
    pic.write_port(0x4D1, 0xFF);
    assert_eq!((pic.read_port(0x4D0), pic.read_port(0x4D1)), (Some(0xF8), Some(0xDE)));
}

#[test]
fn other_ports_are_not_answered() {
    let mut pic = initialized();
    assert_eq!(pic.read_port(0x22), None);
    assert!(!pic.write_port(0x60, 0));
}
