//! Base64 as the messages use it: base64url without padding in keys and JWE, standard with padding elsewhere.
//!
//! Decoding is strict: wrong alphabet, wrong padding, whitespace and non-zero trailing bits are all refused, so that
//! a value has one spelling only. Callers bound the length of what they decode.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::Error;

/// Encodes as base64url without padding (RFC 4648 §5).
pub fn url_encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding.
///
/// # Errors
/// [`Error::Base64`] for anything else, padded text included.
pub fn url_decode(text: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Base64("base64url value"))
}

/// Encodes as standard base64 with padding (RFC 4648 §4).
pub fn std_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes standard base64 with padding.
///
/// # Errors
/// [`Error::Base64`] for anything else, unpadded text included.
pub fn std_decode(text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| Error::Base64("base64 value"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_two_alphabets_differ() {
        assert_eq!(url_encode(&[0xfb, 0xff]), "-_8");
        assert_eq!(std_encode(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in ["-_8=", "+/8", "-_9", "-_8\n", " -_8", "-", "é"] {
            assert!(url_decode(bad).is_err(), "{bad:?}");
        }
        for bad in ["+/8", "-_8=", "+/9=", "+/8=\n", "+/8=="] {
            assert!(std_decode(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(&url_decode(&url_encode(&bytes)).unwrap(), &bytes);
            prop_assert_eq!(&std_decode(&std_encode(&bytes)).unwrap(), &bytes);
        }

        #[test]
        fn decoding_has_one_spelling(text in "[A-Za-z0-9+/_=-]{0,24}") {
            if let Ok(bytes) = url_decode(&text) {
                prop_assert_eq!(url_encode(&bytes), text.clone());
            }
            if let Ok(bytes) = std_decode(&text) {
                prop_assert_eq!(std_encode(&bytes), text);
            }
        }
    }
}
