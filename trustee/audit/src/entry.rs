//! One entry of the log and its canonical bytes.

use std::collections::BTreeMap;

use cocoon_stage::Code;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest [`Entry::subject`] in bytes.
pub const MAX_SUBJECT: usize = 400;

/// Longest request id, actor and initdata digest in bytes.
pub const MAX_TEXT: usize = 128;

/// Longest JSON text of [`Entry::details`] in bytes (4 KiB).
pub const MAX_DETAILS: usize = 4096;

/// Longest canonical form of an entry in bytes (12 KiB); the other limits keep every entry below it.
pub const MAX_ENTRY: usize = 12 * 1024;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Trustee started.
    Start,
    /// Trustee stopped as told.
    Stop,
    /// A guest's attestation was appraised.
    Handshake,
    /// A secret was asked for by an attested guest.
    Release,
    /// A request was refused before it became one of the others.
    Refusal,
    /// An administrator read or changed something.
    Admin,
    /// A key of Trustee (token, sealing, TLS) was replaced.
    KeyRotation,
    /// The key of this log was replaced. Written by [`crate::rotate_key`] only.
    LogKeyRotation,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Granted,
    /// It was not done; the code that the caller got, if there is one.
    Refused(Option<Code>),
}

/// An entry. Its canonical form, which is hashed and stored, is the JSON of [`Entry::to_bytes`]. It must hold no
/// secret: everyone who may read the log reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When it happened, seconds since 1970.
    pub at_unix: u64,
    /// What it is about.
    pub kind: Kind,
    /// The request's id as the caller was told it; empty if there was no request.
    pub request_id: String,
    /// The administrator's name, `guest`, or `trustee` for what it does by itself.
    pub actor: String,
    /// What was asked for or changed, e.g. a secret's path.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The workload's initdata digest in hex, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_data: Option<String>,
    /// Further facts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Entry {
    /// An entry with all texts empty.
    pub fn new(at_unix: u64, kind: Kind, outcome: Outcome) -> Self {
        Entry {
            at_unix,
            kind,
            request_id: String::new(),
            actor: String::new(),
            subject: String::new(),
            outcome,
            init_data: None,
            details: BTreeMap::new(),
        }
    }

    /// Sets the request id, cut to [`MAX_TEXT`].
    #[must_use]
    pub fn request_id(mut self, id: &str) -> Self {
        self.request_id = cut(id, MAX_TEXT);
        self
    }

    /// Sets the actor, cut to [`MAX_TEXT`].
    #[must_use]
    pub fn actor(mut self, actor: &str) -> Self {
        self.actor = cut(actor, MAX_TEXT);
        self
    }

    /// Sets the subject, cut to [`MAX_SUBJECT`]: a guest's overlong path must not keep its refusal from the log.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = cut(subject, MAX_SUBJECT);
        self
    }

    /// Sets the initdata digest, cut to [`MAX_TEXT`].
    #[must_use]
    pub fn init_data(mut self, digest: &str) -> Self {
        self.init_data = Some(cut(digest, MAX_TEXT));
        self
    }

    /// Adds a fact; the value is cut to [`MAX_SUBJECT`]. What exceeds [`MAX_DETAILS`] in all is refused on append.
    #[must_use]
    pub fn detail(mut self, name: &str, value: &str) -> Self {
        self.details.insert(cut(name, MAX_TEXT), cut(value, MAX_SUBJECT));
        self
    }

    /// The canonical form: JSON without spaces, members in the order of the fields, absent ones left out, details in
    /// byte order of their names.
    ///
    /// # Errors
    /// [`Error::EntryInvalid`] if a limit is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let texts = [
            ("request id", self.request_id.len(), MAX_TEXT),
            ("actor", self.actor.len(), MAX_TEXT),
            ("subject", self.subject.len(), MAX_SUBJECT),
            ("initdata digest", self.init_data.as_ref().map_or(0, String::len), MAX_TEXT),
        ];
        if let Some((name, length, most)) = texts.into_iter().find(|(_, length, most)| length > most) {
            return Err(Error::EntryInvalid(format!("{name} of {length} bytes, at most {most} are allowed")));
        }
        let unserializable = |_| Error::EntryInvalid("not representable as JSON".into());
        if !self.details.is_empty() {
            let length = self.details.iter().fold(0, |sum: usize, (k, v)| sum + k.len() + v.len());
            if length > MAX_DETAILS
                || serde_json::to_vec(&self.details).map_err(unserializable)?.len() > MAX_DETAILS
            {
                return Err(Error::EntryInvalid(format!("details exceed {MAX_DETAILS} bytes")));
            }
        }
        serde_json::to_vec(self).map_err(unserializable)
    }

    /// Reads a canonical form; `None` if it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_ENTRY {
            return None;
        }
        let entry: Entry = serde_json::from_slice(bytes).ok()?;
        (entry.to_bytes().ok()? == bytes).then_some(entry)
    }
}

