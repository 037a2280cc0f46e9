//! JSON Web Encryption (RFC 7516) as ocicrypt uses it for `org.opencontainers.image.enc.keys.jwe`: the layer's private
//! options as content under A256GCM, its key encrypted with RSA-OAEP or ECDH-ES+A256KW.
//!
//! Written is the flattened JSON form, one message per recipient, with RSA-OAEP (SHA-1) for RSA keys, since older
//! ocicrypt knows no other. Read are the flattened and the general form (one message for many recipients, which
//! ocicrypt writes), and RSA-OAEP-256 too. Whatever would change the meaning (`crit`, `zip`, `aad`, a header member
//! given twice) is refused.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::ecdh::{self, Curve, KEY_LEN};
use super::keys::{OpeningKey, Private, Public, RecipientKey};
use crate::Error;

/// Largest message, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Most recipients of one message.
pub const MAX_JWE_RECIPIENTS: usize = 32;
const OAEP: &str = "RSA-OAEP";
const OAEP_256: &str = "RSA-OAEP-256";
const ENC: &str = "A256GCM";
const TAG_LEN: usize = 16;

/// A message as it travels, and what was read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwe {
    json: Vec<u8>,
    protected: String,
    iv: [u8; NONCE_LEN],
    /// Ciphertext, then tag.
    sealed: Vec<u8>,
    recipients: Vec<Recipient>,
}

/// One way to the content key.
#[derive(Clone, Debug, PartialEq)]
struct Recipient {
    header: Map<String, Value>,
    encrypted_key: Vec<u8>,
}

#[derive(Deserialize)]
struct Wire {
    protected: String,
    #[serde(default)]
    unprotected: Map<String, Value>,
    #[serde(default)]
    header: Map<String, Value>,
    #[serde(default)]
    encrypted_key: String,
    #[serde(default)]
    recipients: Option<Vec<RecipientWire>>,
    #[serde(default)]
    aad: Option<Value>,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Deserialize)]
struct RecipientWire {
    #[serde(default)]
    header: Map<String, Value>,
    encrypted_key: String,
}

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::Undecryptable(format!("the JWE is malformed: {why}"))
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse(format!("{what} is not base64url")))
}

/// One header of several parts, whose members must all differ (RFC 7516 §7.2.1).
fn merge(parts: [&Map<String, Value>; 3]) -> Result<Map<String, Value>, Error> {
    let mut all = Map::new();
    for (name, value) in parts.into_iter().flatten() {
        if all.insert(name.clone(), value.clone()).is_some() {
            return Err(refuse("a header member is given twice"));
        }
    }
    if ["crit", "zip"].iter().any(|name| all.contains_key(*name)) {
        return Err(refuse("it uses crit or zip"));
    }
    if all.get("enc").and_then(Value::as_str) != Some(ENC) {
        return Err(refuse("its content is not under A256GCM"));
    }
    Ok(all)
}

