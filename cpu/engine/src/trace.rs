//! A trace of one vCPU: exits, injected events and, if wanted, every instruction.
//!
//! Laws: the vCPU's thread writes and never waits, so the oldest record gives way to the newest; any
//! thread reads, and sees a record whole or not at all. While nobody traces, an exit or event costs one
//! look at a flag, and an instruction nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use cpu_interp::host_tsc;

use crate::{Count, Exit, IoDirection, Vcpu};

/// Exits, and the answers of those that wait for one.
pub const TRACE_EXITS: u32 = 1 << 0;
/// Events that are delivered to the guest from outside its own instructions.
pub const TRACE_EVENTS: u32 = 1 << 1;
/// Every instruction, before it is executed; the vCPU steps.
pub const TRACE_INSTRUCTIONS: u32 = 1 << 2;

/// Records that are kept.
const RECORDS: usize = 1 << 15;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An exit. `code` is its [`Count`]; `data` are address (port, guest-physical, MSR), value of a
    /// write, size in bytes, and flags: bit 0 a write, bits 63:32 elements of a port access. Of a
    /// hypercall RAX, RBX, RCX, RDX; of a step or breakpoint vector and DR6; of an instruction that
    /// cannot be executed its bytes in the first two, their number in the third.
    Exit = 0,
    /// The answer to a read, MSR access or hypercall. `data` are the value, as far as it has 8 bytes,
    /// and the size in bytes.
    Answer = 1,
    /// An event. `code` is its [`Event`]; `data` are the vector, the error code, and 1 where it has one.
    Event = 2,
    /// An instruction. `code` is its code size, 16, 32 or 64; `data` are 16 bytes from it on, how many
    /// of them were fetched (at most 15), and its linear address.
    Instruction = 3,
}

/// Events of [`Kind::Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// An external interrupt.
    Interrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 1,
    /// A system management interrupt.
    Smi = 2,
    /// An exception that the host has injected.
    Exception = 3,
    /// INT n that the host has injected.
    SoftwareInterrupt = 4,
    /// INIT.
    Init = 5,
    /// Start-up, with its vector.
    StartUp = 6,
    /// No event: the processor is suspended in a hypercall of Hyper-V's. The vector is its code, the
    /// error code the number of the processor that may not be flushed.
    Suspended = 7,
    /// It goes on and makes the hypercall again.
    Resumed = 8,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of the records of the vCPU, from 0.
    pub number: u64,
    /// The host's time-stamp counter.
    pub tsc: u64,
    /// Where the guest was.
    pub rip: u64,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// See [`Kind`].
    pub code: u8,
    /// See [`Kind`].
    pub data: [u64; 4],
}

/// The trace of one vCPU.
#[derive(Debug, Default)]
pub struct Trace {
    wanted: AtomicU32,
    ring: OnceLock<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// Records written so far.
    written: AtomicU64,
    slots: Box<[Slot]>,
}

/// A record that may be being written.
#[derive(Debug, Default)]
struct Slot {
    /// One more than the number of the record; 0 while it is written.
    stamp: AtomicU64,
    words: [AtomicU64; 7],
}

impl Trace {
    /// Sets what is recorded from now on: TRACE_*.
    pub fn set(&self, wanted: u32) {
        if wanted != 0 {
            self.ring.get_or_init(Ring::new);
        }
        self.wanted.store(wanted, Ordering::Release);
    }

    /// The number that the next record has.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.ring.get().map_or(0, |ring| ring.written.load(Ordering::Acquire))
    }

    /// The record of a number; None where it has been overwritten, or is not there yet.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Record> {
        self.ring.get()?.get(number)
    }

    /// The lowest number that may still be there.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.next().saturating_sub(RECORDS as u64)
    }

    #[inline(always)]
    pub(crate) fn wants(&self, what: u32) -> bool {
        self.wanted.load(Ordering::Relaxed) & what != 0
    }

    /// Only the vCPU's thread calls.
    #[cold]
    fn put(&self, rip: u64, kind: Kind, code: u8, data: [u64; 4]) {
        if let Some(ring) = self.ring.get() {
            let what = u64::from(kind as u8) | u64::from(code) << 8;
            ring.put([host_tsc(), rip, what, data[0], data[1], data[2], data[3]]);
        }
    }
}

