//! Encrypted layers as ocicrypt defines them, with the annotation packets of the `attestation-agent` provider.
//!
//! A layer is AES-256-CTR (128-bit big-endian counter, 16-byte nonce) with an HMAC-SHA-256 over the ciphertext
//! under the **same** key; the HMAC is known to hold only after the last byte. The symmetric key travels in
//! [`PrivateOptions`], wrapped under a key-encryption key (KEK) in an [`AnnotationPacket`] that names where the
//! KEK is kept; cipher and HMAC stand in the clear in [`PubOptions`].

mod bytes;
mod cipher;
mod options;
mod packet;
mod protocol;
mod wrap;

pub use cipher::{LayerDecryptor, LayerEncryptor, Sealed};
pub use options::{CIPHER, PrivateOptions, PubOptions};
pub use packet::{AnnotationPacket, MAX_PACKETS, PacketVersion, WrapType};
pub use protocol::{KeyProviderInput, KeyProviderOutput};
pub use wrap::{KEK_BYTES, unwrap_key, wrap_key};

use std::collections::BTreeMap;

use crate::{Descriptor, Error};

/// Annotation of the public options.
pub const PUBOPTS_ANNOTATION: &str = "org.opencontainers.image.enc.pubopts";
/// Prefix of the annotations that hold wrapped keys for key providers; the provider's name follows.
pub const KEYS_ANNOTATION_PREFIX: &str = "org.opencontainers.image.enc.keys.provider.";
/// The key provider of Confidential Containers.
pub const PROVIDER: &str = "attestation-agent";

/// The annotations of an encrypted layer: its options and its key, wrapped in each of the packets.
///
/// # Errors
/// [`Error::Manifest`] where a packet cannot be written.
pub fn annotations(
    packets: &[AnnotationPacket],
    public: &PubOptions,
) -> Result<BTreeMap<String, String>, Error> {
    let keys: Result<Vec<String>, Error> = packets.iter().map(AnnotationPacket::to_annotation).collect();
    Ok(BTreeMap::from([
        (format!("{KEYS_ANNOTATION_PREFIX}{PROVIDER}"), keys?.join(",")),
        (PUBOPTS_ANNOTATION.to_owned(), public.to_annotation()),
    ]))
}

/// Reads an encrypted layer's annotations: the packets of every key provider, and the public options.
///
/// # Errors
/// [`Error::Undecryptable`] where there is no readable packet or option; a layer encrypted only to JWE, PKCS#7 or
/// PGP recipients is one of these, and the message says so.
pub fn read_annotations(layer: &Descriptor) -> Result<(Vec<AnnotationPacket>, PubOptions), Error> {
    let refuse = |why: String| Error::Undecryptable(format!("layer {}: {why}", layer.digest));
    let public = layer
        .annotations
        .get(PUBOPTS_ANNOTATION)
        .ok_or_else(|| refuse(format!("it is encrypted but has no annotation {PUBOPTS_ANNOTATION}")))?;
    let public = PubOptions::from_annotation(public)?;
    let mut packets = Vec::new();
    let mut last = None;
    for (_, value) in layer.annotations.iter().filter(|(k, _)| k.starts_with(KEYS_ANNOTATION_PREFIX)) {
        for item in value.split(',').filter(|s| !s.is_empty()) {
            if packets.len() >= MAX_PACKETS {
                return Err(refuse(format!("it has more than {MAX_PACKETS} wrapped keys")));
            }
            match AnnotationPacket::from_annotation(item) {
                Ok(packet) => packets.push(packet),
                Err(e) => last = Some(e),
            }
        }
    }
    match (packets.is_empty(), last) {
        (false, _) => Ok((packets, public)),
        (true, Some(e)) => Err(e),
        (true, None) => {
            Err(refuse("its key is wrapped for no key provider (JWE, PKCS#7 or PGP only)".to_owned()))
        }
    }
}
