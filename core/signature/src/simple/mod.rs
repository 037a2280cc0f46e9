//! "Simple signing" (containers/image): a JSON payload in an OpenPGP signed message, kept beside the registry in a
//! look-aside place.
//!
//! A good message says: a key of the keyring vouches for *this digest* under *this name*. Whether they are the image's is
//! for the caller to compare.

mod openpgp;
mod payload;
mod sigstore_d;

pub use openpgp::Keyring;
pub use sigstore_d::{Place, SigstoreD};

use cocoon_image::{Digest, Error};

/// What a verified message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// `critical.identity.docker-reference`, as its signer wrote it.
    pub reference: String,
    /// `critical.image.docker-manifest-digest`.
    pub digest: Digest,
    /// Fingerprint of the signer's primary key, 40 upper-case hex.
    pub signer: String,
}

/// Verifies a signed message (at most 128 KiB, one signature, ZIP or ZLIB compression or none) at a time, and reads its
/// payload.
///
/// Taken are version 4 signatures over binary data with SHA-256, SHA-384 or SHA-512 by keys that may sign: RSA of 2048 bits
/// or more, Ed25519, ECDSA with P-256 or P-384 (not with SHA-512) or P-521. Key and signature must be neither revoked nor
/// expired at `now_unix`, and not of the future (five minutes aside).
///
/// # Errors
/// [`Error::SignatureInvalid`].
pub fn verify(keyring: &Keyring, message: &[u8], now_unix: u64) -> Result<Claim, Error> {
    let (json, signer) = openpgp::Message::parse(message)?.verify(keyring, now_unix)?;
    let (reference, digest) = payload::parse(&json)?;
    Ok(Claim { reference, digest, signer })
}
