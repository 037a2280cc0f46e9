//! Waiting for a future on the calling thread, wherever that thread is.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;

#[derive(Default)]
struct Signal {
    ready: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ready {
            ready = self.changed.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
        *ready = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

/// Runs `future` on this thread while `runtime`'s threads drive its timers and sockets. Unlike tokio's own
/// `block_on` it does not panic inside an async context.
pub(super) fn block_on<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let _context = runtime.enter();
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(signal.clone());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => signal.wait(),
        }
    }
}
