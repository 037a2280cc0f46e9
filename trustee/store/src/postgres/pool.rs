//! The bounded set of connections.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::session::{self, Session};
use super::target::Target;
use super::{PostgresOptions, problem, schema};
use crate::Error;

/// How much longer than the server's own time limit we wait for its answer.
pub(super) const GRACE: Duration = Duration::from_secs(5);

pub(super) struct Pool {
    target: Target,
    idle: Mutex<Vec<Session>>,
    free: Semaphore,
    connections: usize,
    wait: Duration,
    connect: Duration,
    statement: Duration,
    handle: Handle,
}

impl Pool {
    pub(super) fn new(target: Target, options: &PostgresOptions, handle: Handle) -> Self {
        let connections = options.connections.clamp(1, 1000);
        Pool {
            target,
            idle: Mutex::new(Vec::new()),
            free: Semaphore::new(connections),
            connections,
            wait: options.wait,
            connect: options.connect_timeout,
            statement: options.statement_timeout,
            handle,
        }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How long to wait for the answer to one request.
    pub(super) fn limit(&self) -> Duration {
        self.statement + GRACE
    }

    /// Connects once, makes sure of the tables and keeps the connection.
    pub(super) async fn prepare_schema(&self) -> Result<(), Error> {
        let permit = self.permit().await?;
        let mut client = self.connect().await?;
        let work = async {
            schema::ensure(&mut client).await?;
            session::prepare(client).await.map_err(|e| problem::error(&e))
        };
        let session = timeout(self.limit(), work).await.unwrap_or_else(|_| Err(no_answer()))?;
        Lease { pool: self, session, _permit: permit }.keep();
        Ok(())
    }

    /// A connection for one call: one that is idle, else a new one.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, Error> {
        let permit = self.permit().await?;
        while let Some(session) = self.pop() {
            if !session.client.is_closed() {
                return Ok(Lease { pool: self, session, _permit: permit });
            }
        }
        let prepared = timeout(self.limit(), session::prepare(self.connect().await?)).await;
        let session = prepared.map_err(|_| no_answer())?.map_err(|e| problem::error(&e))?;
        Ok(Lease { pool: self, session, _permit: permit })
    }

    async fn connect(&self) -> Result<tokio_postgres::Client, Error> {
        match timeout(self.connect, session::connect(&self.target, self.statement)).await {
            Ok(connected) => connected.map_err(|e| problem::error(&e)),
            Err(_) => Err(Error::Unavailable("connecting took too long".into())),
        }
    }

    /// Drops all idle connections: after one broke, the others are likely to be broken too.
    pub(super) fn forget(&self) {
        let sessions = std::mem::take(&mut *self.idle());
        drop(sessions);
    }

    /// Takes no further calls.
    pub(super) fn close(&self) {
        self.free.close();
        self.forget();
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        match timeout(self.wait, self.free.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::Unavailable("the store is closed".into())),
            Err(_) => Err(Error::Unavailable(format!(
                "all {} connections stayed busy for {} s",
                self.connections,
                self.wait.as_secs_f32()
            ))),
        }
    }

    // A separate function so that the lock is not held while the caller looks at the session.
    fn pop(&self) -> Option<Session> {
        self.idle().pop()
    }

    // Push and pop leave the list whole, so a poisoned lock is still usable.
    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn no_answer() -> Error {
    Error::Unavailable("no answer in time".into())
}

/// A connection in use. Dropping it closes the connection; [`Lease::keep`] gives it back.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    pub(super) session: Session,
    _permit: SemaphorePermit<'p>,
}

impl Lease<'_> {
    pub(super) fn keep(self) {
        let Lease { pool, session, _permit } = self;
        if !session.client.is_closed() && !pool.free.is_closed() {
            pool.idle().push(session);
        }
    }
}
