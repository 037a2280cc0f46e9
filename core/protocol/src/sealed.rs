//! Sealed secrets of CoCo: `sealed.<protected header>.<payload>.<signature>`, each base64url without padding.
//!
//! Contract: pure. The text comes from the cluster, so from an attacker: it is bounded, its signature is checked under the key
//! that the plan names, and it may stand for the one resource that the plan names. The header's `kid` and the payload's name
//! choose nothing; they must be what the plan says.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::uri::ResourceUri;
use crate::{Error, b64};

/// What every sealed secret begins with.
pub const PREFIX: &str = "sealed.";
/// Longest sealed secret that is read, in bytes.
pub const MAX_SEALED: usize = 256 << 10;
/// Longest key document, in bytes.
const MAX_KEY: usize = 4096;
const VERSION: &str = "0.1.0";
/// The provider whose keys and secrets are Trustee's own.
const PROVIDER: &str = "kbs";

/// What a sealed secret says, once its signature is checked.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// It stands for a resource of Trustee's.
    Vault {
        /// Which.
        resource: ResourceUri,
    },
    /// It is encrypted under a data key, and that under a key of Trustee's (32 bytes).
    Envelope(Box<Envelope>),
}

/// An encrypted secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The key of Trustee's.
    pub resource: ResourceUri,
    /// The data key under it: AES-256-GCM, nonce of 12 bytes in front, tag of 16 behind.
    encrypted_key: Vec<u8>,
    /// The secret under the data key: AES-256-GCM, tag behind.
    encrypted_data: Vec<u8>,
    iv: [u8; 12],
}

#[derive(Deserialize, Serialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Wire {
    version: String,
    #[serde(rename = "type")]
    kind: String,
    provider: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    key_id: String,
    #[serde(default)]
    encrypted_key: String,
    #[serde(default)]
    encrypted_data: String,
    #[serde(default)]
    wrap_type: String,
    #[serde(default)]
    iv: String,
}

/// A public key for ES256 as a JWK.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

fn refuse(problem: impl Into<String>) -> Error {
    Error::invalid("sealed secret", problem)
}

/// Whether a text means to be a sealed secret.
pub fn is_sealed(text: &[u8]) -> bool {
    text.starts_with(PREFIX.as_bytes())
}

/// Reads a sealed secret that must be signed by the key of which `signer` is the name and `key` the document (JWK, EC,
/// P-256; private members are ignored).
///
/// # Errors
/// [`Error`] for a text that is none, too long, signed by another or not at all, of another version, or of a provider that is
/// not Trustee.
pub fn open(text: &[u8], signer: &ResourceUri, key: &[u8]) -> Result<Payload, Error> {
    if text.len() > MAX_SEALED {
        return Err(refuse(format!("{} bytes; at most {MAX_SEALED} are read", text.len())));
    }
    let text = std::str::from_utf8(text).map_err(|_| refuse("no text"))?.trim_end_matches(['\n', '\r']);
    let body = text.strip_prefix(PREFIX).ok_or_else(|| refuse("none"))?;
    let mut parts = body.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse("must have a header, a payload and a signature"));
    };
    let json = |part: &str| b64::url_decode(part).map_err(|_| refuse("is not base64url"));
    let read: Header =
        serde_json::from_slice(&json(header)?).map_err(|_| refuse("its header is malformed"))?;
    if read.alg != "ES256" {
        return Err(refuse("its algorithm is not ES256"));
    }
    // Before the signature: it says whose signature this means to be, and decides nothing.
    if read.kid.parse::<ResourceUri>().ok().as_ref() != Some(signer) {
        return Err(refuse(format!("it names another signer than {signer}")));
    }
    let signed = body.get(..header.len() + 1 + payload.len()).unwrap_or_default();
    verify_es256(key, signed.as_bytes(), &json(signature)?)?;
    let wire: Wire =
        serde_json::from_slice(&json(payload)?).map_err(|_| refuse("its payload is malformed"))?;
    wire.read()
}

