//! The evidence as CoCo's attesters send it: a report and the certificates that came with it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::report::Report;
use crate::Error;

/// Evidence with more certificates than this is refused; a full chain has three.
const MAX_CERTIFICATES: usize = 16;
/// A certificate longer than this is refused; AMD's have about 1.7 kB.
const MAX_CERTIFICATE: usize = 16 * 1024;
/// Evidence text longer than this is refused; a report with a full chain is about 30 kB of JSON.
const MAX_TEXT: usize = 1024 * 1024;

/// One certificate of the evidence. Nothing about it is trusted, its label neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertEntry {
    /// The sender's label: `VCEK`, `VLEK`, `ASK`, `ARK` …
    pub cert_type: String,
    /// DER or PEM.
    pub data: Vec<u8>,
}

/// A report with the certificates sent along.
///
/// JSON: `{"attestation_report": {…}, "cert_chain": null | [{"cert_type": "VCEK", "data": [bytes]}]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The report.
    pub report: Report,
    /// The certificates, in the sender's order.
    pub cert_chain: Vec<CertEntry>,
}

impl Evidence {
    /// Reads JSON text of at most 1 MiB.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::Json(format!("{} bytes are too many", text.len())));
        }
        let value: Value = serde_json::from_slice(text).map_err(|e| Error::Json(e.to_string()))?;
        Evidence::from_json(&value)
    }

    /// Reads the JSON value.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        let missing = Error::Field { field: "attestation_report", reason: "missing" };
        let report = Report::from_json(value.get("attestation_report").ok_or(missing)?)?;
        let entries = match value.get("cert_chain") {
            None | Some(Value::Null) => &[],
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(_) => return Err(Error::Field { field: "cert_chain", reason: "neither null nor an array" }),
        };
        if entries.len() > MAX_CERTIFICATES {
            return Err(Error::Field { field: "cert_chain", reason: "more than 16 certificates" });
        }
        let cert_chain = entries
            .iter()
            .map(|e| WireEntry::deserialize(e).map_err(|e| Error::Json(e.to_string())))
            .map(|e| e.map(|e| CertEntry { cert_type: e.cert_type, data: e.data.0 }))
            .collect::<Result<_, _>>()?;
        Ok(Evidence { report, cert_chain })
    }

    /// The JSON value.
    pub fn to_json(&self) -> Value {
        let entry = |c: &CertEntry| json!({ "cert_type": c.cert_type, "data": c.data });
        let chain = match self.cert_chain.as_slice() {
            [] => Value::Null,
            entries => entries.iter().map(entry).collect(),
        };
        json!({ "attestation_report": self.report.to_json(), "cert_chain": chain })
    }
}

#[derive(Deserialize)]
struct WireEntry {
    #[serde(deserialize_with = "label")]
    cert_type: String,
    data: Bounded,
}

/// A label is a string; a sender's enum with a payload (`{"OTHER": …}`) is reduced to its tag.
fn label<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) if text.len() <= 64 => Ok(text),
        Value::Object(map) => match map.keys().next() {
            Some(key) if key.len() <= 64 => Ok(key.clone()),
            _ => Err(D::Error::custom("cert_type is not a label")),
        },
        _ => Err(D::Error::custom("cert_type is not a label")),
    }
}

/// Bytes of bounded number.
struct Bounded(Vec<u8>);

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        if bytes.len() > MAX_CERTIFICATE {
            return Err(D::Error::custom("a certificate of more than 16 KiB"));
        }
        Ok(Bounded(bytes))
    }
}
