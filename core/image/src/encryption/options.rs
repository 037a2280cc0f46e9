//! ocicrypt's private and public layer options.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

/// The one layer cipher of ocicrypt.
pub const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";
const MAX_TEXT: usize = 16 * 1024;

/// What the KEK wraps: `{"symkey": b64, "digest": "sha256:…", "cipheroptions": {"nonce": b64}}`. Secret.
#[derive(Clone)]
pub struct PrivateOptions {
    /// The 32-byte key of cipher and HMAC.
    pub symkey: Zeroizing<[u8; 32]>,
    /// Digest of the layer before encryption; informational, the HMAC is what authenticates.
    pub digest: String,
    /// The 16-byte initial counter block.
    pub nonce: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct PrivateWire {
    symkey: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    cipheroptions: BTreeMap<String, String>,
}

impl PrivateOptions {
    /// Parses the unwrapped JSON.
    ///
    /// # Errors
    /// [`Error::Undecryptable`]; the message never quotes the input.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Undecryptable(format!("the unwrapped layer key is malformed: {why}"));
        if json.len() > MAX_TEXT {
            return Err(refuse("too long"));
        }
        let mut wire: PrivateWire =
            serde_json::from_slice(json).map_err(|_| refuse("not the expected JSON"))?;
        let key = STANDARD.decode(&wire.symkey).map(Zeroizing::new);
        wire.symkey.zeroize();
        let mut symkey = Zeroizing::new([0; 32]);
        match key {
            Ok(k) if k.len() == symkey.len() => symkey.copy_from_slice(&k),
            _ => return Err(refuse("symkey is not 32 bytes of base64")),
        }
        let nonce = wire.cipheroptions.get("nonce").and_then(|n| STANDARD.decode(n).ok());
        let nonce =
            nonce.and_then(|n| n.try_into().ok()).ok_or_else(|| refuse("nonce is not 16 bytes of base64"))?;
        Ok(PrivateOptions { symkey, digest: wire.digest, nonce })
    }

    /// The JSON to be wrapped.
    ///
    /// # Errors
    /// None in practice; [`Error::Manifest`] where JSON cannot be written.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut wire = PrivateWire {
            symkey: STANDARD.encode(self.symkey.as_slice()),
            digest: self.digest.clone(),
            cipheroptions: BTreeMap::from([("nonce".to_owned(), STANDARD.encode(self.nonce))]),
        };
        let json = serde_json::to_vec(&wire);
        wire.symkey.zeroize();
        json.map(Zeroizing::new).map_err(|e| Error::Manifest(e.to_string()))
    }
}

/// What stands in the clear: `{"cipher": …, "hmac": b64, "cipheroptions": {}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubOptions {
    /// HMAC-SHA-256 of the ciphertext under the layer's key.
    pub hmac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct PubWire {
    cipher: String,
    hmac: String,
    #[serde(default)]
    cipheroptions: Option<BTreeMap<String, String>>,
}

impl PubOptions {
    /// Parses the annotation: standard base64 of the JSON.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] where it is malformed or names another cipher.
    pub fn from_annotation(text: &str) -> Result<Self, Error> {
        let refuse =
            |why: String| Error::Undecryptable(format!("the layer's public options are malformed: {why}"));
        if text.len() > MAX_TEXT {
            return Err(refuse("too long".to_owned()));
        }
        let json = STANDARD.decode(text.trim()).map_err(|_| refuse("not base64".to_owned()))?;
        let wire: PubWire = serde_json::from_slice(&json).map_err(|e| refuse(e.to_string()))?;
        if wire.cipher != CIPHER {
            let named = wire.cipher.chars().take(60).collect::<String>();
            return Err(refuse(format!("the cipher {named:?} is not {CIPHER}")));
        }
        let hmac = STANDARD.decode(&wire.hmac).ok().and_then(|h| h.try_into().ok());
        Ok(PubOptions { hmac: hmac.ok_or_else(|| refuse("hmac is not 32 bytes of base64".to_owned()))? })
    }

    /// The annotation's text.
    pub fn to_annotation(&self) -> String {
        let hmac = STANDARD.encode(self.hmac);
        STANDARD.encode(format!(r#"{{"cipher":"{CIPHER}","hmac":"{hmac}","cipheroptions":{{}}}}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_round_trip() {
        let p = PrivateOptions { symkey: Zeroizing::new([3; 32]), digest: "sha256:x".into(), nonce: [9; 16] };
        let back = PrivateOptions::parse(&p.to_json().unwrap()).unwrap();
        assert_eq!((*back.symkey, back.nonce, back.digest.as_str()), ([3; 32], [9; 16], "sha256:x"));
        let o = PubOptions { hmac: [5; 32] };
        assert_eq!(PubOptions::from_annotation(&o.to_annotation()).unwrap(), o);
    }

    #[test]
    fn refuses_other_ciphers_and_lengths() {
        let b64 = |t: &str| STANDARD.encode(t);
        for bad in [
            b64(r#"{"cipher":"NONE","hmac":""}"#),
            b64(&format!(r#"{{"cipher":"{CIPHER}","hmac":"AAAA"}}"#)),
            b64("[]"),
            "?".to_owned(),
        ] {
            assert!(matches!(PubOptions::from_annotation(&bad), Err(Error::Undecryptable(_))));
        }
        for bad in [r#"{"symkey":"AAAA","cipheroptions":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#, "{}", "x"] {
            assert!(PrivateOptions::parse(bad.as_bytes()).is_err());
        }
    }
}
