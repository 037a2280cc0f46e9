//! The local token: 32 random bytes in hexadecimal, of which only the SHA-256 is kept.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::Error;

/// Makes a new local token: 64 lower case hexadecimal digits, 256 bits of randomness.
///
/// # Errors
/// [`Error::Crypto`] without randomness.
pub fn make_token() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut()).map_err(|_| Error::Crypto)?;
    Ok(Zeroizing::new(hex::encode(bytes.as_ref())))
}

/// SHA-256 of a token's text, as [`crate::AccessConfig::token_sha256`] takes it.
pub fn token_sha256(token: &str) -> [u8; 32] {
    sha256(token.as_bytes())
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Whether `token` is the one with this digest. Both sides are digests, so neither length nor content of the token
/// shows in the time taken.
pub(crate) fn is_token(token: &str, expected: &[u8; 32]) -> bool {
    verify_slices_are_equal(&token_sha256(token), expected).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_different_and_known_by_their_digest() {
        let (a, b) = (make_token().unwrap(), make_token().unwrap());
        assert_ne!(*a, *b);
        assert_eq!(a.len(), 64);
        assert!(a.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
        assert!(is_token(&a, &token_sha256(&a)));
        assert!(!is_token(&b, &token_sha256(&a)));
        assert!(!is_token(&a.to_uppercase(), &token_sha256(&a)));
        assert!(!is_token("", &token_sha256(&a)));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(token_sha256("abc")), abc);
    }
}
