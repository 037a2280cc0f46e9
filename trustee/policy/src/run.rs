//! One evaluation: its own thread with a large stack, a clock it cannot outlive, and questions to its caller.
//!
//! The engine checks its time limit itself. Should it be stuck in a single step (comparing two values that share
//! their parts endlessly), the caller gives up shortly after, and the policy is never run again.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value as Rego};

use crate::Error;
use crate::guard::Budget;

/// Stack of an evaluating thread; only what is used takes memory.
const STACK: usize = 256 * 1024 * 1024;
/// How much longer than the engine's own limit the caller waits.
const GRACE: Duration = Duration::from_millis(1500);
/// Steps between two looks at the clock.
const INTERVAL: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// Longest id of a reference value that is looked up, in bytes.
const MAX_ID: usize = 512;

/// What the evaluating thread says.
enum Message<T> {
    /// Looks up a reference value; the other end is told `Undefined` if that failed.
    Ask(String, SyncSender<Rego>),
    /// The result.
    Done(Result<T, Error>),
}

/// Runs `work` in a thread made for it, with permission of the process-wide limit, and answers its questions with
/// `lookup`. `stuck` is set if it had to be left running.
pub(crate) fn run<T: Send + 'static>(
    limit: Duration,
    stuck: &Arc<AtomicBool>,
    mut lookup: impl FnMut(&str) -> Result<Rego, Error>,
    work: impl FnOnce(Asker) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if stuck.load(Ordering::Relaxed) {
        return Err(Error::Time(limit.as_millis()));
    }
    let _permit = Permit::take(limit + GRACE)?;
    let (sender, receiver) = mpsc::channel::<Message<T>>();
    let asking = sender.clone();
    let finished = Arc::new(AtomicBool::new(false));
    let (ending, over) = (finished.clone(), stuck.clone());
    let body = move || {
        let ask = move |id, reply| asking.send(Message::Ask(id, reply)).is_ok();
        let result = work(Asker { ask: Box::new(ask) });
        drop(sender.send(Message::Done(result)));
        // It came to its end after all: the policy may be tried again.
        ending.store(true, Ordering::SeqCst);
        over.store(false, Ordering::SeqCst);
    };
    let builder = thread::Builder::new().name("cocoon-policy".into()).stack_size(STACK);
    drop(builder.spawn(body).map_err(|_| Error::Busy)?);
    let end = Instant::now() + limit + GRACE;
    let mut failed = None;
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Message::Done(result)) => return failed.map_or(result, Err),
            Ok(Message::Ask(id, reply)) => {
                let answer = if failed.is_none() { lookup(&id) } else { Ok(Rego::Undefined) };
                let value = answer.unwrap_or_else(|error| {
                    failed = Some(error);
                    Rego::Undefined
                });
                drop(reply.send(value));
            }
            Err(RecvTimeoutError::Timeout) => {
                stuck.store(true, Ordering::SeqCst);
                if finished.load(Ordering::SeqCst) {
                    stuck.store(false, Ordering::SeqCst);
                }
                return Err(failed.unwrap_or(Error::Time(limit.as_millis())));
            }
            // The thread panicked.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(failed.unwrap_or_else(|| Error::Failed("the engine gave up".into())));
            }
        }
    }
}

/// The evaluating thread's way to its caller.
pub(crate) struct Asker {
    ask: Box<dyn Fn(String, SyncSender<Rego>) -> bool + Send + Sync>,
}

impl Asker {
    /// Adds `query_reference_value` to an engine that is about to evaluate.
    fn install(self, engine: &mut Engine) -> Result<(), Error> {
        let ask = std::sync::Arc::new(self.ask);
        let function = move |values: Vec<Rego>| {
            let id = match values.first() {
                Some(Rego::String(id)) if id.len() <= MAX_ID => id.as_ref().to_owned(),
                _ => anyhow::bail!("query_reference_value wants the name of a reference value"),
            };
            let (reply, answer) = mpsc::sync_channel(1);
            if !ask(id, reply) {
                anyhow::bail!("nobody waits for this evaluation");
            }
            match answer.recv() {
                Ok(Rego::Undefined) | Err(_) => anyhow::bail!("the reference value could not be looked up"),
                Ok(value) => Ok(value),
            }
        };
        let added = engine.add_extension("query_reference_value".into(), 1, Box::new(function));
        added.map_err(|error| Error::Failed(error.to_string()))
    }
}

/// A function that looks up nothing.
pub(crate) fn no_lookup(id: &str) -> Result<Rego, Error> {
    Err(Error::Reference { id: id.to_owned(), reason: "there are none for this kind of policy".into() })
}

/// Evaluates rules in this thread, one after the other; `Undefined` where one has no value.
pub(crate) fn evaluate(
    mut engine: Engine,
    rules: &[&str],
    input: Rego,
    asker: Asker,
    limit: Duration,
) -> Result<Vec<Rego>, Error> {
    let budget = Budget::new();
    budget.guard(&mut engine)?;
    asker.install(&mut engine)?;
    engine.set_input(input);
    let begun = Instant::now();
    let mut values = Vec::with_capacity(rules.len());
    for rule in rules {
        let left = limit.saturating_sub(begun.elapsed());
        engine.set_execution_timer_config(ExecutionTimerConfig { limit: left, check_interval: INTERVAL });
        values.push(engine.eval_rule((*rule).to_owned()).map_err(|error| {
            let reason = shortened(&error.to_string());
            if budget.exhausted() {
                Error::Memory(reason)
            } else if begun.elapsed() >= limit {
                Error::Time(limit.as_millis())
            } else {
                Error::Failed(reason)
            }
        })?);
    }
    Ok(values)
}

/// An error text of the engine, short enough for a log.
pub(crate) fn shortened(text: &str) -> String {
    text.trim().chars().take(1000).collect()
}

/// How many evaluations may run at once in this process.
static PERMITS: LazyLock<(Mutex<usize>, Condvar)> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (Mutex::new(cores.saturating_mul(2).max(8)), Condvar::new())
});

/// Leave to evaluate; given back when dropped.
struct Permit;

impl Permit {
    fn take(limit: Duration) -> Result<Permit, Error> {
        let (count, freed) = &*PERMITS;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = freed.wait_timeout_while(count, limit, |count| *count == 0);
        let (mut count, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && *count == 0 {
            return Err(Error::Busy);
        }
        *count -= 1;
        Ok(Permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (count, freed) = &*PERMITS;
        *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
    }
}
