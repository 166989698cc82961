//! The local APIC, in the words of the SDM.

use cpu_chipset::lapic::register::{self, base};
use cpu_chipset::lapic::{
    Address, DeliveryMode, Destination, Effect, Inbox, Lapic, Message, Signals, TimerEnd,
    apic_base_transition_is_legal, x2apic_ldr,
};

const BASE: u64 = 0xFEE0_0000 | base::ENABLED;

fn enabled() -> Lapic {
    let mut lapic = Lapic::new(1, BASE);
    lapic.write_mmio(register::SVR, 0x1FF, 0);
    lapic
}

fn x2apic() -> Lapic {
    let mut lapic = Lapic::new(0x123, BASE | base::X2APIC);
    lapic.set_apic_base(BASE);
    lapic.set_apic_base(BASE | base::X2APIC);
    lapic.write_msr(register::SVR, 0x1FF, 0).unwrap();
    lapic
}

fn fixed(vector: u8, level: bool) -> Message {
    let destination = Destination::All;
    Message { destination, mode: DeliveryMode::Fixed, vector, level, assert: true }
}

fn receive(lapic: &mut Lapic, message: &Message) -> bool {
    let inbox = Inbox::default();
    let new = inbox.post(message);
    lapic.take_in(&inbox);
    new
}

#[test]
fn every_entry_is_masked_after_reset() {
    let mut lapic = Lapic::new(3, BASE);
    for lvt in register::LVT_TIMER..=register::LVT_ERROR {
        assert_eq!(lapic.read_mmio(lvt, 0), register::LVT_MASKED);
    }
    assert_eq!(lapic.read_mmio(register::SVR, 0), 0xFF);
    assert_eq!(lapic.read_mmio(register::DFR, 0), u32::MAX);
    assert_eq!(lapic.read_mmio(register::ID, 0), 3 << 24);
}

#[test]
fn the_highest_request_is_served_and_ends_with_eoi() {
    let mut lapic = enabled();
    receive(&mut lapic, &fixed(0x31, false));
    receive(&mut lapic, &fixed(0x52, false));
    assert_eq!(lapic.acknowledge(), Some(0x52));
    assert_eq!(lapic.acknowledge(), None, "a lower class waits");
    let ended = Effect::EndOfInterrupt { vector: 0x52, level: false };
    assert_eq!(lapic.write_mmio(register::EOI, 0, 0), ended);
    assert_eq!(lapic.acknowledge(), Some(0x31));
}

#[test]
fn the_same_class_does_not_nest() {
    let mut lapic = enabled();
    receive(&mut lapic, &fixed(0x51, false));
    lapic.acknowledge();
    receive(&mut lapic, &fixed(0x5F, false));
    assert_eq!(lapic.pending(), None);
}

#[test]
fn task_priority_holds_back_its_class() {
    let mut lapic = enabled();
    receive(&mut lapic, &fixed(0x45, false));
    lapic.set_cr8(4);
    assert_eq!((lapic.pending(), lapic.read_mmio(register::TPR, 0)), (None, 0x40));
    lapic.set_cr8(3);
    assert_eq!(lapic.pending(), Some(0x45));
    assert_eq!(lapic.read_mmio(register::PPR, 0), 0x30);
}

#[test]
fn the_end_of_a_level_interrupt_is_broadcast() {
    let mut lapic = enabled();
    receive(&mut lapic, &fixed(0x61, true));
    lapic.acknowledge();
    let ended = Effect::EndOfInterrupt { vector: 0x61, level: true };
    assert_eq!(lapic.write_mmio(register::EOI, 0, 0), ended);
}

#[test]
fn an_end_without_an_interrupt_does_nothing() {
    assert_eq!(enabled().write_mmio(register::EOI, 0, 0), Effect::None);
}

#[test]
fn a_disabled_apic_delivers_nothing_and_masks_its_entries() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_LINT1, 0x400, 0);
    receive(&mut lapic, &fixed(0x61, false));
    lapic.write_mmio(register::SVR, 0xFF, 0);
    assert_eq!(lapic.pending(), None);
    assert_eq!(lapic.read_mmio(register::LVT_LINT1, 0), 0x400 | register::LVT_MASKED);
}

#[test]
fn a_posted_vector_is_new_until_it_is_taken() {
    let inbox = Inbox::default();
    assert!(inbox.post(&fixed(0x30, false)));
    assert!(!inbox.post(&fixed(0x30, false)));
    let mut lapic = enabled();
    lapic.take_in(&inbox);
    assert!(!inbox.any());
    assert!(inbox.post(&fixed(0x30, false)));
}

