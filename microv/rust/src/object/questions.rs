//! Questions about a VS that another thread runs: that thread answers them between two instructions.

use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::state::State;

type Question = Box<dyn FnOnce(&State) + Send>;

/// The questions that wait.
#[derive(Default)]
pub struct Questions(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    number: u64,
    questions: Vec<(u64, Question)>,
}

impl std::fmt::Debug for Questions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}

impl Questions {
    /// Has `question` answered by the thread that runs the VS, which `call` makes come to
    /// [`Self::answer`]. None: it did not come for `limit`, and the question is taken back.
    pub fn ask<R: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(),
        question: impl FnOnce(&State) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, answer) = sync_channel(1);
        let number = self.put(Box::new(move |state| {
            // Who has asked waits.
            let _ = sender.send(question(state));
        }));
        call();
        match answer.recv_timeout(limit) {
            Ok(answer) => Some(answer),
            Err(_) if self.take_back(number) => None,
            // It is being answered.
            Err(_) => answer.recv().ok(),
        }
    }

    /// Answers what waits.
    pub fn answer(&self, state: &State) {
        let questions = std::mem::take(&mut self.lock().questions);
        for (_, question) in questions {
            question(state);
        }
    }

    fn put(&self, question: Question) -> u64 {
        let mut waiting = self.lock();
        let number = waiting.number;
        waiting.number += 1;
        waiting.questions.push((number, question));
        number
    }

    fn take_back(&self, number: u64) -> bool {
        let mut waiting = self.lock();
        let before = waiting.questions.len();
        waiting.questions.retain(|(other, _)| *other != number);
        waiting.questions.len() < before
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Each use leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