fn verify_es256(key: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), Error> {
    let bad = || refuse("the signer's key is no EC key of P-256 (JWK)");
    let key: Jwk = if key.len() > MAX_KEY {
        return Err(bad());
    } else {
        serde_json::from_slice(key).map_err(|_| bad())?
    };
    let coordinate = |text: &str| b64::url_decode(text).ok().filter(|c| c.len() == 32).ok_or_else(bad);
    if key.kty != "EC" || key.crv != "P-256" {
        return Err(bad());
    }
    let point = [&[4][..], &coordinate(&key.x)?, &coordinate(&key.y)?].concat();
    let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature);
    verified.map_err(|_| refuse("its signature does not verify"))
}

impl Wire {
    fn read(self) -> Result<Payload, Error> {
        if self.version != VERSION || self.provider != PROVIDER {
            return Err(refuse(format!("only version {VERSION} of provider {PROVIDER} is known")));
        }
        let uri = |text: &str| text.parse().map_err(|_| refuse("it names no resource (kbs:///…)"));
        match self.kind.as_str() {
            "vault" => Ok(Payload::Vault { resource: uri(&self.name)? }),
            "envelope" if self.wrap_type == "A256GCM" => {
                let bytes = |text: &str| b64::std_decode(text).map_err(|_| refuse("is not base64"));
                let iv = bytes(&self.iv)?.try_into().map_err(|_| refuse("its IV has not 12 bytes"))?;
                Ok(Payload::Envelope(Box::new(Envelope {
                    resource: uri(&self.key_id)?,
                    encrypted_key: bytes(&self.encrypted_key)?,
                    encrypted_data: bytes(&self.encrypted_data)?,
                    iv,
                })))
            }
            _ => Err(refuse("it is neither a vault's nor an envelope of A256GCM")),
        }
    }
}

impl Payload {
    /// The resource for which it stands, or whose key opens it.
    pub fn resource(&self) -> &ResourceUri {
        match self {
            Payload::Vault { resource } => resource,
            Payload::Envelope(envelope) => &envelope.resource,
        }
    }
}

impl Envelope {
    /// The secret, by the key of Trustee's.
    ///
    /// # Errors
    /// [`Error`] for a key that is not of 32 bytes, or the wrong one.
    pub fn open(&self, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (nonce, wrapped) = self
            .encrypted_key
            .split_first_chunk::<12>()
            .ok_or_else(|| refuse("its encrypted key is too short"))?;
        let data_key = decrypt(key, *nonce, wrapped)?;
        decrypt(&data_key, self.iv, &self.encrypted_data)
    }
}

fn decrypt(key: &[u8], nonce: [u8; 12], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = || refuse("the key does not open it");
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| wrong())?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length =
        LessSafeKey::new(key).open_in_place(nonce, Aad::empty(), &mut bytes).map_err(|_| wrong())?.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// The vault form for a resource.
pub fn vault(resource: &ResourceUri) -> serde_json::Value {
    serde_json::json!({
        "version": VERSION, "type": "vault", "name": resource.to_string(), "provider": PROVIDER,
        "provider_settings": {}, "annotations": {},
    })
}

/// The envelope form of a secret under a key of Trustee's (32 bytes).
///
/// # Errors
/// [`Error`] for a key of another length, or where no random bytes can be had.
pub fn envelope(secret: &[u8], key: &ResourceUri, key_bytes: &[u8]) -> Result<serde_json::Value, Error> {
    let failed = || refuse("the key has not 32 bytes, or there is no random number");
    let random = |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).map_err(|_| failed());
    let encrypt = |key: &[u8], nonce: [u8; 12], plain: &[u8]| {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| failed())?;
        let mut bytes = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        LessSafeKey::new(key)
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes)
            .map_err(|_| failed())?;
        Ok::<_, Error>(bytes)
    };
    let (mut data_key, mut iv, mut nonce) = (Zeroizing::new([0; 32]), [0; 12], [0; 12]);
    random(data_key.as_mut_slice())?;
    random(&mut iv)?;
    random(&mut nonce)?;
    let wrapped = [&nonce[..], &encrypt(key_bytes, nonce, data_key.as_slice())?].concat();
    Ok(serde_json::json!({
        "version": VERSION, "type": "envelope", "provider": PROVIDER, "key_id": key.to_string(),
        "encrypted_key": b64::std_encode(&wrapped), "wrap_type": "A256GCM", "iv": b64::std_encode(&iv),
        "encrypted_data": b64::std_encode(&encrypt(data_key.as_slice(), iv, secret)?),
        "provider_settings": {}, "annotations": {},
    }))
}

