//! What can be wrong with an image, and how it travels through `std::io::Read` adaptors.

use std::io;

use cocoon_stage::{Code, Failure};

/// Everything this crate refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image name does not follow the reference grammar.
    #[error("{text:?} is not an image reference: {reason}")]
    Reference {
        /// The name as given (cut to a printable length).
        text: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A manifest, index, config or annotation is malformed, too large or of a kind that is not supported.
    #[error("{0}")]
    Manifest(String),
    /// Content hashes to another digest than the one by which it was named.
    #[error("{what} has digest {got}, expected {expected}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest it was named by.
        expected: String,
        /// The digest it has.
        got: String,
    },
    /// Content is longer or shorter than its descriptor says.
    #[error("{what} should have {expected} bytes but has {got}")]
    SizeMismatch {
        /// Which content.
        what: String,
        /// The descriptor's size.
        expected: u64,
        /// Bytes found, or seen so far where that is already too many (`at least`).
        got: u64,
    },
    /// A layer entry would leave the root, or is of a kind that images may not hold.
    #[error("layer entry {path}: {reason}")]
    Unsafe {
        /// The entry's name, escaped and cut.
        path: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A layer is not valid tar, gzip or zstd data.
    #[error("{0}")]
    Corrupt(String),
    /// The layer needs more bytes, entries or space than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// A layer or wrapped key does not authenticate under the key at hand, or its parameters are malformed.
    #[error("{0}")]
    Undecryptable(String),
    /// No signature was there.
    #[error("no signature was found for {0}")]
    SignatureMissing(String),
    /// No signature verifies.
    #[error("{0}")]
    SignatureInvalid(String),
    /// A key given by the owner cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// The reader below the pipeline failed (network).
    #[error("{0}")]
    Source(io::Error),
    /// The directory being unpacked into failed.
    #[error("unpacking {path}: {source}")]
    Filesystem {
        /// The entry's name, escaped and cut.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Wraps the error so that it can pass through a `Read` chain; [`Error::from_io`] takes it out again.
    pub fn into_io(self) -> io::Error {
        match self {
            Error::Source(e) => e,
            e => io::Error::other(e),
        }
    }

    /// The crate's error inside an `io::Error` made by [`Error::into_io`], else `otherwise` of it.
    pub fn from_io(e: io::Error, otherwise: impl FnOnce(io::Error) -> Error) -> Error {
        match e.downcast::<Error>() {
            Ok(inner) => inner,
            Err(e) => otherwise(e),
        }
    }

    pub(crate) fn filesystem(path: &[u8], e: rustix::io::Errno) -> Error {
        use rustix::io::Errno;
        let shown = printable(path);
        match e {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => {
                Error::TooLarge(format!("no space left while unpacking {shown}"))
            }
            Errno::LOOP => Error::Unsafe { path: shown, reason: "its directory is a loop of symbolic links" },
            Errno::NAMETOOLONG => Error::Unsafe { path: shown, reason: "its name is too long" },
            e => Error::Filesystem { path: shown, source: e.into() },
        }
    }
}

/// A hostile name made fit for one line of a log: escaped, at most about 200 characters.
pub(crate) fn printable(name: &[u8]) -> String {
    let cut = name.get(..200).unwrap_or(name);
    let dots = if cut.len() < name.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(cut))
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match &e {
            Error::Reference { .. } => Code::PlanImageReferenceInvalid,
            Error::Manifest(_) => Code::ImageManifestInvalid,
            Error::DigestMismatch { .. } => Code::ImageDigestMismatch,
            Error::SizeMismatch { .. } => Code::ImageSizeMismatch,
            Error::Unsafe { .. } => Code::ImageLayerUnsafe,
            Error::Corrupt(_) => Code::ImageLayerCorrupt,
            Error::TooLarge(_) => Code::ImageTooLarge,
            Error::Undecryptable(_) => Code::ImageUndecryptable,
            Error::SignatureMissing(_) => Code::ImageSignatureMissing,
            Error::SignatureInvalid(_) => Code::ImageSignatureInvalid,
            Error::Key(_) => Code::PlanInvalid,
            Error::Source(_) | Error::Filesystem { .. } => Code::ImagePullFailed,
        };
        Failure::new(code, e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_a_read_chain() {
        let e = Error::TooLarge("x".into()).into_io();
        assert!(matches!(Error::from_io(e, Error::Source), Error::TooLarge(_)));
        let plain = io::Error::other("tcp reset");
        assert!(matches!(Error::from_io(plain, Error::Source), Error::Source(_)));
    }

    #[test]
    fn hostile_names_stay_on_one_line() {
        let shown = printable(&[b'\n'; 5000]);
        assert!(!shown.contains('\n') && shown.len() < 1000);
    }
}
