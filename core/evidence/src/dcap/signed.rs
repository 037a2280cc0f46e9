//! Intel's signed JSON: an object and a signature over exactly its bytes as sent.
//!
//! Source: Intel PCS API version 4, "Get TCB Info" and "Get Quoting Enclave Identity": ECDSA P-256 with SHA-256, r and s
//! as 128 hex digits.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;

/// A document longer than this is not read; Intel's have less than 50 kB.
const MAX_DOCUMENT: usize = 1024 * 1024;

/// The two parts of a document.
pub(super) struct Signed<'a> {
    /// The signed object as it stands.
    pub body: &'a str,
    /// r and s.
    pub signature: [u8; 64],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow, alias = "tcbInfo", alias = "enclaveIdentity")]
    body: &'a RawValue,
    #[serde(borrow)]
    signature: &'a str,
}

impl<'a> Signed<'a> {
    /// Splits `{"<name>": {…}, "signature": "…"}`.
    pub fn split(what: &'static str, name: &str, document: &'a [u8]) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::Malformed { what, reason: reason.to_owned() };
        if document.len() > MAX_DOCUMENT {
            return Err(malformed("longer than 1 MiB"));
        }
        // The name decides what the object is; it must be the wanted one, and the only one.
        let fields: std::collections::BTreeMap<&str, &RawValue> =
            serde_json::from_slice(document).map_err(|_| malformed("not a JSON object"))?;
        if fields.len() != 2 || !fields.contains_key(name) {
            return Err(malformed("it has not the two fields of a signed document"));
        }
        // Read again as a structure: a field that occurs twice is an error there.
        let wire: Wire<'_> =
            serde_json::from_slice(document).map_err(|_| malformed("not a signed document"))?;
        let mut signature = [0; 64];
        hex::decode_to_slice(wire.signature, &mut signature).map_err(|_| malformed("not a signature"))?;
        Ok(Signed { body: wire.body.get(), signature })
    }

    /// Reads the signed object.
    pub fn read<T: Deserialize<'a>>(&self, what: &'static str) -> Result<T, Error> {
        // The text of serde's error may quote the document: it is not passed on.
        serde_json::from_str(self.body).map_err(|e| Error::Malformed {
            what,
            reason: format!("not as specified, at line {}, column {}", e.line(), e.column()),
        })
    }
}
