//! Wrapping a layer's key under a KEK, and unwrapping it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use zeroize::Zeroizing;

use super::packet::{AnnotationPacket, PacketVersion, WrapType};
use crate::Error;

/// Length of a key-encryption key in bytes.
pub const KEK_BYTES: usize = 32;

/// Wraps private options under a KEK: AES-256-GCM with a random IV, no AAD, as a version 1 packet.
///
/// # Errors
/// [`Error::Key`] where the KEK is not 32 bytes or there is no randomness.
pub fn wrap_key(kek: &[u8], kid: &str, plaintext: &[u8]) -> Result<AnnotationPacket, Error> {
    let mut iv = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut iv).map_err(|_| Error::Key("no randomness".to_owned()))?;
    let mut data = plaintext.to_vec();
    gcm(kek)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut data)
        .map_err(|_| Error::Key("AES-256-GCM refused to seal".to_owned()))?;
    Ok(AnnotationPacket {
        version: PacketVersion::V1,
        kid: kid.to_owned(),
        wrapped_data: data,
        iv: iv.to_vec(),
        wrap_type: Some(WrapType::A256Gcm),
        provider: "kbs".to_owned(),
        provider_settings: serde_json::Map::new(),
        annotations: serde_json::Map::new(),
    })
}

/// Unwraps what [`wrap_key`] wrapped; `A256CTR` of other tools is read too.
///
/// # Errors
/// [`Error::Key`] where the KEK is not 32 bytes; [`Error::Undecryptable`] where the packet does not open under it
/// or is meant for a KMS.
pub fn unwrap_key(kek: &[u8], packet: &AnnotationPacket) -> Result<Zeroizing<Vec<u8>>, Error> {
    let refuse = || Error::Undecryptable(format!("the layer key does not unwrap under {:?}", packet.kid));
    match packet.wrap_type {
        Some(WrapType::A256Gcm) => {
            let nonce = Nonce::try_assume_unique_for_key(&packet.iv).map_err(|_| refuse())?;
            let mut data = Zeroizing::new(packet.wrapped_data.clone());
            let plain = gcm(kek)?.open_in_place(nonce, Aad::empty(), &mut data).map_err(|_| refuse())?.len();
            data.truncate(plain);
            Ok(data)
        }
        Some(WrapType::A256Ctr) => {
            let key = UnboundCipherKey::new(&AES_256, kek).map_err(|_| kek_length())?;
            let iv: [u8; 16] = packet.iv.as_slice().try_into().map_err(|_| refuse())?;
            let mut data = Zeroizing::new(packet.wrapped_data.clone());
            let context = DecryptionContext::Iv128(iv.into());
            DecryptingKey::ctr(key)
                .and_then(|k| k.decrypt(&mut data, context).map(|_| ()))
                .map_err(|_| refuse())?;
            Ok(data)
        }
        None => Err(Error::Undecryptable(format!(
            "the layer key is kept by provider {:?}, which is not supported",
            packet.provider.chars().take(40).collect::<String>()
        ))),
    }
}

fn kek_length() -> Error {
    Error::Key(format!("a key-encryption key has {KEK_BYTES} bytes"))
}

fn gcm(kek: &[u8]) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, kek).map(LessSafeKey::new).map_err(|_| kek_length())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::PrivateOptions;
    use base64::Engine as _;

    /// The key that upstream's key provider uses with `sample=true`.
    const SAMPLE_KEK: [u8; 32] = [
        217, 155, 119, 5, 176, 186, 122, 22, 130, 149, 179, 163, 54, 114, 112, 176, 221, 155, 55, 27, 245,
        20, 202, 139, 155, 167, 240, 163, 55, 17, 218, 234,
    ];

    #[test]
    fn upstreams_sample_packet_opens() {
        let dir = std::env::var("COCOON_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        let Ok(json) = std::fs::read(format!("{dir}/image/sample_kbc_annotation.json")) else {
            println!("skipped: no vectors in {dir}");
            return;
        };
        let packet = AnnotationPacket::parse(&json).unwrap();
        assert_eq!(packet.kid, "kbs:///default/key/1");
        let options = PrivateOptions::parse(&unwrap_key(&SAMPLE_KEK, &packet).unwrap()).unwrap();
        let b64 = base64::engine::general_purpose::STANDARD;
        assert_eq!(b64.encode(options.symkey.as_slice()), "1jL2jJV0Oyz2nmPkLtqulW6cKcpIUN5FpILcVnP5Uqs=");
        assert_eq!(b64.encode(options.nonce), "r10F9oaCu+nWFXfod3l83g==");
        assert_eq!(options.digest, "sha256:18be1897f9402f27c8c0eba7c86e0c00f5656db62961b5949d55f9565c42c6e7");
    }

    #[test]
    fn wrap_round_trips_and_authenticates() {
        let mut packet = wrap_key(&SAMPLE_KEK, "kbs:///a/b/c", b"secret").unwrap();
        assert_eq!(&unwrap_key(&SAMPLE_KEK, &packet).unwrap()[..], b"secret");
        assert!(matches!(unwrap_key(&[0; 32], &packet), Err(Error::Undecryptable(_))));
        assert!(matches!(unwrap_key(&[0; 31], &packet), Err(Error::Key(_))));
        packet.wrapped_data[0] ^= 1;
        assert!(unwrap_key(&SAMPLE_KEK, &packet).is_err());
        packet.iv.pop();
        assert!(unwrap_key(&SAMPLE_KEK, &packet).is_err());
    }

    #[test]
    fn ctr_is_read_as_nist_defines_it() {
        // NIST SP 800-38A, F.5.6 CTR-AES256.Decrypt, first block.
        let kek = hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").unwrap();
        let mut packet = wrap_key(&kek, "k", b"").unwrap();
        packet.wrap_type = Some(WrapType::A256Ctr);
        packet.iv = hex::decode("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").unwrap();
        packet.wrapped_data = hex::decode("601ec313775789a5b7a7f504bbf3d228").unwrap();
        assert_eq!(hex::encode(&unwrap_key(&kek, &packet).unwrap()[..]), "6bc1bee22e409f96e93d7e117393172a");
    }
}
