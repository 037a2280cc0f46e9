//! Annotation packets: a wrapped layer key and where the key that wraps it is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// The most packets read from one layer.
pub const MAX_PACKETS: usize = 16;
const MAX_TEXT: usize = 64 * 1024;

/// Which form a packet has on the wire. Every version 1 packet is also a valid version 2 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketVersion {
    /// `{kid, wrapped_data, iv, wrap_type}`.
    V1,
    /// Version 1 plus `version`, `provider`, `provider_settings`, `annotations`.
    V2,
}

/// How the KEK wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrapType {
    /// AES-256-GCM, 12-byte IV, 16-byte tag appended, no AAD.
    #[serde(rename = "A256GCM")]
    A256Gcm,
    /// AES-256-CTR, 16-byte IV, unauthenticated; accepted, never written.
    #[serde(rename = "A256CTR")]
    A256Ctr,
}

/// A wrapped layer key (`org.opencontainers.image.enc.keys.provider.attestation-agent`).
#[derive(Clone, Debug, PartialEq)]
pub struct AnnotationPacket {
    /// The packet's form.
    pub version: PacketVersion,
    /// Where the KEK is: `kbs:///repository/type/tag`, or a KMS's key id.
    pub kid: String,
    /// The wrapped [`super::PrivateOptions`].
    pub wrapped_data: Vec<u8>,
    /// The IV; always there when the provider is `kbs`.
    pub iv: Vec<u8>,
    /// The algorithm; always there when the provider is `kbs`.
    pub wrap_type: Option<WrapType>,
    /// Who keeps the KEK; `kbs` unless said otherwise.
    pub provider: String,
    /// The provider's settings (version 2).
    pub provider_settings: Map<String, Value>,
    /// The provider's annotations (version 2).
    pub annotations: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    kid: String,
    wrapped_data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrap_type: Option<WrapType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider_settings: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Map<String, Value>>,
}

impl AnnotationPacket {
    /// Parses the packet's JSON, version 1 or 2.
    ///
    /// # Errors
    /// [`Error::Undecryptable`].
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let refuse = |why: String| Error::Undecryptable(format!("the annotation packet is malformed: {why}"));
        if json.len() > MAX_TEXT {
            return Err(refuse("too long".to_owned()));
        }
        let wire: Wire = serde_json::from_slice(json).map_err(|e| refuse(e.to_string()))?;
        let decode = |name: &str, text: &str| {
            STANDARD.decode(text).map_err(|_| refuse(format!("{name} is not base64")))
        };
        let v2 = wire.version.is_some()
            || wire.provider.is_some()
            || wire.provider_settings.is_some()
            || wire.annotations.is_some();
        if let Some(v) = &wire.version
            && v != "0.1.0"
        {
            return Err(refuse(format!(
                "its version {:?} is not 0.1.0",
                v.chars().take(40).collect::<String>()
            )));
        }
        let provider = wire.provider.unwrap_or_else(|| "kbs".to_owned());
        let iv = wire.iv.as_deref().map(|iv| decode("iv", iv)).transpose()?;
        if provider == "kbs" && (iv.is_none() || wire.wrap_type.is_none()) {
            return Err(refuse("iv or wrap_type is missing".to_owned()));
        }
        Ok(AnnotationPacket {
            version: if v2 { PacketVersion::V2 } else { PacketVersion::V1 },
            wrapped_data: decode("wrapped_data", &wire.wrapped_data)?,
            kid: wire.kid,
            iv: iv.unwrap_or_default(),
            wrap_type: wire.wrap_type,
            provider,
            provider_settings: wire.provider_settings.unwrap_or_default(),
            annotations: wire.annotations.unwrap_or_default(),
        })
    }

    /// The packet's JSON.
    ///
    /// # Errors
    /// None in practice; [`Error::Manifest`] where JSON cannot be written.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        let v2 = self.version == PacketVersion::V2;
        let wire = Wire {
            version: v2.then(|| "0.1.0".to_owned()),
            provider: v2.then(|| self.provider.clone()),
            kid: self.kid.clone(),
            wrapped_data: STANDARD.encode(&self.wrapped_data),
            iv: self.wrap_type.map(|_| STANDARD.encode(&self.iv)),
            wrap_type: self.wrap_type,
            provider_settings: v2.then(|| self.provider_settings.clone()),
            annotations: v2.then(|| self.annotations.clone()),
        };
        serde_json::to_vec(&wire).map_err(|e| Error::Manifest(e.to_string()))
    }

    /// Parses one item of the annotation: standard base64 of the JSON.
    ///
    /// # Errors
    /// [`Error::Undecryptable`].
    pub fn from_annotation(item: &str) -> Result<Self, Error> {
        if item.len() > MAX_TEXT * 4 / 3 + 4 {
            return Err(Error::Undecryptable("the annotation packet is too long".to_owned()));
        }
        let json = STANDARD
            .decode(item.trim())
            .map_err(|_| Error::Undecryptable("the annotation packet is not base64".to_owned()))?;
        AnnotationPacket::parse(&json)
    }

    /// One item of the annotation.
    ///
    /// # Errors
    /// As [`AnnotationPacket::to_json`].
    pub fn to_annotation(&self) -> Result<String, Error> {
        self.to_json().map(|json| STANDARD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_stays_version_1() {
        let json =
            br#"{"kid":"kbs:///a/b/c","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA","wrap_type":"A256GCM"}"#;
        let p = AnnotationPacket::parse(json).unwrap();
        assert_eq!((p.version, p.provider.as_str()), (PacketVersion::V1, "kbs"));
        assert_eq!(p.to_json().unwrap(), json);
        assert_eq!(AnnotationPacket::from_annotation(&p.to_annotation().unwrap()).unwrap(), p);
    }

    #[test]
    fn version_2_keeps_its_provider() {
        let json = br#"{"version":"0.1.0","provider":"aliyun","kid":"k","wrapped_data":"AAAA",
            "provider_settings":{"region":"x"},"annotations":{"a":1}}"#;
        let p = AnnotationPacket::parse(json).unwrap();
        assert_eq!((p.version, p.wrap_type), (PacketVersion::V2, None));
        assert_eq!(AnnotationPacket::parse(&p.to_json().unwrap()).unwrap(), p);
    }

    #[test]
    fn kbs_needs_iv_and_type() {
        for bad in [
            r#"{"kid":"k","wrapped_data":"AAAA","wrap_type":"A256GCM"}"#,
            r#"{"kid":"k","wrapped_data":"AAAA","iv":"AAAA","wrap_type":"A128GCM"}"#,
            r#"{"kid":"k","wrapped_data":"!","iv":"AAAA","wrap_type":"A256GCM"}"#,
            r#"{"version":"9.0.0","kid":"k","wrapped_data":"AAAA","iv":"AAAA","wrap_type":"A256GCM"}"#,
            "{}",
        ] {
            assert!(matches!(AnnotationPacket::parse(bad.as_bytes()), Err(Error::Undecryptable(_))), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,300}") {
            let _ = AnnotationPacket::parse(text.as_bytes());
            let _ = AnnotationPacket::from_annotation(&text);
        }
    }
}
