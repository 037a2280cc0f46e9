//! SM3 digests and SM2 signatures, as Hygon's processors make them.
//!
//! Sources: GM/T 0004-2012 (SM3), GM/T 0003.2-2012 (SM2 signatures; the signer's id is part of what is hashed),
//! GM/T 0003.5-2012 (the curve).

use sm2::dsa::signature::Verifier as _;
use sm2::dsa::{Signature, VerifyingKey};
use sm3::{Digest as _, Sm3};

/// SM3 of the parts, one after the other.
pub(crate) fn sm3(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sm3::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A public key by its coordinates, big endian. Whether it lies on the curve shows when it verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub x: [u8; 32],
    pub y: [u8; 32],
}

impl PublicKey {
    /// Whether `r` and `s` (big endian) are this key's signature over `message` under the signer's id. False also for a
    /// key that is no point of the curve and for numbers out of range.
    pub fn verifies(&self, id: &str, message: &[u8], r: &[u8; 32], s: &[u8; 32]) -> bool {
        let point = [&[4][..], &self.x, &self.y].concat();
        let (Ok(key), Ok(signature)) =
            (VerifyingKey::from_sec1_bytes(id, &point), Signature::from_scalars(*r, *s))
        else {
            return false;
        };
        key.verify(message, &signature).is_ok()
    }

    /// SM3 of both coordinates: names the key.
    pub fn digest(&self) -> [u8; 32] {
        sm3(&[&self.x, &self.y])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> [u8; 32] {
        hex::decode(text.replace(' ', "")).unwrap().try_into().unwrap()
    }

    /// GM/T 0004-2012, appendix A.
    #[test]
    fn sm3_gives_the_standards_digests() {
        let expected = number("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
        assert_eq!(sm3(&[b"abc"]), expected);
        assert_eq!(sm3(&[b"a", b"", b"bc"]), expected);
        let expected = number("debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732");
        assert_eq!(sm3(&[&b"abcd".repeat(16)]), expected);
    }

    /// GM/T 0003.5-2012, appendix A.2: key, id, message and signature on the recommended curve.
    #[test]
    fn sm2_verifies_the_standards_signature() {
        let key = PublicKey {
            x: number("09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"),
            y: number("ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"),
        };
        let r = number("f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3");
        let s = number("b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa");
        let id = "1234567812345678";
        assert!(key.verifies(id, b"message digest", &r, &s));
        assert!(!key.verifies("1234567812345679", b"message digest", &r, &s), "the id is signed");
        assert!(!key.verifies(id, b"message digesT", &r, &s));
        assert!(!key.verifies(id, b"message digest", &s, &r));
        assert!(!key.verifies(id, b"message digest", &[0; 32], &s));
        assert!(!key.verifies(id, b"message digest", &r, &[0xff; 32]));
        let mut elsewhere = key;
        elsewhere.y[31] ^= 1;
        assert!(!elsewhere.verifies(id, b"message digest", &r, &s), "not on the curve");
        for bit in 0..256 {
            let (mut r, mut s) = (r, s);
            r[bit / 8] ^= 1 << (bit % 8);
            s[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(id, b"message digest", &r, &s));
        }
    }
}
