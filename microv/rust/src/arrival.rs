//! When the call came that the root serves with its hypercalls.
//!
//! Who wants to know how two clocks go together reads one before and after it asks for the other, and
//! takes the middle. Most of what a call takes lies before the hypercall, above all where the root has not
//! been asked for a while, so what a clock shows there is late by more than the thread needs to come back.
//! Midway between the call's arrival and the hypercall is nearest to the caller's middle.

use std::cell::Cell;

use cpu_engine::host_tsc;

thread_local! {
    static CAME: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The calling thread begins to serve a call.
pub fn note() {
    CAME.set(Some(host_tsc()));
}

/// The host's time-stamp counter midway through the call as far as it has come; now, on a thread that
/// serves nobody.
pub(crate) fn midway() -> u64 {
    let now = host_tsc();
    CAME.get().map_or(now, |came| came + now.saturating_sub(came) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midway_is_between_the_arrival_and_now() {
        let before = host_tsc();
        assert!(midway() >= before);
        note();
        let noted = host_tsc();
        let mut latest = noted;
        for _ in 0..1000 {
            latest = host_tsc();
        }
        let middle = midway();
        assert!(middle >= before + (latest - noted) / 2);
        assert!(middle <= host_tsc() - (latest - noted) / 2);
    }
}
