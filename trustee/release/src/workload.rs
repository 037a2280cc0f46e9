//! A registered workload: which plan it is and what it may have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Error, ResourcePath};

/// Largest secret or resource in bytes (1 MiB).
pub const MAX_SECRET: usize = 1024 * 1024;

/// Most secrets, and most allowed shared resources, of one workload.
const MAX_PATHS: usize = 256;

/// The least appraisal with which a workload gets its secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MinStatus {
    /// Some claim is weaker than the reference values ask (EAR tier 32–95).
    Warning,
    /// Every claim is as the reference values ask (EAR tier 2–31).
    #[default]
    Affirming,
}

impl fmt::Display for MinStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MinStatus::Warning => "warning",
            MinStatus::Affirming => "affirming",
        })
    }
}

/// What the owner registers, with the secrets in the clear; see [`Workload`] for what is kept of it.
#[derive(Clone)]
pub struct Registration {
    /// Initdata digest (32, 48 or 64 bytes) in hex.
    pub digest_hex: String,
    /// Name for people, up to 128 characters.
    pub name: String,
    /// Secrets of this workload only, by path; they hide a shared resource of the same path.
    pub secrets: BTreeMap<ResourcePath, Zeroizing<Vec<u8>>>,
    /// Shared resources it may have too.
    pub allow: BTreeSet<ResourcePath>,
    /// The least status.
    pub min_status: MinStatus,
    /// Whether a simulated TEE is good enough.
    pub accept_simulated: bool,
    /// When the registration ends, in seconds since 1970; `None` is never.
    pub expires_unix: Option<u64>,
}

/// The kept record of a workload. Its secrets lie beside it, sealed one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Initdata digest in lower-case hex.
    pub digest_hex: String,
    /// Name for people.
    pub name: String,
    /// Paths of its own secrets.
    pub secrets: BTreeSet<ResourcePath>,
    /// Shared resources it may have.
    pub allow: BTreeSet<ResourcePath>,
    /// The least status.
    pub min_status: MinStatus,
    /// Whether a simulated TEE is good enough.
    pub accept_simulated: bool,
    /// When it was registered.
    pub registered_unix: u64,
    /// When it ends.
    pub expires_unix: Option<u64>,
}

impl Workload {
    /// Whether its time is over.
    pub fn expired(&self, now_unix: u64) -> bool {
        self.expires_unix.is_some_and(|end| now_unix >= end)
    }
}

impl Registration {
    /// Checks all limits and gives the record to keep.
    pub(crate) fn record(&self, now_unix: u64) -> Result<Workload, Error> {
        let refused = |reason: &str| Err(Error::Registration(reason.into()));
        if self.name.is_empty() || self.name.chars().count() > 128 || self.name.chars().any(char::is_control)
        {
            return refused("a name has 1 to 128 printable characters");
        }
        if self.secrets.len() > MAX_PATHS || self.allow.len() > MAX_PATHS {
            return refused("more than 256 secrets or allowed resources");
        }
        if let Some(secret) = self.secrets.values().find(|s| s.len() > MAX_SECRET) {
            return Err(Error::TooLarge(secret.len()));
        }
        if self.expires_unix.is_some_and(|end| end <= now_unix) {
            return refused("it would have expired already");
        }
        host_data_hex(&self.digest_hex)?;
        Ok(Workload {
            digest_hex: self.digest_hex.to_ascii_lowercase(),
            name: self.name.clone(),
            secrets: self.secrets.keys().cloned().collect(),
            allow: self.allow.clone(),
            min_status: self.min_status,
            accept_simulated: self.accept_simulated,
            registered_unix: now_unix,
            expires_unix: self.expires_unix,
        })
    }
}

/// The hex of HOST_DATA under which SNP binds a digest: its first 32 bytes, zero-padded (trustee.md §2.6).
///
/// Refuses a digest that no hash gives, and the one that equals "no initdata".
pub(crate) fn host_data_hex(digest_hex: &str) -> Result<String, Error> {
    let refused = |reason: &str| Err(Error::Registration(format!("initdata digest {reason}")));
    let Ok(mut digest) = hex::decode(digest_hex) else { return refused("is not hex") };
    if !matches!(digest.len(), 32 | 48 | 64) {
        return refused("is not 32, 48 or 64 bytes");
    }
    digest.resize(32, 0);
    if digest.iter().all(|b| *b == 0) {
        return refused("is zero");
    }
    Ok(hex::encode(digest))
}
