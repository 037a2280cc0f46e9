//! in-toto statements with SLSA provenance: what a trusted builder built.
//!
//! Each subject becomes a reference value of the subject's name: its SHA-256, SHA-384 and SHA-512 digests. Statements of
//! other predicates (scan results, verdicts) name subjects too but do not vouch for them, and are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::document::{Document, Entry, Format, Judge, refused};
use crate::{Error, dsse, json};

const FORMAT: Format = Format::InToto;
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"];
const PROVENANCE: &str = "https://slsa.dev/provenance/v";
/// Known digests: name, and length in hex digits.
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

/// Only looked at to tell a bare statement from an envelope.
#[derive(Deserialize)]
struct Bare {
    #[serde(rename = "_type")]
    kind: Option<serde::de::IgnoredAny>,
    #[serde(rename = "payloadType")]
    payload_type: Option<serde::de::IgnoredAny>,
}

pub(crate) fn read(document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let shape: Bare = json::parse(FORMAT.as_str(), document)?;
    if shape.kind.is_some() && shape.payload_type.is_none() {
        let signed_by = judge.unsigned(FORMAT)?;
        return statement(document, signed_by);
    }
    let (payload, signed_by) = dsse::open(FORMAT, document, PAYLOAD_TYPE, judge)?;
    statement(&payload, signed_by)
}

fn statement(bytes: &[u8], signed_by: Option<String>) -> Result<Document, Error> {
    let statement: Statement = json::parse(FORMAT.as_str(), bytes)?;
    if !STATEMENTS.contains(&statement.kind.as_str()) {
        return Err(refused(FORMAT, "not an in-toto statement of version 0.1 or 1"));
    }
    if !statement.predicate_type.starts_with(PROVENANCE) {
        return Err(refused(FORMAT, "the predicate is not SLSA provenance"));
    }
    let mut read = Document { signed_by, ..Document::default() };
    for subject in statement.subject {
        let mut values = Vec::new();
        for (algorithm, length) in DIGESTS {
            let Some(hex) = subject.digest.get(algorithm) else { continue };
            if hex.len() != length || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refused(FORMAT, "a digest is not hex of its algorithm's length"));
            }
            values.push(Value::String(hex.to_ascii_lowercase()));
        }
        if values.is_empty() {
            return Err(refused(FORMAT, "a subject has no SHA-256, SHA-384 or SHA-512 digest"));
        }
        read.add(FORMAT, Entry { name: subject.name, values, single: false })?;
    }
    Ok(read)
}