impl Ring {
    fn new() -> Ring {
        let slots = (0..RECORDS).map(|_| Slot::default()).collect();
        Ring { written: AtomicU64::new(0), slots }
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize % RECORDS]
    }

    fn put(&self, words: [u64; 7]) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.stamp.store(0, Ordering::Relaxed);
        // Who sees a new word sees the 0, or what comes after it.
        fence(Ordering::Release);
        for (place, word) in slot.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        slot.stamp.store(number + 1, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    fn get(&self, number: u64) -> Option<Record> {
        let slot = self.slot(number);
        let stamp = slot.stamp.load(Ordering::Acquire);
        let [tsc, rip, what, data @ ..] = slot.words.each_ref().map(|w| w.load(Ordering::Relaxed));
        // The words were read before the stamp is looked at again.
        fence(Ordering::Acquire);
        let whole = stamp == number + 1 && slot.stamp.load(Ordering::Relaxed) == stamp;
        let (kind, code) = (what as u8, (what >> 8) as u8);
        whole.then_some(Record { number, tsc, rip, kind, code, data })
    }
}

impl Vcpu {
    /// Records an event that the guest meets.
    pub fn trace_event(&self, event: Event, vector: u8, error_code: Option<u32>) {
        if self.trace.wants(TRACE_EVENTS) {
            let (has, error_code) = (error_code.is_some(), error_code.unwrap_or(0));
            let data = [vector.into(), error_code.into(), has.into(), 0];
            self.trace.put(self.cpu().arch.rip(), Kind::Event, event as u8, data);
        }
    }

    pub(crate) fn trace_exit(&self, exit: &Exit) {
        if self.trace.wants(TRACE_EXITS) {
            let code = Count::of(exit) as u8;
            self.trace.put(self.cpu().arch.rip(), Kind::Exit, code, details(exit));
        }
    }

    pub(crate) fn trace_answer(&self, data: &[u8]) {
        if self.trace.wants(TRACE_EXITS) {
            let value = word(data);
            let data = [value, data.len() as u64, 0, 0];
            self.trace.put(self.cpu().arch.rip(), Kind::Answer, 0, data);
        }
    }

    #[cold]
    pub(crate) fn trace_instruction(&self) {
        let cpu = self.cpu();
        let (bytes, len) = self.interp.code_bytes();
        let data = [word(&bytes), word(&bytes[8..]), len as u64, cpu.linear_rip()];
        self.trace.put(cpu.arch.rip(), Kind::Instruction, cpu.mode.code_bits, data);
    }
}

/// Up to 8 bytes as a number, lowest first.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The `data` of an exit.
fn details(exit: &Exit) -> [u64; 4] {
    match exit {
        Exit::Io(io) => {
            let write = io.dir == IoDirection::Out;
            let value = if write { word(&io.data[..usize::from(io.size)]) } else { 0 };
            let flags = u64::from(write) | u64::from(io.count) << 32;
            [io.port.into(), value, io.size.into(), flags]
        }
        Exit::Mmio(mmio) => {
            let value = if mmio.write { word(&mmio.data[..usize::from(mmio.len)]) } else { 0 };
            [mmio.gpa, value, mmio.len.into(), mmio.write.into()]
        }
        Exit::Msr(msr) => [msr.index.into(), msr.value.unwrap_or(0), 8, msr.value.is_some().into()],
        Exit::Hypercall(call) => [call.args[0], call.args[1], call.args[2], call.args[3]],
        Exit::Debug(debug) => [debug.vector.into(), debug.dr6, 0, 0],
        Exit::Refused { gpa } => [*gpa, 0, 0, 0],
        Exit::EmulationFailure { bytes, len } => [word(bytes), word(&bytes[8..]), (*len).into(), 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(records: u64) -> Trace {
        let trace = Trace::default();
        trace.set(TRACE_EXITS);
        (0..records).for_each(|rip| trace.put(rip, Kind::Exit, 0, [rip; 4]));
        trace
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let trace = filled(3);
        let record = trace.get(2).unwrap();
        assert_eq!((record.number, record.rip, record.data), (2, 2, [2; 4]));
        assert_eq!(trace.next(), 3);
        assert_eq!(trace.get(3), None);
    }

    #[test]
    fn the_oldest_record_gives_way() {
        let trace = filled(RECORDS as u64 + 5);
        assert_eq!(trace.oldest(), 5);
        assert_eq!(trace.get(4), None);
        assert_eq!(trace.get(5).map(|record| record.rip), Some(5));
    }

    #[test]
    fn nothing_is_there_before_anybody_traces() {
        let trace = Trace::default();
        assert_eq!((trace.next(), trace.oldest(), trace.get(0)), (0, 0, None));
        assert!(!trace.wants(u32::MAX));
    }

    #[test]
    fn a_reader_sees_whole_records_while_the_writer_overtakes_it() {
        let trace = filled(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..RECORDS as u64 * 20).for_each(|rip| trace.put(rip, Kind::Exit, 0, [rip; 4]));
                trace.set(0);
            });
            while trace.wants(TRACE_EXITS) {
                let number = trace.oldest();
                if let Some(record) = trace.get(number) {
                    assert_eq!((record.rip, record.data), (number, [number; 4]));
                }
            }
        });
    }
}
