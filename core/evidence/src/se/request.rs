//! The attestation request: a secret key for the measurement, encrypted so that only trusted machines can read it.
//!
//! Layout, version 0x100: magic, zeros (8), version (4), size (4), IV (12), zeros (11), number of key slots (1), zeros (4),
//! size of the encrypted part (4), flags (8), measurement algorithm (4), zeros (4), customer public key (160), key slots
//! (80 each), encrypted part (measurement key 64, nonce 16), GCM tag (16). A key slot is the host key's hash (32), the
//! protection key, encrypted for it (32), and the tag of that (16).
//!
//! The customer key is drawn on P-521 for one request. Per host key: Z is the ECDH secret's x, SHA-256(Z, 00000001) the key
//! that wraps the protection key (AES-256-GCM, zero IV: each such key is used once). The protection key encrypts the
//! measurement key and the nonce (AES-256-GCM); all before them is associated data.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P521, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::digest::{self, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::{Code, Failure};
use serde_json::json;
use zeroize::Zeroizing;

use super::header::Header;
use super::host_key::{HostKey, coordinates};
use super::measurement::{MEASUREMENT_SIZE, NONCE_SIZE};
use super::state::{ID_SIZE, SealingKey, State, internal, random};

pub(super) const VERSION: u32 = 0x100;
/// The nonce is used; host key hashes of the image and of the request are to be measured. Bit 0 is the highest.
pub(super) const FLAGS: u64 = (1 << 62) | (1 << 61) | (1 << 60);
/// HMAC-SHA-512.
pub(super) const ALGORITHM: u32 = 1;
/// The two hashes that [`FLAGS`] asks for.
pub(super) const ADDITIONAL_SIZE: usize = 64;
const ENCRYPTED: usize = MEASUREMENT_SIZE + NONCE_SIZE;
const TAG: usize = 16;
const BEFORE_SLOTS: usize = 48 + 16 + 160;
const SLOT: usize = 80;

/// What a verifier expects of Secure Execution guests, and what it needs to challenge them.
#[derive(Debug)]
pub struct Config {
    /// The machines that are trusted, at most 255.
    pub host_keys: Vec<HostKey>,
    /// Header of the image that is expected.
    pub header: Header,
    /// Seals the challenges' state.
    pub sealing_key: SealingKey,
    /// Any bytes that a challenge shall be bound to, the same when it is answered, e.g. which verifier or tenant it is of.
    pub context: Vec<u8>,
    /// For how many seconds a challenge may be answered.
    pub lifetime: u64,
}

impl Config {
    /// The host keys that are valid at an instant.
    pub(super) fn valid_host_keys(&self, now_unix: u64) -> impl Iterator<Item = &HostKey> {
        self.host_keys.iter().filter(move |key| key.validity().contains(now_unix))
    }
}

/// Makes a challenge: the JSON text that is the nonce for a Secure Execution guest. To be served as it is.
///
/// Members, binary ones in standard base64: `request_blob`, `measurement_size` and `additional_size` (numbers),
/// `encr_measurement_key` (the sealed state, opaque to the guest), `encr_request_nonce` (the challenge's id, likewise),
/// `image_hdr_tags`. The guest's agent adds `runtime_data_digest` for its attester.
///
/// # Errors
/// [`Code::AttestCertificateExpired`] where no host key is valid now, [`Code::Internal`] where there are more than 255 or
/// cryptography fails.
pub fn challenge(config: &Config, now_unix: u64) -> Result<String, Failure> {
    let host_keys: Vec<&HostKey> = config.valid_host_keys(now_unix).collect();
    if host_keys.is_empty() {
        let reason = "no host key of a Secure Execution machine is valid now";
        return Err(Failure::new(Code::AttestCertificateExpired, reason));
    }
    let measurement_key = random::<MEASUREMENT_SIZE>()?;
    let nonce = random::<NONCE_SIZE>()?;
    let blob = encode(&host_keys, &measurement_key, &nonce)?;
    let id = random::<ID_SIZE>()?;
    let tags = config.header.tags.clone();
    let image_hdr_tags = STANDARD.encode(tags.to_bytes());
    let state = State { measurement_key, nonce, tags, issued_unix: now_unix };
    let sealed = state.seal(&config.sealing_key, &id, &config.context)?;
    let text = json!({
        "request_blob": STANDARD.encode(blob),
        "measurement_size": MEASUREMENT_SIZE,
        "additional_size": ADDITIONAL_SIZE,
        "encr_measurement_key": STANDARD.encode(sealed),
        "encr_request_nonce": STANDARD.encode(id.as_slice()),
        "image_hdr_tags": image_hdr_tags,
    });
    Ok(text.to_string())
}

