//! HV_X64_MSR_VP_RUNTIME: how long a processor was executed, in 100 ns: the time that a CPU of the host
//! has given to the thread in run.
//!
//! On a host that does not tell it, the time since run was called.

use std::cell::RefCell;
use std::fs::File;

use crate::alarm::now_ns;
use crate::schedstat::{self, Number};

const UNIT_NS: u64 = 100;

thread_local! {
    static OWN: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// The time of one processor.
#[derive(Debug, Default)]
pub struct Runtime {
    /// Nanoseconds until run was last left.
    before_ns: u64,
    /// The thread's time when run was called that has not come back.
    begun_ns: Option<u64>,
    /// What the root has added, in the MSR's unit, mod 2^64.
    offset: u64,
}

impl Runtime {
    /// The calling thread executes the processor.
    pub fn begin(&mut self) {
        self.begun_ns = Some(own_ns());
    }

    /// It does no more.
    pub fn end(&mut self) {
        self.before_ns = self.ns();
        self.begun_ns = None;
    }

    /// The MSR; while the processor is executed, for its thread only.
    pub fn get(&self) -> u64 {
        (self.ns() / UNIT_NS).wrapping_add(self.offset)
    }

    /// Lets the MSR go on from a value.
    pub fn set(&mut self, value: u64) {
        self.offset = value.wrapping_sub(self.ns() / UNIT_NS);
    }

    fn ns(&self) -> u64 {
        let now = self.begun_ns.map_or(0, |begun| own_ns().saturating_sub(begun));
        self.before_ns.wrapping_add(now)
    }
}

/// CPU time of the calling thread.
fn own_ns() -> u64 {
    OWN.with_borrow_mut(|own| {
        if own.is_none() {
            *own = File::open(schedstat::OWN).ok();
        }
        schedstat::read(own.as_ref()?, Number::Executed)
    })
    .unwrap_or_else(now_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_05_time_goes_on_from_what_was_set_and_only_while_executed() {
        let mut runtime = Runtime::default();
        runtime.set(1000);
        assert_eq!(runtime.get(), 1000);
        runtime.begin();
        let inside = runtime.get();
        assert!(inside >= 1000);
        runtime.end();
        let outside = runtime.get();
        assert!(outside >= inside);
        assert_eq!(runtime.get(), outside);
    }
}
