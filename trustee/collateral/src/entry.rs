//! A document with what is known about it, and its form in files.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::collateral::{Document, Need, freshness};
use cocoon_evidence::x509::Validity;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest name of a source that is kept.
const MAX_FROM: usize = 120;
/// Clocks differ by less; a document that begins later is not of now.
const SKEW: u64 = 24 * 3600;

/// A document at hand. Its kind and platform were looked at, its signatures were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it answers.
    pub need: Need,
    /// The document.
    pub document: Arc<Document>,
    /// When it was last fetched, Unix seconds.
    pub fetched_unix: u64,
    /// Who gave it, printable.
    pub from: String,
    /// The dates it gives itself; `None` where its kind has none.
    pub validity: Option<Validity>,
}

/// How good an entry is at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No need to ask again.
    Fresh,
    /// Good, and time to look for a newer one.
    Due,
    /// Its own dates say that it is over.
    Expired,
}

/// When documents are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Lists and TCB information change at any time: how old they may become.
    pub refresh: Duration,
    /// Nothing is asked for again before this.
    pub least: Duration,
}

impl Default for Policy {
    /// A day, and an hour.
    fn default() -> Self {
        Policy { refresh: Duration::from_secs(24 * 3600), least: Duration::from_secs(3600) }
    }
}

impl Entry {
    /// Takes a document for what it should be.
    ///
    /// # Errors
    /// [`Error::Need`], [`Error::Document`].
    pub fn new(need: Need, document: Document, from: &str, fetched_unix: u64) -> Result<Self, Error> {
        need.check().map_err(Error::Need)?;
        let validity = freshness(&need, &document).map_err(Error::Document)?;
        let from = from.chars().filter(|c| c.is_ascii_graphic()).take(MAX_FROM).collect();
        Ok(Entry { need, document: Arc::new(document), fetched_unix, from, validity })
    }

    /// How good it is at `now`.
    pub fn state(&self, now: u64, policy: &Policy) -> State {
        match self.validity {
            Some(validity) if now > validity.not_after => State::Expired,
            _ if self.due_unix(policy).is_some_and(|due| now >= due) => State::Due,
            _ => State::Fresh,
        }
    }

    /// When to look for a newer one: after two thirds of its life, or when its kind's interval is over. `None` for what
    /// never changes.
    fn due_unix(&self, policy: &Policy) -> Option<u64> {
        let by_life = self.validity.map(|v| {
            let life = v.not_after.saturating_sub(v.not_before);
            v.not_after.saturating_sub(life / 3)
        });
        let interval = match self.need {
            Need::AmdVcek { .. } | Need::HygonCertificates { .. } => None,
            Need::NvidiaRim { .. } => Some(policy.refresh.as_secs().saturating_mul(7)),
            _ => Some(policy.refresh.as_secs()),
        };
        let by_age = interval.map(|seconds| self.fetched_unix.saturating_add(seconds));
        let due = match (by_life, by_age) {
            (Some(life), Some(age)) => life.min(age),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        // A vendor that still serves the same document is not asked at every use.
        Some(due.max(self.fetched_unix.saturating_add(policy.least.as_secs())))
    }

    /// Whether `other` was issued later than this one. Of documents without dates none was.
    pub fn is_older_than(&self, other: &Entry) -> bool {
        match (self.validity, other.validity) {
            (Some(own), Some(others)) => own.not_before < others.not_before,
            _ => false,
        }
    }

    /// Whether its dates begin so far ahead that no vendor issued it before `now`. Such a document would shut out real ones.
    pub(crate) fn is_of_the_future(&self, now: u64) -> bool {
        self.validity.is_some_and(|v| v.not_before > now.saturating_add(SKEW))
    }

    /// Size of document and chain, bytes.
    pub fn size(&self) -> usize {
        self.document.body.len().saturating_add(self.document.issuer_chain.len())
    }

    /// SHA-256 over document and chain.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(self.size().saturating_add(8));
        bytes.extend_from_slice(&u64::try_from(self.document.body.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(&self.document.body);
        bytes.extend_from_slice(self.document.issuer_chain.as_bytes());
        let mut all = [0; 32];
        all.iter_mut().zip(digest(&SHA256, &bytes).as_ref()).for_each(|(to, from)| *to = *from);
        all
    }
}

/// An entry in the cache folder and in bundles.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    need: Need,
    fetched_unix: u64,
    from: String,
    /// For readers; what counts is what the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_from_unix: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_until_unix: Option<u64>,
    /// Lower-case hex; finds damaged files, protects against nobody.
    sha256: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    issuer_chain: String,
    /// Base64.
    body: String,
}

impl Record {
    pub fn of(entry: &Entry) -> Self {
        Record {
            need: entry.need.clone(),
            fetched_unix: entry.fetched_unix,
            from: entry.from.clone(),
            valid_from_unix: entry.validity.map(|v| v.not_before),
            valid_until_unix: entry.validity.map(|v| v.not_after),
            sha256: hex::encode(entry.digest()),
            issuer_chain: entry.document.issuer_chain.clone(),
            body: STANDARD.encode(&entry.document.body),
        }
    }

    /// A short name for messages, also of a record that is refused.
    pub fn label(&self) -> String {
        match self.need.check() {
            Ok(()) => self.need.to_string(),
            Err(_) => self.need.kind().to_owned(),
        }
    }

    /// # Errors
    /// Where any part contradicts another.
    pub fn open(self) -> Result<Entry, Error> {
        let Record { need, fetched_unix, from, sha256, issuer_chain, body, .. } = self;
        let body = STANDARD.decode(body).map_err(|_| Error::bundle("its body is not base64"))?;
        let entry = Entry::new(need, Document { body, issuer_chain }, &from, fetched_unix)?;
        if hex::encode(entry.digest()) != sha256 {
            return Err(Error::bundle("its hash differs: it is damaged"));
        }
        Ok(entry)
    }
}