/// A request that the owners of the host keys can read.
fn encode(
    host_keys: &[&HostKey],
    measurement_key: &[u8; MEASUREMENT_SIZE],
    nonce: &[u8; NONCE_SIZE],
) -> Result<Vec<u8>, Failure> {
    let too_many = |_| Failure::new(Code::Internal, "more than 255 host keys do not fit into a request");
    let slots = u8::try_from(host_keys.len()).map_err(too_many)?;
    let size = BEFORE_SLOTS + SLOT * usize::from(slots) + ENCRYPTED + TAG;
    let (iv, protection_key) = (random::<12>()?, random::<32>()?);
    let customer = PrivateKey::generate(&ECDH_P521).map_err(internal)?;
    let public = customer.compute_public_key().map_err(internal)?;
    let public = coordinates(public.as_ref()).ok_or_else(|| internal(aws_lc_rs::error::Unspecified))?;

    let mut blob = Vec::with_capacity(size);
    blob.extend_from_slice(&[0; 8]);
    blob.extend_from_slice(&VERSION.to_be_bytes());
    blob.extend_from_slice(&length(size)?);
    blob.extend_from_slice(iv.as_slice());
    blob.extend_from_slice(&[0; 11]);
    blob.push(slots);
    blob.extend_from_slice(&[0; 4]);
    blob.extend_from_slice(&length(ENCRYPTED)?);
    blob.extend_from_slice(&FLAGS.to_be_bytes());
    blob.extend_from_slice(&ALGORITHM.to_be_bytes());
    blob.extend_from_slice(&[0; 4]);
    blob.extend_from_slice(&public);
    for host_key in host_keys {
        let wrapping_key = exchange(&customer, host_key.point())?;
        blob.extend_from_slice(host_key.hash());
        blob.extend(encrypt(&wrapping_key, [0; 12], &[], protection_key.as_slice())?);
    }
    let mut secret = Zeroizing::new([0; ENCRYPTED]);
    secret.iter_mut().zip(measurement_key.iter().chain(nonce)).for_each(|(out, byte)| *out = *byte);
    let encrypted = encrypt(&protection_key, *iv, &blob, secret.as_slice())?;
    blob.extend(encrypted);
    Ok(blob)
}

fn length(size: usize) -> Result<[u8; 4], Failure> {
    let too_long = |_| Failure::new(Code::Internal, "a request of 4 GiB");
    u32::try_from(size).map(u32::to_be_bytes).map_err(too_long)
}

/// The key that both ends of the exchange know.
pub(super) fn exchange(own: &PrivateKey, point: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let peer = UnparsedPublicKey::new(&ECDH_P521, point);
    agree(own, peer, internal(aws_lc_rs::error::Unspecified), |z| {
        let mut context = digest::Context::new(&SHA256);
        context.update(z);
        context.update(&[0, 0, 0, 1]);
        let mut key = Zeroizing::new([0; 32]);
        key.iter_mut().zip(context.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
        Ok(key)
    })
}

/// Ciphertext and tag.
fn encrypt(key: &[u8; 32], iv: [u8; 12], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failure> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(internal)?);
    let mut data = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(iv);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut data).map_err(internal)?;
    data.extend_from_slice(tag.as_ref());
    Ok(data)
}
