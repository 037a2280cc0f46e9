//! The store in a PostgreSQL database, shared by all replicas of Trustee.
//!
//! Runs on the workload owner's side; the database is trusted to keep and order data, not to keep secrets: those
//! are sealed before they come here. Connections to anything but this machine are encrypted and verified.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::Error;

mod block_on;
mod operations;
mod plan;
mod pool;
mod problem;
mod schema;
mod session;
mod snapshot;
mod target;
mod tls;
mod transaction;

#[cfg(test)]
mod lost_answer_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use pool::Pool;

/// How [`PostgresStore`] uses its database.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Most connections at once (8); at least 1.
    pub connections: usize,
    /// How long a call waits for a free connection before [`Error::Unavailable`] (10 s).
    pub wait: Duration,
    /// How long connecting may take (5 s).
    pub connect_timeout: Duration,
    /// How long one statement may take (15 s); the client gives up 5 s later.
    pub statement_timeout: Duration,
    /// The password, where it is not in the URL.
    pub password: Option<Zeroizing<String>>,
    /// PEM text of the certificate authorities the server's certificate may come from; `None`: the file in the
    /// URL's `sslrootcert`, else the system's.
    pub ca: Option<String>,
    /// PEM bundle of the system's authorities; `None`: where Debian, Fedora and Alpine keep it.
    pub system_roots: Option<PathBuf>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        PostgresOptions {
            connections: 8,
            wait: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(15),
            password: None,
            ca: None,
            system_roots: None,
        }
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("connections", &self.connections)
            .field("wait", &self.wait)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

/// State in one table of a PostgreSQL database.
///
/// Calls block their thread; they work outside any async runtime, in blocking threads, and (blocking it) even in
/// an async one. Writes are confirmed after the server flushed them (`synchronous_commit` is put to `on`). A read
/// is repeated once after a broken connection. A write is repeated only where it certainly did not take place;
/// otherwise the answer is [`Error::OutcomeUnknown`].
pub struct PostgresStore {
    pool: Pool,
    /// Drives the connections. `None` only while being dropped.
    runtime: Option<Runtime>,
}

impl PostgresStore {
    /// Connects to the database at `url` and creates the tables if there are none.
    ///
    /// `url` is `postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?sslmode=…&sslrootcert=FILE]` or the same as
    /// libpq's `name=value` text; several hosts are tried in turn until one accepts writes. `sslmode`:
    /// - `require`, `verify-ca`, `verify-full`: TLS, with certificate and host name verified;
    /// - `prefer` (the default), `allow`: on this machine (Unix socket, loopback) TLS if authorities are given, else
    ///   none; to any other host like `require`;
    /// - `disable`: no TLS, on this machine only.
    ///
    /// # Errors
    /// [`Error::Settings`]: the URL or the certificates are unusable, plain text would leave this machine, or the
    /// server does not flush (`fsync=off`) or is not UTF-8. [`Error::Unavailable`]: no connection.
    /// [`Error::Corrupt`]: the tables are another program's or a newer version's.
    pub fn open(url: &str, options: PostgresOptions) -> Result<Self, Error> {
        let target = target::parse(url, &options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cocoon-postgres")
            .enable_all()
            .build()
            .map_err(|e| Error::Unavailable(format!("no threads for its connections: {e}")))?;
        let pool = Pool::new(target, &options, runtime.handle().clone());
        let store = PostgresStore { pool, runtime: Some(runtime) };
        store.block_on(store.pool.prepare_schema())?;
        Ok(store)
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on::block_on(self.pool.handle(), future)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            // Waiting for the threads would panic where this is dropped inside an async runtime.
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}
