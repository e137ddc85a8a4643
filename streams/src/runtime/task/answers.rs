//! What calls of `map_async` gave, sent on between two turns.

use std::task::{Context, Poll};

use headwater_core::Result;

use super::{Nearing, Task};
use crate::runtime::calls::{Calls, poll_any};

impl Task {
    /// Calls that are not over.
    pub(crate) fn open_calls(&self) -> usize {
        self.context.calls.iter().map(Calls::in_flight).sum()
    }

    /// Sends on what calls gave that are over. Ready with how many those were, or `Pending` when there are open ones only.
    pub(crate) fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let mut finished = 0;
        loop {
            match poll_any(&mut self.context.calls, cx) {
                Poll::Ready(Some((call, raw))) => {
                    self.is_answered = true;
                    let outcome = self
                        .context
                        .finish_call(call, raw.as_ref())
                        .and_then(|()| self.context.close_batches(false));
                    if let Err(error) = outcome {
                        let context = format!("task={}, a call of `map_async`", self.id);
                        return Poll::Ready(Err(error.context(context)));
                    }
                    finished += 1;
                }
                Poll::Pending if finished == 0 => return Poll::Pending,
                Poll::Pending | Poll::Ready(None) => return Poll::Ready(Ok(finished)),
            }
        }
    }

    /// Whether it takes records and makes punctuations: not while calls must be over first.
    pub(crate) fn may_take(&self) -> bool {
        self.nearing == Nearing::Far && !self.context.calls_are_full()
    }

    /// Begins nothing more until its calls are over and it is committed. Not before a call is over, unless it is `urgent`:
    /// there would be little to commit, and where records come one by one each would be alone with its call.
    pub(crate) fn drain(&mut self, urgent: bool) {
        if self.nearing == Nearing::Far && self.open_calls() > 0 && (urgent || self.is_answered) {
            self.nearing = Nearing::Draining;
        }
    }

    /// Whether it can be committed now. Lets processors send what they keep until a commit, once; if that begins calls, they
    /// must be over first.
    pub(crate) fn is_ready_to_commit(&mut self) -> Result<bool> {
        if self.nearing != Nearing::Told && self.open_calls() == 0 {
            self.before_commit()?;
            self.nearing = Nearing::Told;
        }
        Ok(self.open_calls() == 0)
    }
}