impl Jwe {
    /// Parses a message of at most 64 KiB and [`MAX_JWE_RECIPIENTS`] recipients.
    ///
    /// # Errors
    /// [`Error::Undecryptable`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_TEXT {
            return Err(refuse("it is too long"));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| refuse("not the JSON of a JWE"))?;
        if wire.aad.is_some() {
            return Err(refuse("it has an aad"));
        }
        let protected: Map<String, Value> = serde_json::from_slice(&decode(&wire.protected, "protected")?)
            .map_err(|_| refuse("protected is no JSON object"))?;
        // go-jose repeats the first recipient's key at the top; it is the list that counts.
        let listed = match wire.recipients {
            Some(listed) if !wire.header.is_empty() || listed.len() > MAX_JWE_RECIPIENTS => {
                return Err(refuse("it has too many recipients, or is of two forms at once"));
            }
            Some(listed) => listed,
            None => vec![RecipientWire { header: wire.header, encrypted_key: wire.encrypted_key }],
        };
        let mut recipients = Vec::with_capacity(listed.len());
        for recipient in &listed {
            recipients.push(Recipient {
                header: merge([&protected, &wire.unprotected, &recipient.header])?,
                encrypted_key: decode(&recipient.encrypted_key, "encrypted_key")?,
            });
        }
        let mut sealed = decode(&wire.ciphertext, "ciphertext")?;
        let tag = decode(&wire.tag, "tag")?;
        if tag.len() != TAG_LEN {
            return Err(refuse("tag is not 16 bytes"));
        }
        sealed.extend_from_slice(&tag);
        let iv = decode(&wire.iv, "iv")?.try_into().map_err(|_| refuse("iv is not 12 bytes"))?;
        Ok(Jwe { json: bytes.to_vec(), protected: wire.protected, iv, sealed, recipients })
    }

    /// Encrypts private options to one recipient.
    ///
    /// # Errors
    /// [`Error::Key`] where the library cannot.
    pub fn seal(key: &RecipientKey, plaintext: &[u8]) -> Result<Self, Error> {
        let failed = |_| Error::Key("the layer's key cannot be encrypted to this recipient".to_owned());
        let mut cek = Zeroizing::new([0; KEY_LEN]);
        let mut iv = [0; NONCE_LEN];
        rand::fill(cek.as_mut_slice()).and_then(|()| rand::fill(&mut iv)).map_err(failed)?;
        let (header, encrypted_key) = match &key.0 {
            Public::Rsa(key) => {
                let mut out = vec![0; key.ciphertext_size()];
                let length = key.encrypt(&OAEP_SHA1_MGF1SHA1, &*cek, &mut out, None).map_err(failed)?.len();
                out.truncate(length);
                (json!({"alg": OAEP, "enc": ENC}), out)
            }
            Public::Ec { curve, point } => {
                let (ephemeral, wrapped) = ecdh::wrap(*curve, point, &cek)?;
                let (x, y) = ephemeral
                    .get(1..)
                    .and_then(|xy| xy.split_at_checked(curve.coordinate_len()))
                    .unwrap_or_default();
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                let epk = json!({"kty": "EC", "crv": curve.name(), "x": x, "y": y});
                (json!({"alg": ecdh::ALG, "enc": ENC, "epk": epk}), wrapped)
            }
        };
        let protected = URL_SAFE_NO_PAD.encode(header.to_string());
        let mut sealed = plaintext.to_vec();
        content_key(&cek)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(iv),
                Aad::from(protected.as_bytes()),
                &mut sealed,
            )
            .map_err(failed)?;
        let (ciphertext, tag) =
            sealed.split_at_checked(sealed.len().saturating_sub(TAG_LEN)).unwrap_or_default();
        let json = json!({
            "protected": protected,
            "encrypted_key": URL_SAFE_NO_PAD.encode(&encrypted_key),
            "iv": URL_SAFE_NO_PAD.encode(iv),
            "ciphertext": URL_SAFE_NO_PAD.encode(ciphertext),
            "tag": URL_SAFE_NO_PAD.encode(tag),
        });
        Jwe::parse(json.to_string().as_bytes())
    }

    /// Decrypts with the first key that one of the recipients was encrypted to.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] where none opens it.
    pub fn open(&self, keys: &[OpeningKey]) -> Result<Zeroizing<Vec<u8>>, Error> {
        for recipient in &self.recipients {
            for cek in keys.iter().filter_map(|key| recipient.content_key(key)) {
                let nonce = Nonce::assume_unique_for_key(self.iv);
                let mut data = Zeroizing::new(self.sealed.clone());
                let aad = Aad::from(self.protected.as_bytes());
                if let Ok(plain) = content_key(&cek)?.open_in_place(nonce, aad, data.as_mut_slice()) {
                    let length = plain.len();
                    data.truncate(length);
                    return Ok(data);
                }
            }
        }
        Err(Error::Undecryptable("none of the keys opens the JWE of the layer's key".to_owned()))
    }

    /// Its recipients for people: how each one's key is encrypted, and the key id, where one is given.
    pub fn recipients(&self) -> Vec<String> {
        self.recipients.iter().map(Recipient::describe).collect()
    }

    /// The message.
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

impl Recipient {
    fn text(&self, name: &str) -> &str {
        self.header.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn content_key(&self, key: &OpeningKey) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        match (&key.0, self.text("alg")) {
            (Private::Rsa(key), alg @ (OAEP | OAEP_256)) => {
                let oaep = if alg == OAEP { &OAEP_SHA1_MGF1SHA1 } else { &OAEP_SHA256_MGF1SHA256 };
                let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
                let cek = key.decrypt(oaep, &self.encrypted_key, &mut out, None).ok()?;
                let mut kept = Zeroizing::new([0; KEY_LEN]);
                if cek.len() != KEY_LEN {
                    return None;
                }
                kept.copy_from_slice(cek);
                Some(kept)
            }
            (Private::Ec { curve, key }, ecdh::ALG) => {
                let epk = self.header.get("epk")?;
                let member = |name| epk.get(name).and_then(Value::as_str);
                if member("kty") != Some("EC") || member("crv").and_then(Curve::by_name) != Some(*curve) {
                    return None;
                }
                let coordinate = |name| URL_SAFE_NO_PAD.decode(member(name)?).ok();
                let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
                let info = |name| URL_SAFE_NO_PAD.decode(self.text(name)).ok();
                ecdh::unwrap(*curve, key, &point, (&info("apu")?, &info("apv")?), &self.encrypted_key)
            }
            _ => None,
        }
    }

    fn describe(&self) -> String {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
        let mut text = plain(self.text("alg"));
        let curve = self.header.get("epk").and_then(|epk| epk.get("crv")).and_then(Value::as_str);
        for part in [curve.unwrap_or_default(), self.text("kid")].into_iter().filter(|p| !p.is_empty()) {
            text.push(' ');
            text.push_str(&plain(part));
        }
        text
    }
}

fn content_key(cek: &[u8; KEY_LEN]) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, cek)
        .map(LessSafeKey::new)
        .map_err(|_| Error::Key("AES-256-GCM cannot be set up".to_owned()))
}

#[cfg(test)]
#[path = "jwe_tests.rs"]
mod tests;
