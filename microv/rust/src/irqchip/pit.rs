//! The 8254 of a VM: its alarm, and the interrupts it owes.
//!
//! With reinjection a tick that found the one before it unserved is kept and raised when that one
//! ends, so that a guest that counts ticks loses none (api.rst, KVM_REINJECT_CONTROL).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cpu_chipset::Pit;

use crate::alarm::{Alarm, now_ns};

/// Interrupt line of channel 0.
pub const GSI: u32 = 0;

/// What is behind the lock.
#[derive(Debug)]
struct State {
    chip: Pit,
    reinject: bool,
    /// Ticks not yet raised.
    owed: u64,
}

/// The device.
pub struct PitTimer {
    state: Mutex<State>,
    /// A tick was raised and has not ended. Changed behind the lock, looked at without: ends of
    /// interrupts are many, and few are of ticks.
    in_service: AtomicBool,
    alarm: Arc<Alarm>,
    /// Locked for a pulse: of two at once the line would rise but once, and the tick of the other
    /// would have no end.
    pulsing: Mutex<()>,
    pulse: Box<dyn Fn() + Send + Sync>,
    /// Has port 61H.
    speaker: bool,
}

impl std::fmt::Debug for PitTimer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PitTimer").field("state", &self.state).finish_non_exhaustive()
    }
}

impl PitTimer {
    /// After power-up. `pulse` raises [`GSI`] and lets it fall again.
    pub fn new(speaker: bool, pulse: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<PitTimer>| {
            let this = Weak::clone(this);
            let tick = move || {
                if let Some(pit) = this.upgrade() {
                    pit.tick();
                }
            };
            let state = State { chip: Pit::new(), reinject: true, owed: 0 };
            PitTimer {
                state: Mutex::new(state),
                in_service: AtomicBool::new(false),
                alarm: Alarm::new(tick),
                pulsing: Mutex::default(),
                pulse: Box::new(pulse),
                speaker,
            }
        })
    }

    /// Reads a port; None: it is not this device's.
    pub fn read_port(&self, port: u16) -> Option<u8> {
        if port == 0x61 && !self.speaker {
            return None;
        }
        self.lock().chip.read_port(port, now_ns())
    }

    /// Writes a port; false: it is not this device's.
    pub fn write_port(&self, port: u16, value: u8) -> bool {
        if port == 0x61 && !self.speaker {
            return false;
        }
        let mut state = self.lock();
        let loaded = state.chip.channels[0].load_time_ns;
        let ours = state.chip.write_port(port, value, now_ns());
        if state.chip.channels[0].load_time_ns != loaded {
            self.forget_ticks(&mut state);
        }
        self.alarm.set(state.chip.next_tick());
        ours
    }

    /// An interrupt controller has unmasked [`GSI`]. A tick that it did not take has no end, so the
    /// next one waits for none.
    pub fn unmasked(&self) {
        self.forget_ticks(&mut self.lock());
    }

    /// A copy of the registers.
    pub fn chip(&self) -> Pit {
        self.lock().chip
    }

    /// Replaces the registers; counting starts anew.
    pub fn set_chip(&self, chip: Pit) {
        let mut state = self.lock();
        state.chip = chip;
        state.chip.restart(now_ns());
        self.forget_ticks(&mut state);
        self.alarm.set(state.chip.next_tick());
    }

    /// Whether ticks that came too early are kept.
    pub fn set_reinject(&self, reinject: bool) {
        let mut state = self.lock();
        state.reinject = reinject;
        self.forget_ticks(&mut state);
    }

    /// None is owed, and none has to end before the next is raised.
    fn forget_ticks(&self, state: &mut State) {
        state.owed = 0;
        self.in_service.store(false, Ordering::Relaxed);
    }

    fn tick(&self) {
        let mut state = self.lock();
        let ticks = state.chip.advance(now_ns());
        self.alarm.set(state.chip.next_tick());
        if !state.reinject {
            drop(state);
            if ticks > 0 {
                self.raise();
            }
            return;
        }
        state.owed = state.owed.saturating_add(ticks);
        self.raise_next(state);
    }

    /// Whether the end of a tick's interrupt is waited for.
    pub fn is_in_service(&self) -> bool {
        self.in_service.load(Ordering::Acquire)
    }

    /// The interrupt of the last tick has ended.
    pub fn end_of_interrupt(&self) {
        let state = self.lock();
        self.in_service.store(false, Ordering::Relaxed);
        self.raise_next(state);
    }

    fn raise_next(&self, mut state: MutexGuard<'_, State>) {
        if self.in_service.load(Ordering::Relaxed) || state.owed == 0 {
            return;
        }
        state.owed -= 1;
        self.in_service.store(state.reinject, Ordering::Release);
        drop(state);
        self.raise();
    }

    fn raise(&self) {
        let _alone = self.pulsing.lock().unwrap_or_else(PoisonError::into_inner);
        (self.pulse)();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{self, Receiver};

    /// Channel 0 as a rate generator of about 1 kHz.
    fn ticking() -> (Arc<PitTimer>, Receiver<()>) {
        let (sender, pulses) = mpsc::channel();
        let sender = Mutex::new(sender);
        let pit = PitTimer::new(true, move || {
            let _ = sender.lock().unwrap().send(());
        });
        pit.write_port(0x43, 0x34);
        pit.write_port(0x40, 0xA9);
        pit.write_port(0x40, 0x04);
        (pit, pulses)
    }

    #[test]
    fn every_tick_that_was_owed_is_raised_in_the_end() {
        let (pit, pulses) = ticking();
        for _ in 0..5 {
            pulses.recv().unwrap();
            pit.end_of_interrupt();
        }
    }

    #[test]
    fn a_tick_waits_for_the_end_of_the_one_before() {
        let (pit, pulses) = ticking();
        pulses.recv().unwrap();
        while pit.lock().owed < 3 {
            std::thread::yield_now();
        }
        assert!(pulses.try_recv().is_err());
        pit.end_of_interrupt();
        pulses.recv().unwrap();
    }

    #[test]
    fn ticks_that_a_masked_input_did_not_take_hold_nothing_up() {
        let (pit, pulses) = ticking();
        pulses.recv().unwrap();
        pit.unmasked();
        pulses.recv().unwrap();
        for byte in [0xA9, 0x04] {
            assert!(pit.write_port(0x40, byte));
        }
        pulses.recv().unwrap();
    }

    #[test]
    fn pulses_do_not_overlap() {
        let high = Arc::new(AtomicBool::new(false));
        let line = Arc::clone(&high);
        let pit = PitTimer::new(true, move || {
            assert!(!line.swap(true, Ordering::SeqCst));
            std::thread::yield_now();
            line.store(false, Ordering::SeqCst);
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        pit.lock().owed += 1;
                        pit.end_of_interrupt();
                    }
                });
            }
        });
        assert!(!high.load(Ordering::SeqCst));
    }

    #[test]
    fn without_reinjection_ticks_do_not_wait() {
        let (pit, pulses) = ticking();
        pit.set_reinject(false);
        for _ in 0..3 {
            pulses.recv().unwrap();
        }
        assert_eq!(pit.lock().owed, 0);
    }

    #[test]
    fn the_speaker_port_may_be_somebody_elses() {
        let pit = PitTimer::new(false, || {});
        assert_eq!(pit.read_port(0x61), None);
        assert!(!pit.write_port(0x61, 0) && pit.read_port(0x40).is_some());
    }
}
