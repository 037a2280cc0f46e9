//! What the server's and the connection's failures mean.

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::Error;

/// Whether the connection is unusable after this failure.
pub(super) fn broken(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none_or(|e| matches!(severity(e), Severity::Fatal | Severity::Panic))
}

/// Whether the server takes no writes any more: it became another's standby. Nothing was changed, and a new
/// connection may find the one that does.
pub(super) fn read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Whether the server undid the transaction because of another one and asks to repeat it.
pub(super) fn conflict(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
}

fn severity(error: &DbError) -> Severity {
    error.parsed_severity().unwrap_or(match error.severity() {
        "ERROR" => Severity::Error,
        _ => Severity::Fatal,
    })
}

/// The failure of something that certainly changed nothing.
pub(super) fn error(error: &tokio_postgres::Error) -> Error {
    let said = text(error);
    let Some(code) = error.code() else { return Error::Unavailable(said) };
    match code.code() {
        // Disk full; project limits of the server (53000 is the class).
        "53100" => Error::Full(format!("the database ({said})")),
        // Damaged files, and tables that are not ours.
        "XX001" | "XX002" | "42P01" | "42703" | "42804" => Error::Corrupt(format!("the database: {said}")),
        _ => Error::Unavailable(said),
    }
}

/// What the server or the network said, on one line of bounded length. Never a value: of the server's answer only
/// code and message are used, not its detail.
pub(super) fn text(error: &tokio_postgres::Error) -> String {
    let mut said = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => {
            let mut said = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !said.contains(&cause_text) {
                    said = format!("{said}: {cause_text}");
                }
                source = cause.source();
            }
            said
        }
    };
    said = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    said
}
