//! A counter that tasks can wait on, without an async runtime.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

/// Counts events and wakes those who wait for the next one.
///
/// ```
/// use headwater_core::Signal;
/// let signal = Signal::default();
/// assert_eq!(signal.raise(), 1);
/// assert_eq!(futures::executor::block_on(signal.after(0)), Some(1));
/// ```
#[derive(Debug, Default)]
pub struct Signal(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    closed: bool,
    wakers: Vec<Waker>,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half way, so a poisoned lock still holds a sound value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more and wakes everybody; returns the count.
    pub fn raise(&self) -> u64 {
        let (count, wakers) = {
            let mut inner = self.lock();
            inner.count += 1;
            (inner.count, std::mem::take(&mut inner.wakers))
        };
        wakers.into_iter().for_each(Waker::wake);
        count
    }

    /// No more events: everybody who waits is told so.
    pub fn close(&self) {
        let wakers = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The count so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// Waits until the count is above `seen`; `None` when the signal was closed before that.
    pub async fn after(&self, seen: u64) -> Option<u64> {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.count > seen {
                return Poll::Ready(Some(inner.count));
            }
            if inner.closed {
                return Poll::Ready(None);
            }
            if !inner.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                inner.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