#[test]
fn init_drops_a_start_up_that_came_before_it() {
    let inbox = Inbox::default();
    let signal = |mode, vector| Message { mode, vector, ..fixed(0, false) };
    inbox.post(&signal(DeliveryMode::StartUp, 0x9A));
    inbox.post(&signal(DeliveryMode::Init, 0));
    let signals = inbox.take_signals();
    assert_eq!((signals.init, signals.start_up), (true, None));
    inbox.post(&signal(DeliveryMode::Init, 0));
    inbox.post(&signal(DeliveryMode::StartUp, 0x9A));
    assert_eq!(inbox.take_signals().start_up, Some(0x9A));
}

#[test]
fn init_waits_for_the_end_of_system_management_mode_and_a_start_up_does_not() {
    let inbox = Inbox::default();
    let signal = |mode| Message { mode, ..fixed(0x9A, false) };
    for mode in [DeliveryMode::Init, DeliveryMode::StartUp, DeliveryMode::Smi, DeliveryMode::Nmi] {
        inbox.post(&signal(mode));
    }
    let signals = inbox.take_signals_but_init();
    assert_eq!(signals, Signals { nmi: true, smi: true, init: false, start_up: None });
    assert!(inbox.has_init());
    assert_eq!(inbox.take_signals(), Signals { init: true, ..Signals::default() });
    inbox.set_init(true);
    inbox.post(&signal(DeliveryMode::Smi));
    assert_eq!(inbox.take_interrupts(), Signals { smi: true, ..Signals::default() });
    assert!(inbox.has_init());
    inbox.set_init(false);
    assert!(!inbox.any());
}

#[test]
fn the_entry_for_corrected_machine_checks_is_there_when_asked_for() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_CMCI, 0xA9, 0);
    assert_eq!(lapic.read_mmio(register::LVT_CMCI, 0), 0);
    assert_eq!(lapic.read_mmio(register::VERSION, 0), 0x5_0014);
    lapic.set_cmci(true);
    assert_eq!(lapic.read_mmio(register::LVT_CMCI, 0), register::LVT_MASKED);
    assert_eq!(lapic.read_mmio(register::VERSION, 0), 0x6_0014);
    lapic.write_mmio(register::LVT_CMCI, 0xFFFE_F8A9, 0);
    assert_eq!(lapic.read_mmio(register::LVT_CMCI, 0), 0xA9);
    lapic.init();
    assert_eq!(lapic.read_mmio(register::LVT_CMCI, 0), register::LVT_MASKED);
    assert_eq!(lapic.read_mmio(register::VERSION, 0), 0x6_0014);
}

#[test]
fn a_local_source_sends_what_its_entry_says() {
    let mut lapic = enabled();
    lapic.set_cmci(true);
    assert_eq!(lapic.local_message(register::LVT_CMCI), None);
    for (entry, mode) in
        [(0xA9, DeliveryMode::Fixed), (0x200, DeliveryMode::Smi), (0x400, DeliveryMode::Nmi)]
    {
        lapic.write_mmio(register::LVT_CMCI, entry, 0);
        let message = lapic.local_message(register::LVT_CMCI).unwrap();
        assert_eq!((message.mode, message.vector), (mode, entry as u8));
        assert_eq!((message.destination, message.level), (Destination::Itself, false));
    }
    lapic.set_apic_base(0);
    lapic.write_mmio(register::LVT_CMCI, 0xA9, 0);
    assert_eq!(lapic.local_message(register::LVT_CMCI), None);
}

#[test]
fn the_periodic_timer_comes_again() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_TIMER, 0x2_00EC, 0);
    lapic.write_mmio(register::TIMER_DIVIDE, 0xB, 0);
    lapic.write_mmio(register::TIMER_INITIAL, 1_000_000, 0);
    assert_eq!(lapic.timer_end(), Some(TimerEnd::Time(1_000_000)));
    assert_eq!(lapic.read_mmio(register::TIMER_CURRENT, 400_000), 600_000);
    lapic.run_timer(999_999, 0);
    assert_eq!(lapic.pending(), None);
    lapic.run_timer(3_500_000, 0);
    assert_eq!(lapic.acknowledge(), Some(0xEC));
    assert_eq!(lapic.timer_end(), Some(TimerEnd::Time(4_000_000)));
}

