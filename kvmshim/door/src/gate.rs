//! Holds back replies to a client while its memory is being exchanged.
//!
//! A thread that waits in a request of ours cannot be stopped by ptrace, but it runs no user code
//! either, as long as it gets no answer. So whoever needs a client to stand still closes its gate,
//! stops the threads that are not inside, and opens the gate again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// One client process's gate.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    closed: u32,
    inside: Vec<u32>,
}

impl Gate {
    /// Thread `tid` waits in a request from now on.
    pub fn enter(&self, tid: u32) {
        self.lock().inside.push(tid);
    }

    /// Waits until the gate is open; then thread `tid` may get its answer.
    pub fn leave(&self, tid: u32) {
        let mut state = self.lock();
        while state.closed > 0 {
            state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Self::remove(&mut state, tid);
    }

    /// Thread `tid` leaves the set at once: it is about to be stopped rather than answered.
    pub fn withdraw(&self, tid: u32) {
        Self::remove(&mut self.lock(), tid);
    }

    /// No request is answered until [`Gate::open`]. Nests.
    pub fn close(&self) {
        self.lock().closed += 1;
    }

    /// Undoes one [`Gate::close`].
    pub fn open(&self) {
        let mut state = self.lock();
        state.closed = state.closed.saturating_sub(1);
        if state.closed == 0 {
            self.opened.notify_all();
        }
    }

    /// The threads that wait in a request.
    pub fn inside(&self) -> Vec<u32> {
        self.lock().inside.clone()
    }

    fn remove(state: &mut State, tid: u32) {
        if let Some(at) = state.inside.iter().position(|&other| other == tid) {
            state.inside.swap_remove(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;
    use std::sync::{Arc, mpsc};
    use std::thread;

    #[test]
    fn a_closed_gate_holds_an_answer_until_it_opens() {
        let gate = Arc::new(Gate::default());
        gate.enter(7);
        gate.close();
        let (done, result) = mpsc::channel();
        let waiter = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.leave(7);
                done.send(()).unwrap();
            })
        };
        assert_eq!(gate.inside(), [7]);
        assert!(result.try_recv().is_err());
        gate.open();
        waiter.join().unwrap();
        assert!(result.try_recv().is_ok());
        assert!(gate.inside().is_empty());
    }

    #[test]
    fn closing_nests() {
        let gate = Gate::default();
        gate.close();
        gate.close();
        gate.open();
        assert_eq!(gate.lock().closed, 1);
        gate.open();
        gate.leave(1);
    }
}
