//! How policies and their versions are written down.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{Error, Kind};

/// Most versions of one policy that are kept; the oldest that is not in force goes first.
pub const MAX_VERSIONS: usize = 100;
/// Longest author, in bytes.
const MAX_AUTHOR: usize = 256;
/// Longest note, in bytes.
const MAX_NOTE: usize = 1024;

/// One version of a policy, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyVersion {
    /// The policy's id.
    pub id: String,
    /// What it decides.
    pub kind: Kind,
    /// Number, from 1, never used twice while the policy exists.
    pub version: u64,
    /// SHA-256 of the text, 64 lower-case hex digits.
    pub sha256: String,
    /// Length of the text in bytes.
    pub size: u64,
    /// Who stored it.
    pub author: String,
    /// Why.
    pub note: String,
    /// When, in seconds since 1970.
    pub created_unix: u64,
    /// Whether it is the version in force.
    #[serde(skip)]
    pub active: bool,
}

/// A policy: all its versions, oldest first, and which is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    pub kind: Kind,
    pub active: u64,
    pub next: u64,
    pub versions: Vec<PolicyVersion>,
}

/// The small record that says which version is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Active {
    pub kind: Kind,
    pub version: u64,
    pub sha256: String,
}

impl Index {
    /// A policy without versions.
    pub fn new(kind: Kind) -> Self {
        Index { kind, active: 0, next: 1, versions: Vec::new() }
    }

    /// The stored form read back; `Err` for anything this crate would not have written.
    pub fn parse(id: &str, json: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Damaged(id.to_owned());
        let index: Index = serde_json::from_slice(json).map_err(|_| damaged())?;
        let sound = |v: &PolicyVersion| v.id == id && v.kind == index.kind && v.version < index.next;
        if !index.versions.iter().all(sound) || index.find(index.active).is_none() {
            return Err(damaged());
        }
        Ok(index)
    }

    /// A version, if it is kept.
    pub fn find(&self, version: u64) -> Option<&PolicyVersion> {
        self.versions.iter().find(|v| v.version == version)
    }

    /// A version as callers see it.
    pub fn shown(&self, version: &PolicyVersion) -> PolicyVersion {
        PolicyVersion { active: version.version == self.active, ..version.clone() }
    }

    /// The small record.
    pub fn active_record(&self, id: &str) -> Result<Active, Error> {
        let version = self.find(self.active).ok_or_else(|| Error::Damaged(id.to_owned()))?;
        Ok(Active { kind: self.kind, version: version.version, sha256: version.sha256.clone() })
    }

    /// Takes out the oldest versions beyond the limit, never the one in force; their numbers.
    pub fn drop_oldest(&mut self) -> Vec<u64> {
        let mut dropped = Vec::new();
        while self.versions.len() > MAX_VERSIONS {
            let Some(at) = self.versions.iter().position(|v| v.version != self.active) else { break };
            dropped.push(self.versions.remove(at).version);
        }
        dropped
    }
}

/// JSON of a record.
pub(crate) fn json<T: Serialize>(id: &str, record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|_| Error::Damaged(id.to_owned()))
}

/// SHA-256 as lower-case hex digits.
pub(crate) fn sha256(text: &[u8]) -> String {
    hex::encode(digest(&SHA256, text))
}

/// Whether an id has the allowed form: 1–64 letters, digits, `_`, `.` and `-`.
pub(crate) fn valid_id(id: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    !id.is_empty() && id.len() <= 64 && id.bytes().all(fine)
}

/// Checks what an administrator says about a version.
pub(crate) fn check_labels(author: &str, note: &str) -> Result<(), Error> {
    let bad = |text: &str, most| text.len() > most || text.chars().any(|c| c.is_control() && c != '\n');
    if author.is_empty() || author.contains('\n') || bad(author, MAX_AUTHOR) {
        return Err(Error::Label("the author"));
    }
    if bad(note, MAX_NOTE) { Err(Error::Label("the note")) } else { Ok(()) }
}
