//! Sigstore signatures, checked offline against roots that the caller gives.
//!
//! Three shapes: cosign's legacy signature under a tag, with a key or with a certificate and Rekor's promise; and
//! bundles 0.1 to 0.3 (protobuf-specs, sigstore_bundle.proto), with keys or certificates, over a message or over a DSSE
//! in-toto statement, as cosign 3 makes for images.
//!
//! A certificate holds at the time that a log or a time-stamping authority proves, never now; without a proven time it
//! is refused. What the log recorded must be this signature, this key and this digest.

mod body;
mod bundle;
mod certificate;
mod entry;
mod legacy;
mod merkle;
mod note;
mod sct;
mod statement;
mod time;
mod timestamp;
mod tlv;
mod trust;
mod trusted_root;
mod verify;

pub use legacy::verify_legacy;
pub use statement::{PREDICATE_TYPE, STATEMENT_MEDIA_TYPE, pae, statement};
pub use trust::{Authority, Identity, Log, Name, Roots, Signer, Trust, Window};
pub use verify::{verify_blob, verify_bundle};

use cocoon_image::{Digest, Error};

use crate::policy::line;

/// Media type of the bundles that cosign 3 writes.
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The longest bundle, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 512 * 1024;
/// How far the clocks of logs may be ahead of ours, in seconds.
const SKEW: u64 = 300;

/// What a good signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The manifest or index that is vouched for.
    pub digest: Digest,
    /// The name it is vouched for under, as signed; most bundles name none.
    pub reference: Option<String>,
    /// Who signed, for people: a key's fingerprint, or subject and issuer.
    pub by: String,
    /// When, as a log or time-stamping authority proves, Unix seconds.
    pub at_unix: Option<u64>,
}

/// The reason may quote what a registry chose, so it is bounded here.
fn wrong(why: impl Into<String>) -> Error {
    Error::SignatureInvalid(line(&why.into(), 600))
}
