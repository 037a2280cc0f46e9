//! X.509 as vendors of TEEs use it: certificates, revocation lists, and paths to roots that the caller trusts.
//!
//! Source: RFC 5280; signatures are RSA (PKCS #1 v1.5 and PSS, 2048 to 8192 bits) and ECDSA (P-256, P-384, P-521) with
//! SHA-256, SHA-384 or SHA-512. There are no default roots, no name is ever compared as text, and what is critical and
//! unknown is refused.

mod certificate;
mod crl;
mod key;
mod path;
#[cfg(test)]
mod tests;

pub use certificate::Certificate;
pub use crl::Crl;
pub use key::{Curve, Hash, PublicKey, Scheme};
pub use path::{MAX_DEPTH, Path, path, path_for};

/// First and last second of validity, Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: u64,
    /// Last second.
    pub not_after: u64,
}

impl Validity {
    /// Whether `now_unix` lies within.
    pub fn contains(&self, now_unix: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now_unix)
    }
}
