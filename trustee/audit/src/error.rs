//! What can go wrong with the audit log.

use std::sync::Arc;

use cocoon_stage::{Code, Failure};

/// Audit failure. Those from [`Error::HeadMissing`] on mean that the log is not what was appended and signed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed. Whether the entry was appended is unknown; it was not acknowledged.
    #[error("audit log: {0}")]
    Store(#[source] Arc<cocoon_store::Error>),
    /// An entry breaks a limit; nothing was appended.
    #[error("audit entry: {0}")]
    EntryInvalid(String),
    /// More entries wait than the queue holds; nothing was appended.
    #[error("too many audit entries wait to be written")]
    Overloaded,
    /// Other replicas were faster too many times; nothing was appended.
    #[error("the audit log is written by others without pause")]
    Contended,
    /// The log's writer has ended.
    #[error("the audit log is closed")]
    Closed,
    /// The signer did not sign.
    #[error("the audit log's signer: {0}")]
    Signer(String),
    /// The journal's file can not be used; nothing was read or changed.
    #[error("audit journal {path}: {reason}")]
    Journal {
        /// Its path.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The writer did not move the journal's entries to the store in time.
    #[error("the audit journal's entries were not stored in time")]
    Unflushed,
    /// A key is not usable.
    #[error("audit log key: {0}")]
    Key(&'static str),
    /// The crypto provider or the operating system failed.
    #[error("audit log: {0}")]
    System(&'static str),
    /// There is no such entry or size.
    #[error("the audit log has {size} entries, {asked} was asked for")]
    OutOfRange {
        /// Index or size asked for.
        asked: u64,
        /// Entries there are.
        size: u64,
    },
    /// A proof or signed head does not hold; says which part.
    #[error("audit proof: {0}")]
    ProofInvalid(&'static str),

    /// There are entries or checkpoints, but no head.
    #[error("the audit log's head is missing")]
    HeadMissing,
    /// The head is not one that this program writes.
    #[error("the audit log's head is malformed")]
    HeadMalformed,
    /// There are entries past the end that the head states: the head was put back.
    #[error("the audit log's head says {size} entries, but an entry is stored at {found}")]
    HeadBehind {
        /// Size the head states.
        size: u64,
        /// Index of an entry at or past it.
        found: u64,
    },
    /// The entries are those that were signed at this size; the head states another tree.
    #[error("the audit log's head of size {size} was forged: entries and checkpoints contradict it")]
    HeadForged {
        /// Size of the head.
        size: u64,
    },
    /// The entries are not those that the head of this size was made of, and no checkpoint tells which is right.
    #[error("the entries after {from} do not lead to the audit log's head of size {size}")]
    HeadMismatch {
        /// Entries before this index are proven by a checkpoint.
        from: u64,
        /// Size of the head.
        size: u64,
    },
    /// An entry is gone.
    #[error("audit entry {index} is missing")]
    EntryMissing {
        /// Its index.
        index: u64,
    },
    /// An entry's bytes are not those that were hashed, or not an entry at all.
    #[error("audit entry {index} was altered")]
    EntryAltered {
        /// Its index.
        index: u64,
    },
    /// Entries of this range are not those that were appended there: replaced, swapped or moved.
    #[error("audit entries {from} to {last} are not those that were appended there")]
    EntriesReplaced {
        /// First index of the range.
        from: u64,
        /// Last index of the range.
        last: u64,
    },
    /// A stored inner hash is missing or wrong although the entries are right.
    #[error("the audit log's inner hash {index} of level {level} is missing or wrong")]
    NodeAltered {
        /// Level above the leaves.
        level: u32,
        /// Position within the level.
        index: u64,
    },
    /// There are fewer entries than were signed: the end was cut off or an earlier state was put back.
    #[error("the audit log has {size} entries, but {signed} were signed")]
    Truncated {
        /// Entries there are.
        size: u64,
        /// Size of the signed head.
        signed: u64,
    },
    /// All checkpoints are gone; an untouched log has at least one.
    #[error("the audit log of {size} entries has no signed checkpoint")]
    Unsigned {
        /// Entries there are.
        size: u64,
    },
    /// A stored checkpoint is malformed, for another size, or not signed by the key it names.
    #[error("the checkpoint of size {size} was forged")]
    CheckpointForged {
        /// Size under which it is stored.
        size: u64,
    },
    /// A head is signed by a key that is not the log's.
    #[error("the head of size {size} is signed by key {found}, not by {expected}")]
    KeyReplaced {
        /// Its size.
        size: u64,
        /// Id of the log's key.
        expected: String,
        /// Id of the key that is named.
        found: String,
    },
    /// The first entries are not those that a validly signed head of this size stands for.
    #[error("the entries {from} to {size} are not those that were signed at size {size}")]
    Rewritten {
        /// Entries before this index are proven by an earlier signed head.
        from: u64,
        /// Size of the signed head.
        size: u64,
    },
    /// The store holds another log than the signed head is of.
    #[error("this is audit log {found}, not {expected}")]
    OtherLog {
        /// Id in the signed head.
        expected: String,
        /// Id in the store.
        found: String,
    },
    /// The journal is damaged or was altered before its end; no interrupted write explains it.
    #[error("the audit journal {path} is damaged at byte {at}")]
    JournalDamaged {
        /// Its path.
        path: String,
        /// Where it is damaged; its length if it was cut.
        at: u64,
    },
    /// The journal continues a longer log: the store was put back to an earlier state without its journal. To go on
    /// from that state, move the journal away.
    #[error("the audit log has {size} entries, but its journal continues {base}")]
    JournalAhead {
        /// Entries in the store.
        size: u64,
        /// Entries that were in the store when the journal was begun.
        base: u64,
    },
    /// The store holds other entries where the journal's have their place: one of the two was replaced, or somebody
    /// appended past an open journal.
    #[error("the audit journal's entries from {from} on are not those of the audit log of size {size}")]
    JournalConflict {
        /// The journal's first entry.
        from: u64,
        /// Entries that were compared.
        size: u64,
    },
}

impl Error {
    /// Whether this error means that the stored log was tampered with or damaged.
    pub fn is_tampering(&self) -> bool {
        self.code() == Code::AuditTampered
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Error::Store(error) => error.code(),
            Error::Overloaded | Error::Contended | Error::Unflushed => Code::ServerBusy,
            Error::Key(_) | Error::Journal { .. } => Code::ConfigInvalid,
            Error::OutOfRange { .. } => Code::UsageInvalid,
            Error::EntryInvalid(_) | Error::Closed | Error::Signer(_) | Error::System(_) => Code::Internal,
            Error::ProofInvalid(_)
            | Error::HeadMissing
            | Error::HeadMalformed
            | Error::HeadBehind { .. }
            | Error::HeadForged { .. }
            | Error::HeadMismatch { .. }
            | Error::EntryMissing { .. }
            | Error::EntryAltered { .. }
            | Error::EntriesReplaced { .. }
            | Error::NodeAltered { .. }
            | Error::Truncated { .. }
            | Error::Unsigned { .. }
            | Error::CheckpointForged { .. }
            | Error::KeyReplaced { .. }
            | Error::Rewritten { .. }
            | Error::OtherLog { .. }
            | Error::JournalDamaged { .. }
            | Error::JournalAhead { .. }
            | Error::JournalConflict { .. } => Code::AuditTampered,
        }
    }
}

impl From<cocoon_store::Error> for Error {
    fn from(error: cocoon_store::Error) -> Self {
        Error::Store(Arc::new(error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}
