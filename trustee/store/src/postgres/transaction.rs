//! Running calls on a connection: what is repeated, what is not, and what is said about it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::plan::{Kind, Step};
use super::pool::{Pool, no_answer};
use super::problem;
use super::session::Session;
use crate::Error;

/// How often a transaction is repeated that the server undid because of another one.
const ATTEMPTS: u32 = 8;

/// Requests sent before the first answer is awaited.
const PIPELINE: usize = 64;

type Answer<T> = Result<T, tokio_postgres::Error>;

impl Pool {
    /// Runs a request that changes nothing; once more after a broken connection.
    pub(super) async fn read<T>(&self, request: impl AsyncFn(&Session) -> Answer<T>) -> Result<T, Error> {
        let mut repeated = false;
        loop {
            let lease = self.lease().await?;
            match timeout(self.limit(), request(&lease.session)).await {
                Ok(Ok(answer)) => {
                    lease.keep();
                    return Ok(answer);
                }
                Ok(Err(error)) if problem::broken(&error) => {
                    self.forget();
                    if repeated {
                        return Err(problem::error(&error));
                    }
                    repeated = true;
                }
                Ok(Err(error)) => {
                    lease.keep();
                    return Err(problem::error(&error));
                }
                Err(_) => return Err(no_answer()),
            }
        }
    }

    /// Runs one statement that is a transaction of its own.
    pub(super) async fn write<T>(&self, request: impl AsyncFn(&Session) -> Answer<T>) -> Result<T, Error> {
        let mut attempt = 0;
        loop {
            let lease = self.lease().await?;
            attempt += 1;
            match timeout(self.limit(), request(&lease.session)).await {
                Ok(Ok(answer)) => {
                    lease.keep();
                    return Ok(answer);
                }
                Ok(Err(error)) if problem::broken(&error) => {
                    self.forget();
                    return Err(Error::OutcomeUnknown(problem::text(&error)));
                }
                Ok(Err(error)) if problem::read_only(&error) && attempt < 2 => self.forget(),
                Ok(Err(error)) => {
                    lease.keep();
                    if !problem::conflict(&error) || attempt >= ATTEMPTS {
                        return Err(problem::error(&error));
                    }
                    pause(attempt).await;
                }
                Err(_) => return Err(Error::OutcomeUnknown("no answer in time".into())),
            }
        }
    }

    /// Does all steps in one transaction if every condition holds; whether it did.
    pub(super) async fn transact(&self, steps: &[Step<'_>]) -> Result<bool, Error> {
        let mut attempt = 0;
        loop {
            let lease = self.lease().await?;
            attempt += 1;
            let session = &lease.session;
            let error = match timeout(self.limit(), before_commit(session, steps)).await {
                Ok(Ok(holds)) => {
                    let end = if holds { "COMMIT" } else { "ROLLBACK" };
                    match timeout(self.limit(), session.client.batch_execute(end)).await {
                        Ok(Ok(())) => {
                            lease.keep();
                            return Ok(holds);
                        }
                        // Nothing was to be changed; the dropped connection undoes the rest.
                        _ if !holds => return Ok(false),
                        Ok(Err(error)) if problem::broken(&error) => {
                            self.forget();
                            return Err(Error::OutcomeUnknown(problem::text(&error)));
                        }
                        Ok(Err(error)) => error,
                        Err(_) => return Err(Error::OutcomeUnknown("no answer in time".into())),
                    }
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(no_answer()),
            };
            // The commit was not sent or was refused: nothing took place, so it is safe to do it again.
            let repeat = if problem::broken(&error) || problem::read_only(&error) {
                self.forget();
                attempt < 2
            } else {
                if let Ok(Ok(())) = timeout(self.limit(), session.client.batch_execute("ROLLBACK")).await {
                    lease.keep();
                }
                problem::conflict(&error) && attempt < ATTEMPTS
            };
            if !repeat {
                return Err(problem::error(&error));
            }
            pause(attempt).await;
        }
    }
}

/// Begins, runs all steps and tells whether the conditions hold.
async fn before_commit(session: &Session, steps: &[Step<'_>]) -> Answer<bool> {
    let mut begin = Some(session.client.batch_execute("BEGIN"));
    for steps in steps.chunks(PIPELINE) {
        let mut requests: Vec<Request<'_>> = Vec::with_capacity(steps.len() + 1);
        if let Some(begin) = begin.take() {
            requests.push(Box::pin(async move { begin.await.map(|()| 0) }));
        }
        let offset = requests.len();
        requests.extend(steps.iter().map(|step| -> Request<'_> { Box::pin(run(session, step)) }));
        let mut holds = true;
        // The first failure is the cause of the others.
        for (index, answer) in in_order(requests).await.into_iter().enumerate() {
            let rows = answer?;
            let step = index.checked_sub(offset).and_then(|index| steps.get(index));
            holds &= rows > 0 || !step.is_some_and(Step::is_condition);
        }
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

type Request<'a> = Pin<Box<dyn Future<Output = Answer<u64>> + Send + 'a>>;

/// Sends all requests in their order before it waits, and gives the answers in that order. tokio-postgres sends a
/// prepared request when its future is first polled.
async fn in_order(mut requests: Vec<Request<'_>>) -> Vec<Answer<u64>> {
    let mut answers: Vec<Option<Answer<u64>>> = requests.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for (request, answer) in requests.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match request.as_mut().poll(cx) {
                    Poll::Ready(ready) => *answer = Some(ready),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// One step; how many rows it touched.
async fn run(session: &Session, step: &Step<'_>) -> Answer<u64> {
    let (client, sql, ns, key) = (&session.client, &session.sql, &step.ns, &step.key);
    match &step.kind {
        Kind::Lock(value) => client.execute(&sql.lock, &[ns, key, value]).await,
        Kind::Insert(value) => client.execute(&sql.insert, &[ns, key, value]).await,
        Kind::Upsert(value) => client.execute(&sql.upsert, &[ns, key, value]).await,
        Kind::Update(value) => client.execute(&sql.update, &[ns, key, value]).await,
        Kind::Delete => client.execute(&sql.delete, &[ns, key]).await,
    }
}

/// Lets the other transaction get ahead: a few milliseconds, more each time.
async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(3 * u64::from(attempt))).await;
}
