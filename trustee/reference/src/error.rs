//! What can be wrong with a reference value, a document of them, or its signature.

use cocoon_stage::{Code, Failure};

/// A reference value or document that cannot be kept, or storage that failed. Nothing was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A reference value breaks a limit.
    #[error("reference value {name:?}: {reason}")]
    ReferenceValue {
        /// Its name, at most 80 characters of it.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Larger than is read.
    #[error("{what} of {size} bytes is too large (limit {limit})")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The document is malformed, or says something that is not understood here.
    #[error("{format} document: {reason}")]
    Document {
        /// Its format.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The document has no signature, and none was waived.
    #[error("the {0} document is not signed")]
    Unsigned(&'static str),
    /// The document is signed, but not by anybody who is trusted for it now.
    #[error("the signer is not trusted: {0}")]
    Untrusted(&'static str),
    /// The signature is not over this document.
    #[error("signature: {0}")]
    Signature(&'static str),
    /// The document is outside its own validity.
    #[error("the document is not valid now: {0}")]
    Validity(&'static str),
    /// A set is older than the one that is stored.
    #[error("set {set:?} has version {version}, but version {stored} is stored")]
    Older {
        /// Name of the set.
        set: String,
        /// Version offered.
        version: u64,
        /// Version stored.
        stored: u64,
    },
    /// An anchor or a signing key cannot be read. Never quotes the key.
    #[error("key {id:?}: {reason}")]
    Key {
        /// Its id.
        id: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A stored record does not parse or stands in another's place.
    #[error("the stored reference value {0} is damaged")]
    Record(String),
    /// There are more records than are read at once.
    #[error("more than {0} reference values")]
    TooMany(usize),
    /// Others kept changing the same records.
    #[error("the reference values were changed by others again and again")]
    Busy,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] cocoon_store::Error),
}

impl From<cocoon_rim::Error> for Error {
    fn from(error: cocoon_rim::Error) -> Self {
        match error {
            cocoon_rim::Error::Malformed(reason) => {
                Error::Document { format: "swid", reason: reason.to_owned() }
            }
            cocoon_rim::Error::UnknownSignature(reason) => Error::Untrusted(reason),
            cocoon_rim::Error::Altered => Error::Signature("the document is not the one that was signed"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Store(_) | Error::Record(_) => Code::StoreCorrupt,
            Error::Busy => Code::ServerBusy,
            Error::TooMany(_) => Code::StoreQuota,
            Error::Key { .. } => Code::ConfigInvalid,
            _ => Code::ReferenceInvalid,
        };
        match error {
            Error::Store(error) => error.into(),
            other => Failure::new(code, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_code_of_their_cure() {
        let code = |error: Error| Failure::from(error).code;
        for error in [
            Error::ReferenceValue { name: "m".into(), reason: "r" },
            Error::TooLarge { what: "a message", size: 2, limit: 1 },
            Error::Document { format: "swid", reason: "r".into() },
            Error::Unsigned("swid"),
            Error::Untrusted("r"),
            Error::Signature("r"),
            Error::Validity("r"),
            Error::Older { set: "s".into(), version: 1, stored: 2 },
        ] {
            assert_eq!(code(error), Code::ReferenceInvalid);
        }
        assert_eq!(code(Error::Key { id: "k".into(), reason: "r" }), Code::ConfigInvalid);
        assert_eq!(code(Error::Record("k".into())), Code::StoreCorrupt);
        assert_eq!(code(Error::TooMany(1)), Code::StoreQuota);
        assert_eq!(code(Error::Busy), Code::ServerBusy);
    }
}
