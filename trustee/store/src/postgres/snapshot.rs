//! Reading everything as of one moment, with bounded memory.

use std::pin::pin;

use futures::StreamExt;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::{IsolationLevel, Portal, Transaction};

use super::pool::no_answer;
use super::{PostgresStore, problem};
use crate::{Error, Record};

/// Rows asked for at once. They are read one by one: the server waits until the connection takes more.
const ROWS: i32 = 64;

const ALL: &str = "SELECT ns, key, value FROM cocoon_state ORDER BY ns, key";

impl PostgresStore {
    /// Gives every record to `each` from one read-only transaction that sees one moment.
    pub(super) fn each_record(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        let mut repeated = false;
        loop {
            let mut lease = self.block_on(self.pool.lease())?;
            let (transaction, portal) = match self.within_limit(async {
                let builder = lease.session.client.build_transaction();
                let start = builder.isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
                let transaction = start.await?;
                // `each` may be slow; our own time limits are those for each row.
                transaction
                    .batch_execute(
                        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
                    )
                    .await?;
                let portal = transaction.bind(ALL, &[]).await?;
                Ok::<_, tokio_postgres::Error>((transaction, portal))
            }) {
                Ok(Ok(begun)) => begun,
                Ok(Err(error)) if problem::broken(&error) && !repeated => {
                    self.pool.forget();
                    repeated = true;
                    continue;
                }
                Ok(Err(error)) => return Err(problem::error(&error)),
                Err(_) => return Err(no_answer()),
            };
            let result = self.rows(&transaction, &portal, each);
            // A connection that does not end its transaction is dropped with it.
            let ended = self.within_limit(transaction.rollback());
            if matches!(ended, Ok(Ok(()))) {
                lease.keep();
            }
            return result;
        }
    }

    /// Waits for `future`, but not longer than for any answer.
    fn within_limit<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        // The timer must be made inside the runtime's context, hence the block.
        self.block_on(async { timeout(self.pool.limit(), future).await })
    }

    fn rows(
        &self,
        transaction: &Transaction<'_>,
        portal: &Portal,
        each: &mut dyn FnMut(Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error: tokio_postgres::Error| problem::error(&error);
        loop {
            let stream = self.within_limit(transaction.query_portal_raw(portal, ROWS));
            let mut stream = pin!(stream.map_err(|_| no_answer())?.map_err(failed)?);
            let mut found = 0;
            while let Some(row) = self.within_limit(stream.next()).map_err(|_| no_answer())? {
                let row = row.map_err(failed)?;
                let text = |column| row.try_get(column).map_err(failed);
                let value = row.try_get(2).map_err(failed)?;
                found += 1;
                each(Record { ns: text(0)?, key: text(1)?, value })?;
            }
            if found < ROWS {
                return Ok(());
            }
        }
    }
}