#[test]
fn the_one_shot_timer_stops() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_TIMER, 0xEC, 0);
    lapic.write_mmio(register::TIMER_INITIAL, 10, 100);
    assert_eq!(lapic.timer_end(), Some(TimerEnd::Time(120)), "reset divides by two");
    lapic.run_timer(120, 0);
    assert_eq!((lapic.pending(), lapic.timer_end()), (Some(0xEC), None));
    assert_eq!(lapic.read_mmio(register::TIMER_CURRENT, 130), 0);
}

#[test]
fn the_deadline_timer_compares_the_tsc() {
    let mut lapic = enabled();
    lapic.set_has_deadline_mode(true);
    lapic.set_tsc_deadline(500);
    assert_eq!(lapic.tsc_deadline(), 0, "not in deadline mode");
    lapic.write_mmio(register::LVT_TIMER, 0x4_00EC, 0);
    lapic.set_tsc_deadline(500);
    lapic.run_timer(u64::MAX, 499);
    assert_eq!(lapic.pending(), None);
    lapic.run_timer(0, 500);
    assert_eq!((lapic.pending(), lapic.tsc_deadline()), (Some(0xEC), 0));
}

#[test]
fn without_deadline_mode_its_bit_is_not_there() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_TIMER, 0x4_00EC, 0);
    assert_eq!(lapic.read_mmio(register::LVT_TIMER, 0), 0xEC);
    lapic.set_tsc_deadline(500);
    assert_eq!(lapic.tsc_deadline(), 0);
    lapic.write_mmio(register::TIMER_INITIAL, 10, 100);
    assert_eq!(lapic.timer_end(), Some(TimerEnd::Time(120)), "one-shot");
}

#[test]
fn leaving_deadline_mode_disarms_the_timer() {
    let mut lapic = enabled();
    lapic.set_has_deadline_mode(true);
    lapic.write_mmio(register::LVT_TIMER, 0x4_00EC, 0);
    lapic.set_tsc_deadline(500);
    lapic.write_mmio(register::LVT_TIMER, 0xEC, 0);
    assert_eq!((lapic.tsc_deadline(), lapic.timer_end()), (0, None));
}

#[test]
fn a_masked_timer_expires_silently() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_TIMER, 0x1_00EC, 0);
    lapic.write_mmio(register::TIMER_INITIAL, 10, 0);
    lapic.run_timer(1000, 0);
    assert_eq!((lapic.pending(), lapic.timer_end()), (None, None));
}

#[test]
fn the_interrupt_command_sends() {
    let mut lapic = enabled();
    lapic.write_mmio(register::ICR_HIGH, 5 << 24, 0);
    let effect = lapic.write_mmio(register::ICR_LOW, 0x4031, 0);
    let destination = Destination::Physical { id: 5, byte: false };
    let mode = DeliveryMode::Fixed;
    let message = Message { destination, mode, vector: 0x31, level: false, assert: true };
    assert_eq!(effect, Effect::Send(message));
    assert_eq!(lapic.read_mmio(register::ICR_LOW, 0) & register::ICR_BUSY, 0);
}

#[test]
fn sending_an_illegal_vector_is_an_error() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_ERROR, 0xFE, 0);
    assert_eq!(lapic.write_mmio(register::ICR_LOW, 0x0F, 0), Effect::None);
    assert_eq!(lapic.pending(), Some(0xFE));
    assert_eq!(lapic.read_mmio(register::ESR, 0), 0);
    lapic.write_mmio(register::ESR, 0, 0);
    assert_eq!(lapic.read_mmio(register::ESR, 0), 0x20);
}

#[test]
fn x2apic_mode_refuses_what_it_has_not() {
    let mut lapic = x2apic();
    for register in [register::DFR, register::ICR_HIGH, register::EOI, 0x04, 0x3A] {
        assert!(lapic.read_msr(register, 0).is_err(), "{register:#x}");
    }
    for (register, value) in [
        (register::ID, 0),
        (register::LDR, 0),
        (register::EOI, 1),
        (register::TPR, 0x100),
        (register::SELF_IPI, 0x100),
        (register::ICR_LOW, 1 << 20),
        (register::SVR, 1 << 32),
    ] {
        assert!(lapic.write_msr(register, value, 0).is_err(), "{register:#x}");
    }
}

#[test]
fn x2apic_mode_has_wide_ids_and_a_fixed_logical_one() {
    let lapic = x2apic();
    assert_eq!(lapic.read_msr(register::ID, 0), Ok(0x123));
    assert_eq!(lapic.read_msr(register::LDR, 0), Ok(0x12_0008));
    assert_eq!(x2apic_ldr(0x123), 0x12_0008);
}