/// Signs a payload: the whole sealed secret.
///
/// # Errors
/// [`Error`] where signing fails.
pub fn seal(payload: &serde_json::Value, signer: &ResourceUri, key: &EcdsaKeyPair) -> Result<String, Error> {
    let header = serde_json::json!({"alg": "ES256", "kid": signer.to_string()}).to_string();
    let body =
        format!("{}.{}", b64::url_encode(header.as_bytes()), b64::url_encode(payload.to_string().as_bytes()));
    let signature =
        key.sign(&SystemRandom::new(), body.as_bytes()).map_err(|_| refuse("it could not be signed"))?;
    Ok(format!("{PREFIX}{body}.{}", b64::url_encode(signature.as_ref())))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, KeyPair};

    use super::*;

    fn pair() -> (EcdsaKeyPair, String) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let jwk = serde_json::json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64::url_encode(&point[1..33]), "y": b64::url_encode(&point[33..]),
        });
        (pair, jwk.to_string())
    }

    fn uri(text: &str) -> ResourceUri {
        format!("kbs:///default/{text}").parse().unwrap()
    }

    fn said(text: &str, key: &str) -> String {
        open(text.as_bytes(), &uri("key/signer"), key.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_sealed_is_read_by_the_signers_key_alone() {
        let (pair, jwk) = pair();
        let sealed = seal(&vault(&uri("secret/db")), &uri("key/signer"), &pair).unwrap();
        let payload = open(format!("{sealed}\n").as_bytes(), &uri("key/signer"), jwk.as_bytes()).unwrap();
        assert_eq!(payload, Payload::Vault { resource: uri("secret/db") });
        assert!(said(&sealed, &super::tests::pair().1).contains("does not verify"));
        assert!(open(sealed.as_bytes(), &uri("key/other"), jwk.as_bytes()).is_err());
        for at in [10, sealed.len() / 2, sealed.len() - 5] {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(open(&bytes, &uri("key/signer"), jwk.as_bytes()).is_err(), "{at}");
        }
    }

    #[test]
    fn an_envelope_opens_by_its_key_alone() {
        let (pair, jwk) = pair();
        let payload = envelope(b"hunter2", &uri("key/kek"), &[7; 32]).unwrap();
        let sealed = seal(&payload, &uri("key/signer"), &pair).unwrap();
        let Payload::Envelope(envelope) =
            open(sealed.as_bytes(), &uri("key/signer"), jwk.as_bytes()).unwrap()
        else {
            panic!("no envelope");
        };
        assert_eq!(envelope.resource, uri("key/kek"));
        assert_eq!(envelope.open(&[7; 32]).unwrap().as_slice(), b"hunter2");
        assert!(envelope.open(&[8; 32]).is_err() && envelope.open(b"short").is_err());
    }

    #[test]
    fn what_is_none_is_refused() {
        let (pair, jwk) = pair();
        let signed = |payload: serde_json::Value| seal(&payload, &uri("key/signer"), &pair).unwrap();
        for bad in
            ["", "sealed.", "sealed.a.b", "sealed.a.b.c.d", "sealed.fakejwsheader.e30.fakesignature", "plain"]
        {
            said(bad, &jwk);
        }
        let mut payload = vault(&uri("secret/db"));
        payload["version"] = "0.2.0".into();
        assert!(said(&signed(payload), &jwk).contains("version"));
        let mut payload = vault(&uri("secret/db"));
        payload["provider"] = "aws".into();
        assert!(said(&signed(payload), &jwk).contains("provider"));
        let mut payload = vault(&uri("secret/db"));
        payload["name"] = "file:///etc/passwd".into();
        assert!(said(&signed(payload), &jwk).contains("names no resource"));
        let good = signed(vault(&uri("secret/db")));
        for key in ["", "{}", r#"{"kty":"EC","crv":"P-256","x":"","y":""}"#, &"x".repeat(5000)] {
            assert!(said(&good, key).contains("no EC key"), "{key:.40}");
        }
        assert!(said(&format!("sealed.{}", "a".repeat(MAX_SEALED)), &jwk).contains("at most"));
    }
}
