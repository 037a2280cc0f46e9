//! From synchronous callers to async IO: one thread with its own small runtime.
//!
//! A runtime of our own works wherever the caller is: on a blocking thread of another runtime, or outside any.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::sync_channel;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::Error;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Bridge {
    jobs: UnboundedSender<Job>,
}

impl Bridge {
    pub(crate) fn start(name: &str) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::Thread(e.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (jobs, mut inbox) = unbounded_channel::<Job>();
        let serve = move || {
            runtime.block_on(async move {
                while let Some(job) = inbox.recv().await {
                    tokio::spawn(job);
                }
            });
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(failed)?;
        Ok(Bridge { jobs })
    }

    /// Does `work` on the bridge's thread and waits for it; `work` bounds its own time.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = || Error::Thread("ended early".into());
        let (give, take) = sync_channel(1);
        let job = Box::pin(async move {
            // A caller that is gone needs no answer.
            let _ = give.send(work.await);
        });
        self.jobs.send(job).map_err(|_| ended())?;
        take.recv().map_err(|_| ended())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_outside_and_inside_another_runtime() {
        let bridge = Bridge::start("test").unwrap();
        assert_eq!(bridge.run(async { 1 }).unwrap(), 1);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let inside = runtime.block_on(async move {
            tokio::task::spawn_blocking(move || bridge.run(async { tokio::task::yield_now().await })).await
        });
        inside.unwrap().unwrap();
    }

    #[test]
    fn a_panicking_job_is_an_error_and_the_next_works() {
        let bridge = Bridge::start("test").unwrap();
        assert!(matches!(bridge.run(async { panic!("on purpose") }), Err::<(), _>(Error::Thread(_))));
        assert_eq!(bridge.run(async { 2 }).unwrap(), 2);
    }
}
