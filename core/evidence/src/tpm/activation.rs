//! Credential activation: how somebody who knows a TPM's endorsement key learns that another key lives in the same TPM.
//!
//! A secret is encrypted so that only the TPM with the endorsement key can open it, and that TPM opens it only if it holds
//! a key of the name that went into the encryption. Who returns the secret has that key: its attestation key can be enrolled.
//!
//! Source: TPM 2.0 Library, part 1, section 24 (credential protection), 11.4.10 (KDFa, KDFe), annexes B.10.4 (RSA) and
//! C.6 (ECC); TCG EK Credential Profile 2.5, templates L-1 (RSA 2048) and L-2 (P-256), both with SHA-256 and AES-128-CFB.

use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::{constant_time, hmac};

use super::algorithm::hashed;
use super::public::{Public, Symmetric};
use crate::Error;
use crate::x509::{Curve, Hash, PublicKey};

/// Length of a challenge's secret; a TPM takes no longer one than its endorsement key's name digest.
pub const SECRET: usize = 32;
/// The label with which RSA and ECC seeds are bound to credentials, its final zero included.
const IDENTITY: &[u8] = b"IDENTITY\0";
const STORAGE: &[u8] = b"STORAGE\0";
const INTEGRITY: &[u8] = b"INTEGRITY\0";

/// What a TPM's `TPM2_ActivateCredential` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// `TPM2B_ID_OBJECT`: integrity value and encrypted secret.
    pub credential_blob: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`: the seed, encrypted for the endorsement key.
    pub encrypted_secret: Vec<u8>,
}

/// A new random secret.
///
/// # Errors
/// [`Error::Malformed`] where the system's generator fails.
pub fn fresh_secret() -> Result<[u8; SECRET], Error> {
    let mut secret = [0; SECRET];
    fill(&mut secret).map_err(|_| failed("no randomness"))?;
    Ok(secret)
}

/// Whether what came back is the secret. Takes the same time wherever they differ.
pub fn is_secret(returned: &[u8], secret: &[u8; SECRET]) -> bool {
    constant_time::verify_slices_are_equal(returned, secret).is_ok()
}

/// Encrypts `secret` for the TPM whose endorsement key is `endorsement`, to be opened only beside the key named `ak_name`.
///
/// Whether the endorsement key is a real TPM's and the attestation key's attributes are right is not asked here; see
/// [`super::enrol`].
///
/// # Errors
/// [`Error::Unsupported`] for an endorsement key of another template than L-1 and L-2; [`Error::Malformed`] for one that is
/// no storage key, or cannot be encrypted for.
pub fn make_credential(
    endorsement: &Public,
    ak_name: &[u8],
    secret: &[u8; SECRET],
) -> Result<Challenge, Error> {
    if let Some(reason) = endorsement.not_endorsement_key() {
        return Err(failed(reason));
    }
    if endorsement.name_hash() != Hash::Sha256 || endorsement.symmetric() != Some(Symmetric::AES_128_CFB) {
        let got = "one without SHA-256 or AES-128-CFB".to_owned();
        return Err(Error::Unsupported { what: "TPM endorsement key", got });
    }
    let (seed, encrypted_secret) = match endorsement.key() {
        PublicKey::Rsa(_) => rsa_seed(endorsement.key())?,
        PublicKey::Ec(Curve::P256, point) => ecc_seed(point)?,
        PublicKey::Ec(..) => {
            return Err(Error::Unsupported { what: "TPM endorsement key", got: "another curve".to_owned() });
        }
    };
    let mut identity = two_byte(secret)?;
    let key: [u8; 16] = kdfa(&seed, STORAGE, ak_name)?;
    encrypt(&key, &mut identity)?;
    let key: [u8; 32] = kdfa(&seed, INTEGRITY, &[])?;
    let integrity = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &[&identity, ak_name].concat());
    let credential_blob = two_byte(&[two_byte(integrity.as_ref())?, identity].concat())?;
    Ok(Challenge { credential_blob, encrypted_secret: two_byte(&encrypted_secret)? })
}

fn failed(reason: &'static str) -> Error {
    Error::Malformed { what: "TPM endorsement key", reason: reason.to_owned() }
}

/// Bytes with their length before them.
fn two_byte(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let length = u16::try_from(bytes.len()).map_err(|_| failed("longer than a TPM's buffers"))?;
    Ok([&length.to_be_bytes(), bytes].concat())
}

/// A random seed, encrypted by OAEP.
fn rsa_seed(key: &PublicKey) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let refused = |_| failed("RSA encryption with it failed");
    let seed = fresh_secret()?;
    let key = PublicEncryptingKey::from_der(&key.to_spki()?).map_err(|_| failed("no RSA key"))?;
    let key = OaepPublicEncryptingKey::new(key).map_err(refused)?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, &seed, &mut encrypted, Some(IDENTITY)).map_err(refused)?;
    Ok((seed.to_vec(), encrypted))
}

/// A seed agreed with a key of the moment, whose point is what is sent.
fn ecc_seed(point: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let refused = |_| failed("key agreement with it failed");
    let ours = EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new()).map_err(refused)?;
    let public = ours.compute_public_key().map_err(refused)?;
    let (x, y) = coordinates(public.as_ref())?;
    let (ek_x, _) = coordinates(point)?;
    let peer = UnparsedPublicKey::new(&agreement::ECDH_P256, point);
    let seed = agreement::agree_ephemeral(ours, peer, failed("key agreement with it failed"), |z| {
        Ok(kdfe(z, IDENTITY, x, ek_x))
    })?;
    Ok((seed, [two_byte(x)?, two_byte(y)?].concat()))
}

/// Both coordinates of an uncompressed point on P-256.
fn coordinates(point: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    match point.split_first() {
        Some((4, xy)) if xy.len() == 64 => Ok(xy.split_at(32)),
        _ => Err(failed("not an uncompressed point")),
    }
}

/// KDFa with SHA-256: SP 800-108 in counter mode. One block is as much as is ever taken here.
pub(super) fn kdfa<const N: usize>(key: &[u8], label: &[u8], context: &[u8]) -> Result<[u8; N], Error> {
    let bits = u32::try_from(N * 8).map_err(|_| failed("too long"))?;
    let input = [&1u32.to_be_bytes(), label, context, &bits.to_be_bytes()].concat();
    let block = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &input);
    block.as_ref().first_chunk().copied().ok_or_else(|| failed("more than a block"))
}

/// KDFe with SHA-256, 256 bits: SP 800-56A's concatenation over the agreed coordinate.
pub(super) fn kdfe(z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Vec<u8> {
    hashed(Hash::Sha256, &[&1u32.to_be_bytes(), z, label, party_u, party_v])
}

/// AES-128-CFB with a zero initialisation vector: the key is derived for this one message.
fn encrypt(key: &[u8; 16], data: &mut [u8]) -> Result<(), Error> {
    let refused = |_| failed("encryption failed");
    let key = UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::cfb128).map_err(refused)?;
    let vector = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(data, vector).map(|_| ()).map_err(refused)
}
