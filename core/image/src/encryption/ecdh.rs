//! ECDH-ES+A256KW (RFC 7518 §4.6): from a shared secret to a key-encryption key, and AES Key Wrap with it.

use aws_lc_rs::agreement::{self, Algorithm, ParsedPublicKey, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use zeroize::Zeroizing;

use crate::Error;

/// `alg` of this key encryption.
pub(super) const ALG: &str = "ECDH-ES+A256KW";
/// Length of a content key and of the key that wraps it.
pub(super) const KEY_LEN: usize = 32;
/// Length of a wrapped content key (RFC 3394 adds a block of eight bytes).
const WRAPPED_LEN: usize = 40;

/// A curve that image keys may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(super) const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    /// The `crv` of RFC 7518 §6.2.1.1.
    pub(super) fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Curve> {
        Curve::ALL.into_iter().find(|c| c.name() == name)
    }

    /// The named curve of RFC 5480 §2.1.1.1, dotted.
    pub(super) fn by_oid(oid: &str) -> Option<Curve> {
        match oid {
            "1.2.840.10045.3.1.7" => Some(Curve::P256),
            "1.3.132.0.34" => Some(Curve::P384),
            "1.3.132.0.35" => Some(Curve::P521),
            _ => None,
        }
    }

    /// Length of one coordinate in bytes.
    pub(super) fn coordinate_len(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    pub(super) fn agreement(self) -> &'static Algorithm {
        match self {
            Curve::P256 => &agreement::ECDH_P256,
            Curve::P384 => &agreement::ECDH_P384,
            Curve::P521 => &agreement::ECDH_P521,
        }
    }

    /// Whether the bytes are an uncompressed point (SEC 1 §2.3.3) on this curve.
    pub(super) fn has_point(self, point: &[u8]) -> bool {
        point.first() == Some(&4)
            && point.len() == 1 + 2 * self.coordinate_len()
            && ParsedPublicKey::try_from(UnparsedPublicKey::new(self.agreement(), point))
                .is_ok_and(|parsed| parsed.alg() == self.agreement())
    }
}

fn failed() -> Error {
    Error::Key("the key agreement failed".to_owned())
}

/// The key-encryption key between a private key and a point; Concat KDF over SHA-256 (RFC 7518 §4.6.2).
fn agree(
    curve: Curve,
    private: &PrivateKey,
    point: &[u8],
    (apu, apv): (&[u8], &[u8]),
) -> Result<AesKek, Error> {
    let mut info = Vec::new();
    for part in [ALG.as_bytes(), apu, apv] {
        info.extend_from_slice(&u32::try_from(part.len()).map_err(|_| failed())?.to_be_bytes());
        info.extend_from_slice(part);
    }
    info.extend_from_slice(&256_u32.to_be_bytes());
    let digest = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or_else(failed)?;
    agreement::agree(private, UnparsedPublicKey::new(curve.agreement(), point), failed(), |secret| {
        let mut kek = Zeroizing::new([0; KEY_LEN]);
        sskdf_digest(digest, secret, &info, kek.as_mut_slice()).map_err(|_| failed())?;
        AesKek::new(&AES_256, kek.as_slice()).map_err(|_| failed())
    })
}

/// Wraps a content key for the holder of `point`'s private half; gives the ephemeral point and the wrapped key.
pub(super) fn wrap(curve: Curve, point: &[u8], cek: &[u8; KEY_LEN]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let own = PrivateKey::generate(curve.agreement()).map_err(|_| failed())?;
    let public = own.compute_public_key().map_err(|_| failed())?;
    let mut wrapped = vec![0; WRAPPED_LEN];
    let length = agree(curve, &own, point, (&[], &[]))?.wrap(cek, &mut wrapped).map_err(|_| failed())?.len();
    wrapped.truncate(length);
    Ok((public.as_ref().to_vec(), wrapped))
}

/// Undoes [`wrap`] with the recipient's private key and the sender's ephemeral point; `None` where it does not open.
pub(super) fn unwrap(
    curve: Curve,
    private: &PrivateKey,
    ephemeral: &[u8],
    infos: (&[u8], &[u8]),
    wrapped: &[u8],
) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    if wrapped.len() != WRAPPED_LEN || !curve.has_point(ephemeral) {
        return None;
    }
    let mut cek = Zeroizing::new([0; KEY_LEN]);
    let kek = agree(curve, private, ephemeral, infos).ok()?;
    kek.unwrap(wrapped, cek.as_mut_slice()).ok()?;
    Some(cek)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_wraps_for_its_own_key_only() {
        for curve in Curve::ALL {
            let private = PrivateKey::generate(curve.agreement()).unwrap();
            let point = private.compute_public_key().unwrap().as_ref().to_vec();
            assert!(curve.has_point(&point) && !curve.has_point(&point[1..]));
            let (ephemeral, mut wrapped) = wrap(curve, &point, &[7; 32]).unwrap();
            let open = |key: &PrivateKey, wrapped: &[u8]| unwrap(curve, key, &ephemeral, (&[], &[]), wrapped);
            assert_eq!(*open(&private, &wrapped).unwrap(), [7; 32]);
            assert!(open(&PrivateKey::generate(curve.agreement()).unwrap(), &wrapped).is_none());
            assert!(
                unwrap(curve, &private, &ephemeral, (b"a", &[]), &wrapped).is_none(),
                "another party info"
            );
            wrapped[3] ^= 1;
            assert!(open(&private, &wrapped).is_none() && open(&private, &[]).is_none());
        }
        let mut off = vec![4; 65];
        off[1] = 9;
        assert!(!Curve::P256.has_point(&off));
    }
}
