//! The key of an encrypted shared layer.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::cipher::KEY_BYTES;

/// What the derivation is for, so that no other use of a layer's key gives the same bytes.
const LABEL: &[u8] = b"cocoon shared layer 1: aes-256-xts";

/// The cipher's key from the 32 bytes that Trustee releases for the layer (`symkey` of ocicrypt's private options):
/// HMAC-SHA-512 of a label under them. XTS takes two keys that must differ; so they are derived and not stored.
pub fn derive_key(symkey: &[u8; 32]) -> Zeroizing<[u8; KEY_BYTES]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, symkey), LABEL);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (to, from) in key.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_always_the_same() {
        let key = derive_key(&[7; 32]);
        assert_eq!(*key, *derive_key(&[7; 32]));
        assert_ne!(*key, *derive_key(&[8; 32]));
        assert_ne!(key[..32], key[32..]);
        // `openssl dgst -sha512 -mac HMAC -macopt hexkey:0707…07` of the label.
        assert_eq!(hex::encode(&key[..8]), "84bb743f727c7852");
    }
}
