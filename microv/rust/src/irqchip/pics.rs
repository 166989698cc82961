//! The 8259A pair of a VM: its inputs, and its output to the processors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cpu_chipset::{Pic, PicPair, Raised};

use super::lines::{Lines, Source};
use super::lock;
use super::outcome::LineOutcome;
use crate::object::presence::Presence;

const INPUTS: usize = 16;

/// The pair; whoever changes it says which processors may take its interrupts.
#[derive(Debug, Default)]
pub(super) struct Pics {
    state: Mutex<State>,
    /// INTR of the pair, for those who only want to know.
    output: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    pair: PicPair,
    lines: Lines<INPUTS>,
}

impl Pics {
    /// A source drives an input.
    pub(super) fn drive(
        &self,
        vcpus: &[Arc<Presence>],
        input: u8,
        source: Source,
        high: bool,
    ) -> LineOutcome {
        let mut state = lock(&self.state);
        let Some(level) = state.lines.drive(input, source, high) else {
            return LineOutcome::Ignored;
        };
        let raised = state.pair.set_line(input, level);
        self.publish(&state, vcpus);
        match raised {
            Raised::Masked => LineOutcome::Ignored,
            Raised::Coalesced => LineOutcome::Coalesced,
            Raised::New => LineOutcome::Raised(1),
        }
    }

    /// INTR.
    pub(super) fn output(&self) -> bool {
        self.output.load(Ordering::Acquire)
    }

    /// The acknowledge cycle of a processor: the vector.
    pub(super) fn acknowledge(&self, vcpus: &[Arc<Presence>]) -> u8 {
        self.change(vcpus, PicPair::acknowledge)
    }

    /// Inputs whose interrupts have ended since the last call, by bit.
    pub(super) fn take_ended(&self) -> u16 {
        lock(&self.state).pair.take_ended()
    }

    /// A copy of the registers.
    pub(super) fn pair(&self) -> PicPair {
        lock(&self.state).pair
    }

    /// Replaces the registers of the master, or of the slave.
    pub(super) fn set(&self, vcpus: &[Arc<Presence>], master: bool, pic: Pic) {
        self.change(vcpus, |pair| *(if master { &mut pair.master } else { &mut pair.slave }) = pic);
    }

    /// Reads a port. None: it is none of the pair's.
    pub(super) fn read(&self, vcpus: &[Arc<Presence>], port: u16) -> Option<u8> {
        self.change(vcpus, |pair| pair.read_port(port))
    }

    /// Writes a port, if it is one of the pair's.
    pub(super) fn write(&self, vcpus: &[Arc<Presence>], port: u16, value: u8) {
        self.change(vcpus, |pair| pair.write_port(port, value));
    }

    fn change<T>(&self, vcpus: &[Arc<Presence>], change: impl FnOnce(&mut PicPair) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state.pair);
        self.publish(&state, vcpus);
        result
    }

    /// Under the lock, so that the output follows the registers.
    fn publish(&self, state: &State, vcpus: &[Arc<Presence>]) {
        let output = state.pair.output();
        let before = self.output.swap(output, Ordering::AcqRel);
        if output && !before {
            for vcpu in vcpus.iter().filter(|vcpu| vcpu.lapic.accepts_external()) {
                vcpu.notify();
            }
        }
    }
}
