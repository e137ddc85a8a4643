//! What calls of `map_async` gave, sent on between two turns.

use std::task::{Context, Poll};

use headwater_core::Result;

use super::Task;
use crate::runtime::calls::{Calls, poll_any};

impl Task {
    pub(super) fn calls_are_full(&self) -> bool {
        self.context.calls.iter().any(Calls::is_full)
    }

    /// Calls that are not over.
    pub(crate) fn open_calls(&self) -> usize {
        self.context.calls.iter().map(Calls::in_flight).sum()
    }

    /// Sends on what calls gave that are over. Ready with how many those were, or `Pending` when there are open ones only.
    pub(crate) fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let mut finished = 0;
        loop {
            match poll_any(&mut self.context.calls, cx) {
                Poll::Ready(Some(call)) => {
                    let outcome = self.context.finish_call(call).and_then(|()| self.close_batches(false));
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

    /// Waits until all calls are over.
    pub(in crate::runtime) async fn finish_calls(&mut self) -> Result<()> {
        while self.open_calls() > 0 {
            std::future::poll_fn(|cx| self.poll_calls(cx)).await?;
        }
        Ok(())
    }
}
