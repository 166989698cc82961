//! The I/O APIC of a VM and its inputs. What it sends, others deliver.

use std::sync::Mutex;

use cpu_chipset::{IOAPIC_PINS, Ioapic, IoapicMessage};

use super::lines::{Lines, Source};
use super::lock;

/// The chip with its inputs.
#[derive(Debug, Default)]
pub(super) struct IoapicWithLines {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chip: Ioapic,
    lines: Lines<IOAPIC_PINS>,
}

/// What became of an input's change.
pub(super) enum Change {
    /// The level is as before, or the pin is masked.
    None,
    /// The pin waits for the end of its last interrupt.
    Coalesced,
    /// To be delivered.
    Sent(IoapicMessage),
}

impl IoapicWithLines {
    /// A source drives a pin.
    pub(super) fn drive(&self, pin: u8, source: Source, high: bool) -> Change {
        let mut state = lock(&self.state);
        let Some(level) = state.lines.drive(pin, source, high) else { return Change::None };
        let masked = state.chip.redirtbl[usize::from(pin)].masked();
        match state.chip.set_line(pin, level) {
            Some(sent) => Change::Sent(sent),
            None if masked => Change::None,
            None => Change::Coalesced,
        }
    }

    /// The end of a level interrupt: what `pins` send again, each for itself, as what it sends may
    /// end at once.
    pub(super) fn end(&self, vector: u8) -> impl Iterator<Item = IoapicMessage> {
        let ended = lock(&self.state).chip.end_of_interrupt(vector);
        self.resent(ended)
    }

    /// A copy of the registers.
    pub(super) fn chip(&self) -> Ioapic {
        lock(&self.state).chip
    }

    /// Replaces the registers; what is pending in them.
    pub(super) fn set(&self, chip: Ioapic) -> impl Iterator<Item = IoapicMessage> {
        lock(&self.state).chip = chip;
        self.resent(!0)
    }

    /// Whether it has this address.
    pub(super) fn is_at(&self, gpa: u64) -> bool {
        offset_in(&lock(&self.state).chip, gpa).is_some()
    }

    /// Reads a register. None: there is none at the address.
    pub(super) fn read(&self, gpa: u64) -> Option<u32> {
        let state = lock(&self.state);
        offset_in(&state.chip, gpa).map(|offset| state.chip.read(offset))
    }

    /// Writes a register, if the address is its; what it sends.
    pub(super) fn write(&self, gpa: u64, value: u32) -> Option<IoapicMessage> {
        let mut state = lock(&self.state);
        let offset = offset_in(&state.chip, gpa)?;
        state.chip.write(offset, value)
    }

    /// What is still pending at `pins`, pin by pin: the lock is free in between, since what one sends
    /// may come back here.
    fn resent(&self, pins: u32) -> impl Iterator<Item = IoapicMessage> {
        (0..IOAPIC_PINS as u8)
            .filter(move |pin| pins & 1 << pin != 0)
            .filter_map(|pin| lock(&self.state).chip.resend(pin))
    }
}

fn offset_in(chip: &Ioapic, gpa: u64) -> Option<u64> {
    gpa.checked_sub(chip.base_address).filter(|offset| *offset < Ioapic::LEN)
}
