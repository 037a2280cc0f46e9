//! Keys of encrypted shared layers ([`crate::MediaType::SharedLayer`]). They are wrapped as ocicrypt's are, in packets under
//! the key provider's annotation; but there is no cipher to name, since the media type says it, and no HMAC, since a root
//! hash in the plan is what authenticates the blocks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::recipients::items;
use super::{AnnotationPacket, KEYS_ANNOTATION_PREFIX, MAX_PACKETS, PROVIDER};
use crate::{Descriptor, Error};

/// The annotations of a shared layer whose key is in these packets.
///
/// # Errors
/// [`Error::Key`] where there is none, or too many; [`Error::Manifest`] where one cannot be written.
pub fn shared_annotations(packets: &[AnnotationPacket]) -> Result<BTreeMap<String, String>, Error> {
    if packets.is_empty() || packets.len() > MAX_PACKETS {
        return Err(Error::Key(format!("a layer takes 1 to {MAX_PACKETS} wrapped keys")));
    }
    let packets: Result<Vec<String>, Error> =
        packets.iter().map(|p| Ok(STANDARD.encode(p.to_json()?))).collect();
    Ok(BTreeMap::from([(format!("{KEYS_ANNOTATION_PREFIX}{PROVIDER}"), packets?.join(","))]))
}

/// The packets of a shared layer's key.
///
/// # Errors
/// [`Error::Undecryptable`] where there is none, or what is there is malformed or too large.
pub fn shared_packets(layer: &Descriptor) -> Result<Vec<AnnotationPacket>, Error> {
    let refuse = |why: String| Error::Undecryptable(format!("layer {}: {why}", layer.digest));
    let value = layer.annotations.get(&format!("{KEYS_ANNOTATION_PREFIX}{PROVIDER}"));
    let value = value.ok_or_else(|| refuse("no wrapped key is there".to_owned()))?;
    let packets = items(value, MAX_PACKETS).map_err(refuse)?;
    let packets: Result<Vec<_>, _> = packets.iter().map(|p| AnnotationPacket::parse(p)).collect();
    match packets {
        Ok(packets) if packets.is_empty() => Err(refuse("no wrapped key is there".to_owned())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::wrap_key;
    use crate::media_type::SHARED_ENCRYPTED;
    use crate::{Digest, MediaType};

    fn layer(annotations: BTreeMap<String, String>) -> Descriptor {
        serde_json::from_value(serde_json::json!({
            "mediaType": SHARED_ENCRYPTED, "digest": Digest::sha256(b"x"), "size": 1, "annotations": annotations,
        }))
        .unwrap()
    }

    #[test]
    fn packets_round_trip() {
        let packet = wrap_key(&[1; 32], "kbs:///default/image-key/a", b"{}").unwrap();
        let layer = layer(shared_annotations(&[packet.clone(), packet.clone()]).unwrap());
        assert_eq!(layer.kind(), MediaType::SharedLayer);
        let read = shared_packets(&layer).unwrap();
        assert_eq!((read.len(), read[0].kid.as_str()), (2, "kbs:///default/image-key/a"));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert!(shared_annotations(&[]).is_err());
        let name = format!("{KEYS_ANNOTATION_PREFIX}{PROVIDER}");
        assert!(shared_packets(&layer(BTreeMap::new())).is_err());
        for bad in ["", ",", "%", "e30=", &"AAAA,".repeat(100)] {
            let layer = layer(BTreeMap::from([(name.clone(), bad.to_owned())]));
            assert!(matches!(shared_packets(&layer), Err(Error::Undecryptable(_))), "{bad}");
        }
    }
}
