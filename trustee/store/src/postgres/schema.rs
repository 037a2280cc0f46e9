//! The tables: created at first use, checked at every open.

use tokio_postgres::{Client, Row};

use crate::Error;

use super::problem;

/// Version of the tables that this program makes and understands.
const VERSION: i32 = 1;

/// Key of the advisory lock under which one of several replicas creates the tables: "cocoon" in ASCII.
const LOCK: i64 = 0x636f_636f_6f6e;

/// Columns compare by bytes (`COLLATE "C"`), so that order and prefixes are those of the other stores. Values are
/// mostly sealed; trying to compress them would be wasted (`EXTERNAL`).
const CREATE: &str = r#"
    CREATE TABLE cocoon_state (
        ns text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (ns, key)
    );
    ALTER TABLE cocoon_state ALTER COLUMN value SET STORAGE EXTERNAL;
    CREATE TABLE cocoon_schema (version integer NOT NULL);
"#;

const SERVER: &str = "SELECT current_setting('fsync'), current_setting('server_encoding'), \
    current_setting('synchronous_commit')";

const TABLES: &str =
    "SELECT to_regclass('cocoon_state') IS NOT NULL, to_regclass('cocoon_schema') IS NOT NULL";

const SHAPE: &str = "SELECT a.attname::text, format_type(a.atttypid, NULL), coalesce(l.collname::text, '') \
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_collation l ON l.oid = a.attcollation \
    WHERE c.oid = to_regclass('cocoon_state') AND c.relkind = 'r' AND c.relpersistence = 'p' \
    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Makes sure that the server flushes and that the tables are there and ours.
pub(super) async fn ensure(client: &mut Client) -> Result<(), Error> {
    let server = client.query_one(SERVER, &[]).await.map_err(|e| problem::error(&e))?;
    if text(&server, 0) != "on" {
        return Err(Error::Settings("the server has fsync=off: it would lose what it confirmed".into()));
    }
    if text(&server, 1) != "UTF8" {
        return Err(Error::Settings("the database's encoding is not UTF8".into()));
    }
    if !matches!(text(&server, 2).as_str(), "on" | "remote_apply") {
        return Err(Error::Settings("synchronous_commit cannot be switched on".into()));
    }
    in_transaction(client).await
}

async fn in_transaction(client: &mut Client) -> Result<(), Error> {
    let failed = |error: tokio_postgres::Error| problem::error(&error);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let tables = transaction.query_one(TABLES, &[]).await.map_err(failed)?;
    match (flag(&tables, 0), flag(&tables, 1)) {
        (false, false) => {
            transaction.batch_execute(CREATE).await.map_err(failed)?;
            let insert = "INSERT INTO cocoon_schema VALUES ($1)";
            transaction.execute(insert, &[&VERSION]).await.map_err(failed)?;
        }
        (true, true) => {
            let rows =
                transaction.query("SELECT version FROM cocoon_schema LIMIT 2", &[]).await.map_err(failed)?;
            check_version(&rows)?;
            let columns = transaction.query(SHAPE, &[]).await.map_err(failed)?;
            check_shape(&columns)?;
        }
        _ => {
            return Err(Error::Corrupt(
                "the database has only one of the tables cocoon_state, cocoon_schema".into(),
            ));
        }
    }
    transaction.commit().await.map_err(failed)
}

fn check_version(rows: &[Row]) -> Result<(), Error> {
    match rows {
        [row] => match row.try_get::<_, i32>(0) {
            Ok(VERSION) => Ok(()),
            Ok(other) if other > VERSION => Err(Error::Corrupt(format!(
                "the database's tables are version {other}, this program knows up to {VERSION}: use a newer one"
            ))),
            Ok(other) => {
                Err(Error::Corrupt(format!("the database's tables have the unknown version {other}")))
            }
            Err(_) => Err(Error::Corrupt("the table cocoon_schema is another program's".into())),
        },
        _ => Err(Error::Corrupt("the table cocoon_schema does not hold exactly one version".into())),
    }
}

fn check_shape(columns: &[Row]) -> Result<(), Error> {
    let found: Vec<_> =
        columns.iter().map(|row| [text(row, 0), text(row, 1), text(row, 2)].join(" ")).collect();
    if found != ["ns text C", "key text C", "value bytea "] {
        return Err(Error::Corrupt(
            "the table cocoon_state is not a logged table (ns text C, key text C, value bytea)".into(),
        ));
    }
    Ok(())
}

fn text(row: &Row, column: usize) -> String {
    row.try_get(column).unwrap_or_default()
}

fn flag(row: &Row, column: usize) -> bool {
    row.try_get(column).unwrap_or_default()
}