/// The longest beginning of `text` of at most `most` bytes that ends between characters.
fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_canonical_form_is_fixed() {
        let entry = Entry::new(7, Kind::Release, Outcome::Refused(Some(Code::ReleaseDenied)))
            .request_id("r1")
            .actor("guest")
            .subject("default/key/\"1\"")
            .init_data("ab")
            .detail("z", "1")
            .detail("a", "2");
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"at_unix":7,"kind":"release","request_id":"r1","actor":"guest","subject":"default/key/\"1\"","outcome":{"refused":"RELEASE-DENIED"},"init_data":"ab","details":{"a":"2","z":"1"}}"#
        );
        assert_eq!(Entry::from_bytes(&bytes), Some(entry));
        let plain = Entry::new(1, Kind::KeyRotation, Outcome::Granted).to_bytes().unwrap();
        assert_eq!(
            String::from_utf8(plain).unwrap(),
            r#"{"at_unix":1,"kind":"key_rotation","request_id":"","actor":"","subject":"","outcome":"granted"}"#
        );
    }

    #[test]
    fn limits_are_enforced() {
        let mut entry = Entry::new(1, Kind::Admin, Outcome::Granted);
        entry.subject = "x".repeat(MAX_SUBJECT + 1);
        assert!(matches!(entry.to_bytes(), Err(Error::EntryInvalid(_))));
        entry.subject.pop();
        assert!(entry.to_bytes().is_ok());
        entry.details.insert("k".into(), "x".repeat(MAX_DETAILS));
        assert!(matches!(entry.to_bytes(), Err(Error::EntryInvalid(_))));
        assert_eq!(Entry::new(1, Kind::Admin, Outcome::Granted).subject(&"é".repeat(300)).subject.len(), 400);
    }

    #[test]
    fn the_worst_entry_stays_below_the_limit() {
        let control = "\u{1}".repeat(MAX_SUBJECT);
        let mut entry = Entry::new(
            u64::MAX,
            Kind::LogKeyRotation,
            Outcome::Refused(Some(Code::AttestMeasurementUnknown)),
        )
        .request_id(&control)
        .actor(&control)
        .subject(&control)
        .init_data(&control);
        entry.details.insert("k".into(), "x".repeat(MAX_DETAILS - 8));
        assert!((8000..MAX_ENTRY).contains(&entry.to_bytes().unwrap().len()));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_only_canonical_ones_are_read(bytes in any::<Vec<u8>>()) {
            if let Some(entry) = Entry::from_bytes(&bytes) {
                prop_assert_eq!(entry.to_bytes().unwrap(), bytes);
            }
        }

        #[test]
        fn every_entry_round_trips(at in any::<u64>(), texts in prop::collection::vec(any::<String>(), 6)) {
            let entry = Entry::new(at, Kind::Refusal, Outcome::Refused(None))
                .request_id(&texts[0]).actor(&texts[1]).subject(&texts[2]).init_data(&texts[3])
                .detail(&texts[4], &texts[5]);
            prop_assert_eq!(Entry::from_bytes(&entry.to_bytes().unwrap()), Some(entry));
        }

        #[test]
        fn altered_forms_are_not_read(at in 0u32..1000, space in 1usize..60) {
            let entry = Entry::new(at.into(), Kind::Admin, Outcome::Granted).subject("s");
            let mut text = String::from_utf8(entry.to_bytes().unwrap()).unwrap();
            text.insert(space, ' ');
            prop_assert_ne!(Entry::from_bytes(text.as_bytes()), Some(entry));
        }
    }
}
