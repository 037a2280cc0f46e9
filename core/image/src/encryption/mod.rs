//! Encrypted layers as ocicrypt defines them.
//!
//! A layer is AES-256-CTR (128-bit big-endian counter, 16-byte nonce) with an HMAC-SHA-256 over the ciphertext
//! under the **same** key; the HMAC is known to hold only after the last byte. The symmetric key travels in
//! [`PrivateOptions`]; cipher and HMAC stand in the clear in [`PubOptions`]. The private options are wrapped for each
//! recipient ([`WrappedKeys`]): under a key-encryption key (KEK) in an [`AnnotationPacket`] that names where the KEK is
//! kept (key provider `attestation-agent`), or as a [`Jwe`] to a public key. PKCS#7, PGP and PKCS#11 recipients are
//! recognised and refused.

mod bytes;
mod cipher;
mod ecdh;
mod jwe;
mod keys;
mod options;
mod packet;
mod protocol;
mod recipients;
mod shared;
mod wrap;

pub use cipher::{LayerDecryptor, LayerEncryptor, Sealed};
pub use jwe::{Jwe, MAX_JWE_RECIPIENTS};
pub use keys::{OpeningKey, RecipientKey};
pub use options::{CIPHER, PrivateOptions, PubOptions};
pub use packet::{AnnotationPacket, MAX_PACKETS, PacketVersion, WrapType};
pub use protocol::{KeyProviderInput, KeyProviderOutput};
pub use recipients::{ENC_PREFIX, ProviderKey, WrappedKeys, is_provider_name};
pub use shared::{shared_annotations, shared_packets};
pub use wrap::{KEK_BYTES, unwrap_key, wrap_key};

use std::collections::BTreeMap;

use crate::{Descriptor, Error};

/// Annotation of the public options.
pub const PUBOPTS_ANNOTATION: &str = "org.opencontainers.image.enc.pubopts";
/// Annotation of keys encrypted to JWE recipients.
pub const JWE_ANNOTATION: &str = "org.opencontainers.image.enc.keys.jwe";
/// Prefix of the annotations that hold wrapped keys for key providers; the provider's name follows.
pub const KEYS_ANNOTATION_PREFIX: &str = "org.opencontainers.image.enc.keys.provider.";
/// The key provider of Confidential Containers.
pub const PROVIDER: &str = "attestation-agent";

/// The annotations of an encrypted layer: its options and its key, wrapped in each of the packets.
///
/// # Errors
/// [`Error::Manifest`] where a packet cannot be written; [`Error::Key`] where there is none, or too many.
pub fn annotations(
    packets: &[AnnotationPacket],
    public: &PubOptions,
) -> Result<BTreeMap<String, String>, Error> {
    let providers: Result<Vec<ProviderKey>, Error> = packets.iter().map(ProviderKey::of_packet).collect();
    let public = public.clone();
    WrappedKeys { public, providers: providers?, jwe: Vec::new(), unsupported: Vec::new() }.annotations()
}

/// Reads an encrypted layer's annotations as a guest needs them: the packets of every key provider, and the public
/// options.
///
/// # Errors
/// [`Error::Undecryptable`] where there is no readable packet or option; a layer encrypted only to JWE, PKCS#7 or
/// PGP recipients is one of these, and the message says so.
pub fn read_annotations(layer: &Descriptor) -> Result<(Vec<AnnotationPacket>, PubOptions), Error> {
    let keys = WrappedKeys::read(layer)?;
    let packets = keys.packets();
    if !packets.is_empty() {
        return Ok((packets, keys.public));
    }
    // Why the first of them is no packet, where there are any.
    if let Some(key) = keys.providers.first() {
        AnnotationPacket::parse(&key.wrapped)?;
    }
    let named = [&["JWE"], keys.unsupported.as_slice()].concat().join(" and ");
    let why = format!("its key is wrapped for no key provider, but for {named} recipients");
    Err(Error::Undecryptable(format!("layer {}: {why}", layer.digest)))
}
