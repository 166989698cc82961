//! The I/O APIC, in the words of its datasheet.

use cpu_chipset::{Ioapic, RedirectionEntry};

const IOREGSEL: u64 = 0;
const IOWIN: u64 = 0x10;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

fn write(ioapic: &mut Ioapic, register: u32, value: u32) -> bool {
    ioapic.write(IOREGSEL, register);
    ioapic.write(IOWIN, value).is_some()
}

fn read(ioapic: &mut Ioapic, register: u32) -> u32 {
    ioapic.write(IOREGSEL, register);
    ioapic.read(IOWIN)
}

/// Pin 4 with this low half.
fn with_pin_4(low: u32) -> Ioapic {
    let mut ioapic = Ioapic::new();
    write(&mut ioapic, 0x19, 0x0300_0000);
    write(&mut ioapic, 0x18, low);
    ioapic
}

#[test]
fn identification_version_and_arbitration_read_back() {
    let mut ioapic = Ioapic::new();
    write(&mut ioapic, 0, 0xFFFF_FFFF);
    assert_eq!(read(&mut ioapic, 0), 0x0F00_0000);
    assert_eq!(read(&mut ioapic, 1), 0x0017_0011);
    assert_eq!(read(&mut ioapic, 2), 0x0F00_0000);
}

#[test]
fn an_edge_is_sent_once_and_again_after_it_fell() {
    let mut ioapic = with_pin_4(0x31);
    let message = ioapic.set_line(4, true).unwrap();
    assert_eq!((message.entry.vector(), message.entry.destination()), (0x31, 3));
    assert_eq!(ioapic.set_line(4, true), None);
    ioapic.set_line(4, false);
    assert!(ioapic.set_line(4, true).is_some());
}

#[test]
fn an_edge_at_a_masked_pin_is_sent_when_it_is_unmasked() {
    let mut ioapic = with_pin_4(0x31 | MASKED);
    assert_eq!(ioapic.set_line(4, true), None);
    assert!(write(&mut ioapic, 0x18, 0x31));
    assert!(!write(&mut ioapic, 0x18, 0x31 | MASKED));
    assert!(!write(&mut ioapic, 0x18, 0x31), "it has been sent");
}

#[test]
fn a_level_is_sent_again_after_its_end_while_it_is_high() {
    let mut ioapic = with_pin_4(0x31 | LEVEL);
    assert!(ioapic.set_line(4, true).is_some());
    assert_eq!(ioapic.set_line(4, true), None, "remote IRR is set");
    assert_eq!(ioapic.end_of_interrupt(0x31), 1 << 4);
    assert!(ioapic.resend(4).is_some());
    ioapic.set_line(4, false);
    assert_eq!(ioapic.end_of_interrupt(0x31), 1 << 4);
    assert_eq!(ioapic.resend(4), None);
}

#[test]
fn an_end_of_another_vector_ends_nothing() {
    let mut ioapic = with_pin_4(0x31 | LEVEL);
    ioapic.set_line(4, true);
    assert_eq!(ioapic.end_of_interrupt(0x32), 0);
    assert!(ioapic.redirtbl[4].remote_irr());
}

#[test]
fn read_only_bits_of_an_entry_are_not_written() {
    let mut ioapic = with_pin_4(0xFFFF_FFFF);
    assert_eq!(read(&mut ioapic, 0x18), 0x0001_AFFF);
    write(&mut ioapic, 0x19, 0xFFFF_FFFF);
    assert_eq!(read(&mut ioapic, 0x19), 0xFF00_0000);
}

#[test]
fn becoming_edge_triggered_clears_remote_irr() {
    let mut ioapic = with_pin_4(0x31 | LEVEL);
    ioapic.set_line(4, true);
    write(&mut ioapic, 0x18, 0x31 | MASKED);
    assert!(!ioapic.redirtbl[4].remote_irr());
}

#[test]
fn pins_and_registers_beyond_the_last_do_nothing() {
    let mut ioapic = Ioapic::new();
    assert_eq!(ioapic.set_line(24, true), None);
    assert_eq!(ioapic.set_line(255, true), None);
    assert_eq!(ioapic.resend(24), None);
    assert_eq!(read(&mut ioapic, 0x40), u32::MAX);
    assert!(!write(&mut ioapic, 0x40, 0));
    assert_eq!(ioapic.redirtbl, [RedirectionEntry(u64::from(MASKED)); 24]);
}
