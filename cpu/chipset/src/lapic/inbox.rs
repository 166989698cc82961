//! Where other threads leave interrupts for a processor: atomics only, no lock.

use std::sync::atomic::{AtomicU32, Ordering};

use super::message::{DeliveryMode, Message};
use super::vectors::Vectors;

/// What other than vectors was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// A system management interrupt.
    pub smi: bool,
    /// INIT; it comes before `start_up`.
    pub init: bool,
    /// Start-up with this vector.
    pub start_up: Option<u8>,
}

const NMI: u32 = 1 << 8;
const SMI: u32 = 1 << 9;
const INIT: u32 = 1 << 10;
const START_UP: u32 = 1 << 11;

/// Interrupts on their way to one processor.
#[derive(Debug, Default)]
pub struct Inbox {
    requests: [AtomicU32; 8],
    levels: [AtomicU32; 8],
    /// The bits above, and the start-up vector in bits 7:0.
    signals: AtomicU32,
}

impl Inbox {
    /// Leaves a message. True if the processor did not have it yet.
    pub fn post(&self, message: &Message) -> bool {
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                self.post_vector(message.vector, message.level)
            }
            DeliveryMode::Nmi => self.post_signal(NMI, 0),
            DeliveryMode::Smi => self.post_signal(SMI, 0),
            DeliveryMode::Init => message.assert && self.post_signal(INIT, START_UP | 0xFF),
            DeliveryMode::StartUp => {
                self.post_signal(START_UP | u32::from(message.vector), START_UP | 0xFF)
            }
            DeliveryMode::ExtInt | DeliveryMode::Reserved => false,
        }
    }

    fn post_vector(&self, vector: u8, level: bool) -> bool {
        let (word, bit) = (usize::from(vector >> 5), 1 << (vector & 31));
        if vector < 16 {
            return false;
        }
        // The trigger mode is in place before the request can be seen.
        if level {
            self.levels[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            self.levels[word].fetch_and(!bit, Ordering::Relaxed);
        }
        self.requests[word].fetch_or(bit, Ordering::Release) & bit == 0
    }

    fn post_signal(&self, set: u32, clear: u32) -> bool {
        let put = |old: u32| Some((old & !clear) | set);
        let old = self.signals.fetch_update(Ordering::AcqRel, Ordering::Relaxed, put);
        old.is_ok_and(|old| old & set != set)
    }

    /// Takes the requested vectors, and which of all vectors are level-triggered.
    pub(super) fn take_vectors(&self) -> (Vectors, Vectors) {
        let mut requests = Vectors::default();
        let mut levels = Vectors::default();
        for word in 0..8 {
            if self.requests[word].load(Ordering::Relaxed) != 0 {
                requests.0[word] = self.requests[word].swap(0, Ordering::Acquire);
                levels.0[word] = self.levels[word].load(Ordering::Relaxed);
            }
        }
        (requests, levels)
    }

    /// Takes everything else.
    pub fn take_signals(&self) -> Signals {
        self.take(u32::MAX)
    }

    /// Takes what a processor in system management mode does: INIT stays, and a start-up is lost.
    pub fn take_signals_but_init(&self) -> Signals {
        Signals { start_up: None, ..self.take(!INIT) }
    }

    /// Takes NMI and SMI.
    pub fn take_interrupts(&self) -> Signals {
        self.take(NMI | SMI)
    }

    /// Whether INIT waits.
    #[must_use]
    pub fn has_init(&self) -> bool {
        self.signals.load(Ordering::Acquire) & INIT != 0
    }

    /// Has INIT wait, or not.
    pub fn set_init(&self, waits: bool) {
        if waits {
            self.signals.fetch_or(INIT, Ordering::AcqRel);
        } else {
            self.signals.fetch_and(!INIT, Ordering::AcqRel);
        }
    }

    fn take(&self, wanted: u32) -> Signals {
        let bits = match self.signals.load(Ordering::Relaxed) & wanted {
            0 => 0,
            _ => self.signals.fetch_and(!wanted, Ordering::AcqRel) & wanted,
        };
        Signals {
            nmi: bits & NMI != 0,
            smi: bits & SMI != 0,
            init: bits & INIT != 0,
            start_up: (bits & START_UP != 0).then_some(bits as u8),
        }
    }

    /// Whether anything waits.
    #[must_use]
    pub fn any(&self) -> bool {
        let waits = |word: &AtomicU32| word.load(Ordering::Acquire) != 0;
        self.signals.load(Ordering::Acquire) != 0 || self.requests.iter().any(waits)
    }
}
