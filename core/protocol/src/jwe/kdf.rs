//! From an ECDH shared secret to a key-encryption key, and the wrapping of the content key with it.
//!
//! Concat KDF of NIST SP 800-56A §5.8.1 as RFC 7518 §4.6.2 fixes it (SHA-256), AES Key Wrap of RFC 3394.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use zeroize::Zeroizing;

use crate::Error;
use crate::jwk::EcCurve;

/// Length of a key-encryption key and of a content key in bytes.
pub(crate) const KEY_LEN: usize = 32;
/// Length of a wrapped content key in bytes (RFC 3394 adds one block of eight).
pub(crate) const WRAPPED_LEN: usize = 40;

/// Concat KDF with SHA-256 into `out`; `algorithm` is the AlgorithmID text, `apu` and `apv` the party infos.
pub(crate) fn concat_kdf(
    secret: &[u8],
    algorithm: &str,
    apu: &[u8],
    apv: &[u8],
    out: &mut [u8],
) -> Result<(), Error> {
    const FAILED: Error = Error::Crypto("Concat KDF");
    let mut info = Vec::new();
    for part in [algorithm.as_bytes(), apu, apv] {
        info.extend_from_slice(&u32::try_from(part.len()).map_err(|_| FAILED)?.to_be_bytes());
        info.extend_from_slice(part);
    }
    let bits = out.len().checked_mul(8).and_then(|b| u32::try_from(b).ok()).ok_or(FAILED)?;
    info.extend_from_slice(&bits.to_be_bytes());
    let digest = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or(FAILED)?;
    sskdf_digest(digest, secret, &info, out).map_err(|_| FAILED)
}

/// The key-encryption key of ECDH-ES+A256KW between `private` and the uncompressed point `peer`.
///
/// The library refuses points that are not on the curve.
pub(crate) fn agree_kek(
    crv: EcCurve,
    private: &PrivateKey,
    peer: &[u8],
) -> Result<Zeroizing<[u8; KEY_LEN]>, Error> {
    let peer = UnparsedPublicKey::new(crv.agreement(), peer);
    let refused = Error::invalid("EC key", "not a point on its curve");
    agreement::agree(private, peer, refused, |secret| {
        let mut kek = Zeroizing::new([0; KEY_LEN]);
        concat_kdf(secret, super::ALG_ECDH, &[], &[], kek.as_mut_slice())?;
        Ok(kek)
    })
}

/// AES-256 Key Wrap of a content key.
pub(crate) fn wrap(kek: &[u8; KEY_LEN], key: &[u8; KEY_LEN]) -> Result<[u8; WRAPPED_LEN], Error> {
    const FAILED: Error = Error::Crypto("AES key wrap");
    let mut wrapped = [0; WRAPPED_LEN];
    AesKek::new(&AES_256, kek).and_then(|k| k.wrap(key, &mut wrapped).map(|_| ())).map_err(|_| FAILED)?;
    Ok(wrapped)
}

/// Undoes [`wrap`]; a wrong key-encryption key or a changed byte is [`Error::Undecryptable`].
pub(crate) fn unwrap(
    kek: &[u8; KEY_LEN],
    wrapped: &[u8; WRAPPED_LEN],
) -> Result<Zeroizing<[u8; KEY_LEN]>, Error> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    AesKek::new(&AES_256, kek)
        .and_then(|k| k.unwrap(wrapped, key.as_mut_slice()).map(|_| ()))
        .map_err(|_| Error::Undecryptable)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::ECDH_P256;

    use super::*;
    use crate::{b64, jwk};

    /// RFC 7518 appendix C: agreement and derivation, seen from either side.
    #[test]
    fn rfc_7518_appendix_c() {
        let alice = (
            "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
            "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
            "0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo",
        );
        let bob = (
            "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
            "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
            "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
        );
        for (own, peer) in [(alice, bob), (bob, alice)] {
            let d = b64::url_decode(own.2).unwrap();
            let private = PrivateKey::from_private_key(&ECDH_P256, &d).unwrap();
            let point = jwk::ec_point(EcCurve::P256, peer.0, peer.1).unwrap();
            let mut out = [0; 16];
            agreement::agree(
                &private,
                UnparsedPublicKey::new(&ECDH_P256, point),
                Error::Undecryptable,
                |z| concat_kdf(z, "A128GCM", b"Alice", b"Bob", &mut out),
            )
            .unwrap();
            assert_eq!(b64::url_encode(&out), "VqqN6vgjbSBcIijNcacQGg");
        }
    }

    /// The layout of ECDH-ES+A256KW (empty party infos, 256 bits), against SHA-256 computed elsewhere over
    /// `1 ‖ Z ‖ 14 ‖ "ECDH-ES+A256KW" ‖ 0 ‖ 0 ‖ 256`, all numbers BE32, Z = 00 … 1f.
    #[test]
    fn layout_of_ecdh_es_a256kw() {
        let z: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let mut out = [0; 32];
        concat_kdf(&z, super::super::ALG_ECDH, &[], &[], &mut out).unwrap();
        assert_eq!(hex::encode(out), "ead36a3ab953bb6e5a6709471c0fd35fcc62cf920994cede2f3aa2544e9f47ac");
    }

    /// RFC 3394 §4.6.
    #[test]
    fn rfc_3394_256_bit_key_with_256_bit_kek() {
        let kek: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let key = hex::decode("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f").unwrap();
        let key: [u8; 32] = key.try_into().unwrap();
        let mut wrapped = wrap(&kek, &key).unwrap();
        assert_eq!(
            hex::encode(wrapped),
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
        );
        assert_eq!(*unwrap(&kek, &wrapped).unwrap(), key);
        wrapped[39] ^= 1;
        assert!(matches!(unwrap(&kek, &wrapped), Err(Error::Undecryptable)));
    }
}
