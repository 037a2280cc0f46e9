//! Import: from a message to stored records, all or nothing, never back to an older version.

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};

use crate::document::{self, Document, Format, Judge};
use crate::sets::{Change, Set, diff};
use crate::store::{TRIES, Writes};
use crate::{DEFAULT_SET, Error, ReferenceValue, ReferenceValues, TrustAnchors};

/// How a document is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Set; `None`: the one the document names, else `default`. Must equal the one a `cocoon` document names.
    pub set: Option<String>,
    /// Source; `None`: the one the document names, else the format's name. Must equal the one a `cocoon` document
    /// names.
    pub source: Option<String>,
    /// From when on the values do not count, in seconds since 1970; the document's own end counts too if earlier.
    pub expires_unix: Option<u64>,
    /// The time now, in seconds since 1970.
    pub now_unix: u64,
    /// Take the document although it is not signed, or signed by somebody who is not trusted now. The caller has
    /// authenticated an administrator who asked for this. A signature that does not fit the document is refused even so.
    pub unsigned_ok: bool,
    /// Take a version older than the stored one.
    pub allow_older: bool,
}

/// A document that was read and judged.
struct Prepared {
    format: Format,
    digest: String,
    document: Document,
    set: String,
    source: String,
    expires_unix: Option<u64>,
}

/// What a document changes, worked out against the store.
struct Plan {
    set: Set,
    set_before: Option<Vec<u8>>,
    put: Vec<ReferenceValue>,
    remove: Vec<ReferenceValue>,
}

impl ReferenceValues {
    /// Imports the document of a message `{"version":"0.1.0","type":…,"payload":<base64>}`.
    ///
    /// Names in the document replace those of the same set and source. What the set held before and the document
    /// no longer names is removed; but `sample` documents, and all documents in the set `default`, only add to what is
    /// there. All of it is stored, or nothing.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_MESSAGE`](crate::MAX_MESSAGE); [`Error::Document`] for what is malformed;
    /// [`Error::Unsigned`], [`Error::Untrusted`], [`Error::Signature`]; [`Error::Validity`]; [`Error::Older`];
    /// [`Error::ReferenceValue`] for a value over a limit; [`Error::Key`] for an unreadable anchor; [`Error::Busy`];
    /// storage.
    pub fn import(
        &self,
        message: &[u8],
        trust: &TrustAnchors,
        options: &ImportOptions,
    ) -> Result<Set, Error> {
        let prepared = prepare(message, trust, options)?;
        for _ in 0..TRIES {
            let plan = self.plan(&prepared, options)?;
            let mut writes = Writes::default();
            writes.set(&plan.set, plan.set_before)?;
            for record in plan.put {
                writes.record(self, record)?;
            }
            for record in &plan.remove {
                writes.without(self, record)?;
            }
            if self.write(&writes)? {
                return Ok(plan.set);
            }
        }
        Err(Error::Busy)
    }

    /// What [`ReferenceValues::import`] of the same message would change in what is accepted now, without storing
    /// anything. A value that another set or source accepts too is no change.
    ///
    /// # Errors
    /// As [`ReferenceValues::import`].
    pub fn preview(
        &self,
        message: &[u8],
        trust: &TrustAnchors,
        options: &ImportOptions,
    ) -> Result<Vec<Change>, Error> {
        let plan = self.plan(&prepare(message, trust, options)?, options)?;
        let replaced: HashSet<String> =
            plan.put.iter().chain(&plan.remove).map(ReferenceValue::key).collect();
        let mut old = self.list()?;
        old.retain(|record| !record.expired(options.now_unix));
        let mut new: Vec<ReferenceValue> =
            old.iter().filter(|record| !replaced.contains(&record.key())).cloned().collect();
        new.extend(plan.put);
        Ok(diff(&old, &new))
    }

    fn plan(&self, prepared: &Prepared, options: &ImportOptions) -> Result<Plan, Error> {
        let stored = self.stored_set(&prepared.set, &prepared.source)?;
        let stored_version = stored.as_ref().map(|(set, _)| set.version);
        let version = match (prepared.document.version, stored_version) {
            (Some(version), Some(stored)) if version < stored && !options.allow_older => {
                return Err(Error::Older { set: prepared.set.clone(), version, stored });
            }
            (Some(version), _) => version,
            (None, stored) => stored.unwrap_or(0).saturating_add(1),
        };
        let mut put = Vec::with_capacity(prepared.document.entries.len());
        for entry in &prepared.document.entries {
            let record = ReferenceValue {
                name: entry.name.clone(),
                values: entry.values.clone(),
                source: prepared.source.clone(),
                registered_unix: options.now_unix,
                expires_unix: prepared.expires_unix,
                version: 1,
                signed_by: prepared.document.signed_by.clone(),
                set: prepared.set.clone(),
                single: entry.single,
            };
            record.check()?;
            put.push(record);
        }
        let remove = if prepared.format == Format::Sample || prepared.set == DEFAULT_SET {
            Vec::new()
        } else {
            let named: HashSet<&str> = put.iter().map(|record| record.name.as_str()).collect();
            let mut before = self.set_records(&prepared.set, Some(&prepared.source))?;
            before.retain(|record| !named.contains(record.name.as_str()));
            before
        };
        let set = Set {
            name: prepared.set.clone(),
            version,
            source: prepared.source.clone(),
            format: prepared.format,
            created_unix: options.now_unix,
            expires_unix: prepared.expires_unix,
            signed_by: prepared.document.signed_by.clone(),
            digest: prepared.digest.clone(),
            count: put.len(),
        };
        Ok(Plan { set, set_before: stored.map(|(_, json)| json), put, remove })
    }
}

fn prepare(message: &[u8], trust: &TrustAnchors, options: &ImportOptions) -> Result<Prepared, Error> {
    let (format, bytes) = document::open(message)?;
    let judge = Judge { trust, now_unix: options.now_unix, unsigned_ok: options.unsigned_ok };
    let document = document::read(format, &bytes, &judge)?;
    let binding = format == Format::Cocoon;
    let set = agreed(options.set.as_ref(), document.set.as_ref(), binding)
        .map_err(|()| document::refused(format, "names another set than the one asked for"))?
        .unwrap_or(DEFAULT_SET)
        .to_owned();
    let source = agreed(options.source.as_ref(), document.source.as_ref(), binding)
        .map_err(|()| document::refused(format, "names another source than the one asked for"))?
        .unwrap_or(format.as_str())
        .to_owned();
    let expires_unix = match (options.expires_unix, document.expires_unix) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    if expires_unix.is_some_and(|end| options.now_unix >= end) {
        return Err(Error::Validity("it has expired"));
    }
    let digest = format!("sha256:{}", hex::encode(digest(&SHA256, &bytes)));
    Ok(Prepared { format, digest, document, set, source, expires_unix })
}

/// What was asked for, else what the document names. Where the document's name is binding, the two must agree.
fn agreed<'a>(
    asked: Option<&'a String>,
    named: Option<&'a String>,
    binding: bool,
) -> Result<Option<&'a str>, ()> {
    match (asked, named) {
        (Some(asked), Some(named)) if binding && asked != named => Err(()),
        (asked, named) => Ok(asked.or(named).map(String::as_str)),
    }
}
