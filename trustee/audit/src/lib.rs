//! Trustee's audit log: an append-only Merkle tree (RFC 9162 §2.1) of handshakes, releases, refusals and
//! administrators' changes, kept in a [`cocoon_store::Store`].
//!
//! Runs on the workload owner's side, inside Trustee; [`offline`] and [`verify()`] are for an auditor elsewhere. It
//! never writes secrets: callers put names, paths and digests into an [`Entry`], never values or keys.
//!
//! Promises: an entry whose [`Pending`] gave a [`Receipt`] is durable and has its place for ever; entries of several
//! processes on one store get distinct places in one order; a log that contradicts what was signed is never
//! signed again ([`Error`] says where it differs).
//!
//! # The journal
//!
//! A commit of the embedded store writes about ten pages for one entry. With [`Options::journal`] an entry becomes
//! durable by one write and flush of a plain file beside the store; many entries then move to the store in one
//! commit: after 512 of them, 200 ms without a new one, 1 s at most, and before anything is read or signed. Opening the
//! log moves what a killed process left. The file has 8 MiB, all of it written when it is created, and is used again
//! from its beginning when it is full:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 and 4096 | 4096 each | headers of the generations with even and odd numbers |
//! | 8192 and on, at multiples of 64 | 104 + body | records, one per batch of 1 to 512 entries |
//!
//! A header holds a magic (8 bytes), the generation's number (8), the file's length (8), a random nonce (16), the
//! length (4) and bytes of the head that the first record continues, as in the store (log id, size, right edge of the
//! tree), and SHA-256 over all that (32). A record holds a magic (8), the generation's number (8), its own from 0 (8),
//! the first entry's index (8), the number of entries (4), the length of the body (4), the hash of the record before
//! it or of the header (32), and SHA-256 over all that and the body (32); the body holds per entry its length (4) and
//! its canonical bytes. Numbers are big endian; the hashes begin with `cocoon-audit-journal-v1` NUL.
//!
//! # What can be detected
//!
//! Signed tree heads (checkpoints) are kept in the same store as the entries. So:
//!
//! * Who can write the store but lacks the log key can not alter, remove, insert or reorder an entry below the newest
//!   checkpoint that is still stored, nor forge a checkpoint or pass off another key: [`verify()`] names the place.
//! * The same attacker can put back a whole earlier state of the store, with the checkpoints of that time. That
//!   state is consistent and validly signed. Only a [`SignedHead`] remembered elsewhere shows it
//!   ([`Error::Truncated`]); so do running Trustees, which remember the last head they signed.
//! * Entries after the newest checkpoint (at most [`Options::sign_every`] entries or [`Options::sign_after`] of time,
//!   after a kill) are protected by hashes only: who can write the store can replace them together with the head.
//! * A journal is protected by hashes only, too. Altered, moved or foreign records, a journal of another log, and one
//!   that does not continue the entries in the store are refused ([`Error::JournalDamaged`],
//!   [`Error::JournalConflict`], [`Error::JournalAhead`], [`Error::OtherLog`]). Not to be told from a crash or a
//!   restored backup, and so not noticed: the last record damaged, and the whole journal removed, put back to an
//!   earlier state together with the store, or made anew by who knows the format. That takes the entries that were not
//!   stored yet, at most those of about one second while the store works. [`verify()`] reads the store only;
//!   [`pending_in_journal`] shows what a killed Trustee had not stored.
//! * Who has the store *and* the log key can rewrite everything. Only remembered heads show it ([`Error::Rewritten`]).
//!
//! So an auditor fetches the signed head regularly, keeps it elsewhere, and gives the newest one to [`verify()`].

mod commit;
mod committer;
mod entry;
mod error;
mod journal;
mod journaled;
mod key;
mod layout;
mod log;
mod merkle;
mod notary;
pub mod offline;
mod pending;
mod progress;
mod proof;
mod rotate;
mod signed_head;
mod tree;
mod verify;
mod writer;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the sizes in these tests are small")]
mod testing;

pub use entry::{Entry, Kind, MAX_DETAILS, MAX_ENTRY, MAX_SUBJECT, MAX_TEXT, Outcome};
pub use error::Error;
pub use journal::pending_in_journal;
pub use key::{HeadSigner, LogKey, PublicKey};
pub use log::{AuditLog, Logged, MAX_PAGE, Options};
pub use merkle::Hash;
pub use pending::{Pending, Receipt};
pub use proof::{ConsistencyProof, InclusionProof};
pub use rotate::rotate_key;
pub use signed_head::SignedHead;
pub use verify::{Report, verify};
pub use writer::Clock;