#[test]
fn a_self_ipi_interrupts_its_sender() {
    let mut lapic = x2apic();
    lapic.write_msr(register::SELF_IPI, 0x77, 0).unwrap();
    assert_eq!(lapic.pending(), Some(0x77));
}

#[test]
fn destinations_match_as_the_models_say() {
    let flat = Address { enabled: true, x2apic: false, id: 2, ldr: 0x0400_0000, cluster: false };
    let cluster = Address { ldr: 0x3200_0000, cluster: true, ..flat };
    let wide = Address { x2apic: true, ldr: x2apic_ldr(0x123), id: 0x123, ..flat };
    let physical = |id| Destination::Physical { id, byte: false };
    let device = |id| Destination::Physical { id, byte: true };
    let logical = |mda| Destination::Logical { mda };
    for (address, destination, expected) in [
        (flat, physical(2), true),
        (flat, physical(3), false),
        (flat, physical(0xFF), true),
        (flat, logical(0x0C), true),
        (flat, logical(0x08), false),
        (cluster, logical(0x32), true),
        (cluster, logical(0x31), false),
        (cluster, logical(0x22), false),
        (cluster, logical(0xFF), true),
        (wide, logical(0x12_0008), true),
        (wide, logical(0x12_0004), false),
        (wide, logical(0x13_0008), false),
        (wide, physical(u32::MAX), true),
        (wide, physical(0xFF), false),
        (wide, device(0xFF), true),
        (flat, physical(u32::MAX), false),
        (Address { enabled: false, ..flat }, physical(2), false),
    ] {
        assert_eq!(address.matches(destination), expected, "{address:?} {destination:?}");
    }
}

#[test]
fn lint0_passes_the_8259a_only_as_extint() {
    let mut lapic = enabled();
    assert!(!lapic.accepts_external());
    lapic.write_mmio(register::LVT_LINT0, 0x700, 0);
    assert!(lapic.accepts_external());
    lapic.write_mmio(register::LVT_LINT0, 0x1_0700, 0);
    assert!(!lapic.accepts_external());
    lapic.set_apic_base(BASE & !base::ENABLED);
    assert!(lapic.accepts_external());
}

#[test]
fn lint0_of_the_bootstrap_processor_begins_open_unless_it_is_masked() {
    let mut lapic = Lapic::new(0, BASE | base::BSP | base::ENABLED);
    assert!(lapic.accepts_external());
    lapic.mask_lint0();
    assert!(lapic.masks_lint0() && !lapic.accepts_external());
    lapic.init();
    assert!(!lapic.accepts_external());
}

#[test]
fn modes_change_only_as_the_state_diagram_says() {
    let (off, x, x2) = (0, base::ENABLED, base::ENABLED | base::X2APIC);
    for (old, new, legal) in [
        (off, x, true),
        (off, x2, false),
        (off, base::X2APIC, false),
        (x, x2, true),
        (x, off, true),
        (x2, x, false),
        (x2, off, true),
        (x2, base::X2APIC, false),
    ] {
        assert_eq!(apic_base_transition_is_legal(old, new), legal, "{old:#x} to {new:#x}");
    }
}

#[test]
fn an_image_restores_the_same_image() {
    let mut lapic = enabled();
    lapic.write_mmio(register::LVT_TIMER, 0x2_00EC, 0);
    lapic.write_mmio(register::TIMER_INITIAL, 1_000_000, 0);
    receive(&mut lapic, &fixed(0x61, true));
    receive(&mut lapic, &fixed(0x71, false));
    lapic.acknowledge();
    let image = lapic.image(500);
    let mut restored = Lapic::new(1, BASE);
    restored.restore(&image, 7_000_000);
    assert_eq!(restored.image(7_000_000), image);
    let ended = Effect::EndOfInterrupt { vector: 0x71, level: false };
    assert_eq!(restored.write_mmio(register::EOI, 0, 7_000_000), ended);
    assert_eq!(restored.acknowledge(), Some(0x61));
}

#[test]
fn an_msi_becomes_a_message() {
    let message = Message::from_msi(0xFEE0_5004, 0x41B1, false, true);
    assert_eq!(message.destination, Destination::Logical { mda: 5 });
    assert_eq!((message.mode, message.vector), (DeliveryMode::LowestPriority, 0xB1));
    let wide = Message::from_msi(0x0000_0100_FEE2_3000, 0x31, true, false);
    assert_eq!(wide.destination, Destination::Physical { id: 0x123, byte: false });
    // Bit 14 is 1 in the first and 0 in the second.
    assert!(message.assert && wide.assert);
}
