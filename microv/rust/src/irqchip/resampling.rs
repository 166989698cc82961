//! Lines with a source that lets go when their interrupt ends, as an irqfd with a resampler does.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lock;
use super::routing::{Route, Routing};

/// Which lines these are, and whose interrupts have ended.
#[derive(Debug, Default)]
pub(super) struct Resampling {
    lines: Mutex<BTreeSet<u32>>,
    /// Whether there is one, for those who only want to know.
    is_in_use: AtomicBool,
    /// Not told to the root yet.
    ended: Mutex<Vec<u32>>,
    has_ended: AtomicBool,
}

impl Resampling {
    /// The line has such a source.
    pub(super) fn add(&self, gsi: u32) {
        lock(&self.lines).insert(gsi);
        self.is_in_use.store(true, Ordering::Release);
    }

    /// Whether any line has one.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_in_use.load(Ordering::Acquire)
    }

    /// Those of the lines that lead to `pins`, of the controller that `route` is to.
    pub(super) fn lines_to(
        &self,
        routing: &Routing,
        route: impl Fn(u8) -> Route,
        pins: u32,
    ) -> Vec<u32> {
        let resampled = lock(&self.lines);
        let pins = (0..32).filter(|pin| pins & 1 << pin != 0);
        let lines = pins.flat_map(|pin| routing.lines_to(route(pin)));
        lines.filter(|gsi| resampled.contains(gsi)).collect()
    }

    /// Keeps for the root that the line's interrupt has ended.
    pub(super) fn note_end(&self, gsi: u32) {
        lock(&self.ended).push(gsi);
        self.has_ended.store(true, Ordering::Release);
    }

    /// Whether [`Self::take_ended`] has something to tell.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Lines whose interrupts have ended since the last call, at most `limit` of them.
    pub(super) fn take_ended(&self, limit: usize) -> Vec<u32> {
        let mut ended = lock(&self.ended);
        let first = ended.len().min(limit);
        let rest = ended.split_off(first);
        self.has_ended.store(!rest.is_empty(), Ordering::Release);
        std::mem::replace(&mut *ended, rest)
    }
}
