//! One connection, its settings and its prepared statements.

use std::time::Duration;

use tokio_postgres::{Client, Statement};

use super::target::Target;

/// A connection that is ready for use.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) sql: Statements,
}

/// The statements of the table's calls. `$1` is the namespace and `$2` the key.
pub(super) struct Statements {
    pub(super) get: Statement,
    pub(super) insert: Statement,
    pub(super) upsert: Statement,
    pub(super) update: Statement,
    pub(super) delete: Statement,
    pub(super) take: Statement,
    pub(super) lock: Statement,
    pub(super) list: Statement,
    pub(super) scan: Statement,
}

/// Connects and sets what our promises need, whatever the server's or role's defaults are.
pub(super) async fn connect(target: &Target, statement: Duration) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = target.config.connect(target.tls.clone()).await?;
    // Ends when the client is dropped or the connection breaks; the client is told either way.
    tokio::spawn(async move { drop(connection.await) });
    let limit = statement.as_millis().max(1);
    let idle = (statement + super::pool::GRACE).as_millis();
    // `remote_apply` waits for more than `on` does, all other values for less.
    client
        .batch_execute(&format!(
            "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
               WHERE pg_catalog.current_setting('synchronous_commit') <> 'remote_apply'; \
             SET default_transaction_isolation = 'read committed'; \
             SET default_transaction_read_only = off; \
             SET standard_conforming_strings = on; \
             SET statement_timeout = {limit}; \
             SET lock_timeout = {limit}; \
             SET idle_in_transaction_session_timeout = {idle}"
        ))
        .await?;
    Ok(client)
}

/// Prepares all statements; the tables must be there.
pub(super) async fn prepare(client: Client) -> Result<Session, tokio_postgres::Error> {
    let page = "WHERE ns = $1 AND key > $2 AND key >= $3 AND key < $4 ORDER BY key LIMIT $5";
    let (list, scan) = (
        format!("SELECT key FROM cocoon_state {page}"),
        format!("SELECT key, value FROM cocoon_state {page}"),
    );
    let (get, insert, upsert, update, delete, take, lock, list, scan) = tokio::try_join!(
        client.prepare("SELECT value FROM cocoon_state WHERE ns = $1 AND key = $2"),
        client.prepare("INSERT INTO cocoon_state VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"),
        client.prepare(
            "INSERT INTO cocoon_state VALUES ($1, $2, $3) \
             ON CONFLICT (ns, key) DO UPDATE SET value = excluded.value"
        ),
        client.prepare("UPDATE cocoon_state SET value = $3 WHERE ns = $1 AND key = $2"),
        client.prepare("DELETE FROM cocoon_state WHERE ns = $1 AND key = $2"),
        client.prepare("DELETE FROM cocoon_state WHERE ns = $1 AND key = $2 RETURNING value"),
        client.prepare("SELECT 1 FROM cocoon_state WHERE ns = $1 AND key = $2 AND value = $3 FOR UPDATE"),
        client.prepare(&list),
        client.prepare(&scan),
    )?;
    Ok(Session { client, sql: Statements { get, insert, upsert, update, delete, take, lock, list, scan } })
}
