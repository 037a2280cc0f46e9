//! The answer to an append that is still on its way to the store.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Where a durable entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its index, from 0.
    pub index: u64,
}

/// An entry that was handed to the log. Await it, or [`Pending::wait`] on a blocking thread: only then it is known
/// whether the entry is durable. Dropping it does not take the entry back.
#[must_use = "the entry is acknowledged only by the answer"]
pub struct Pending(Arc<Slot>);

/// The other end; if it is dropped unused, the waiter gets [`Error::Closed`].
pub(crate) struct Answer(Arc<Slot>);

/// One result with one waiter. A channel of an async runtime would refuse to block on that runtime's threads;
/// this one serves both kinds of waiter.
struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

enum State {
    Waiting(Option<Waker>),
    Ready(Result<Receipt, Error>),
}

impl Slot {
    // Each critical section is one assignment, so a poisoned lock is still consistent.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, result: Result<Receipt, Error>) {
        let mut state = self.state();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Ready(result);
            drop(state);
            self.ready.notify_all();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// A new pair of ends.
pub(crate) fn pair() -> (Answer, Pending) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Waiting(None)), ready: Condvar::new() });
    (Answer(slot.clone()), Pending(slot))
}

impl Answer {
    /// Gives the result to the waiter.
    pub(crate) fn give(self, result: Result<Receipt, Error>) {
        self.0.fill(result);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.fill(Err(Error::Closed));
    }
}

impl Pending {
    /// Waits on this thread until the entry is durable.
    ///
    /// # Errors
    /// As for [`crate::AuditLog::submit`].
    pub fn wait(self) -> Result<Receipt, Error> {
        let mut state = self.0.state();
        loop {
            match &*state {
                State::Ready(result) => return result.clone(),
                State::Waiting(_) => state = self.0.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state();
        match &mut *state {
            State::Ready(result) => Poll::Ready(result.clone()),
            State::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_future_is_woken_once_by_the_answer() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let (answer, mut pending) = pair();
        assert!(Pin::new(&mut pending).poll(&mut context).is_pending());
        answer.give(Ok(Receipt { index: 3 }));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let polled = Pin::new(&mut pending).poll(&mut context);
        assert!(matches!(polled, Poll::Ready(Ok(Receipt { index: 3 }))));
    }

    #[test]
    fn waiting_ends_with_the_answer_or_its_loss() {
        let (answer, pending) = pair();
        let waiter = std::thread::spawn(move || pending.wait());
        answer.give(Err(Error::Overloaded));
        assert!(matches!(waiter.join().unwrap(), Err(Error::Overloaded)));
        let (answer, pending) = pair();
        drop(answer);
        assert!(matches!(pending.wait(), Err(Error::Closed)));
    }
}
