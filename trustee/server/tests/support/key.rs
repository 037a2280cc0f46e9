//! Guests' keys of every kind that the protocol knows, with a reading of JWEs that shares no code with the server.

use std::sync::LazyLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P521, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature::KeyPair as _;
use cocoon_protocol::jwk::TeePublicKey;
use cocoon_protocol::{TeeKeyPair, b64};
use serde_json::{Value, json};

use super::sha256;

/// Made once: it takes a while.
static RSA: LazyLock<PrivateDecryptingKey> =
    LazyLock::new(|| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap());

pub enum Key {
    P256(TeeKeyPair),
    P521(PrivateKey),
    /// `RSA-OAEP-256` or `RSA1_5`.
    Rsa(&'static str),
}

impl Key {
    pub fn p256() -> Key {
        Key::P256(TeeKeyPair::generate().unwrap())
    }

    pub fn p521() -> Key {
        Key::P521(PrivateKey::generate(&ECDH_P521).unwrap())
    }

    pub fn public(&self) -> TeePublicKey {
        let jwk = match self {
            Key::P256(pair) => return pair.public(),
            Key::P521(private) => {
                let point = private.compute_public_key().unwrap();
                let (x, y) = point.as_ref()[1..].split_at(66);
                json!({"kty": "EC", "crv": "P-521", "alg": "ECDH-ES+A256KW",
                    "x": b64::url_encode(x), "y": b64::url_encode(y)})
            }
            Key::Rsa(alg) => {
                let der: Pkcs8V1Der<'_> = RSA.as_der().unwrap();
                let pair = KeyPair::from_pkcs8(der.as_ref()).unwrap();
                // PKCS #1 RSAPublicKey of 2048 bits: 8 bytes of lengths and a zero before n, two bytes before e.
                let public = pair.public_key().as_ref();
                let (n, e) = (b64::url_encode(&public[9..265]), b64::url_encode(&public[267..]));
                json!({"kty": "RSA", "alg": alg, "n": n, "e": e})
            }
        };
        serde_json::from_value(jwk).unwrap()
    }

    /// Reads a resource in the form of 0.2.0 and 0.4.0: a JWE of RFC 7516, whose header is authenticated.
    pub fn open(&self, jwe: &Value) -> Option<Vec<u8>> {
        if let Key::P256(pair) = self {
            return pair.decrypt(&serde_json::from_value(jwe.clone()).ok()?).ok().map(|p| p.to_vec());
        }
        let header = serde_json::from_slice(&member(jwe, "protected")?).ok()?;
        let sealed = [member(jwe, "ciphertext")?, member(jwe, "tag")?].concat();
        unseal(&self.content_key(jwe, &header)?, jwe, jwe["protected"].as_str()?.as_bytes(), sealed)
    }

    /// Reads a resource in the form of 0.1.1: the header is plain JSON, the tag follows the ciphertext, no AAD.
    pub fn open_0_1_1(&self, jwe: &Value) -> Option<Vec<u8>> {
        let header = serde_json::from_str(jwe["protected"].as_str()?).ok()?;
        (jwe["tag"] == "").then_some(())?;
        unseal(&self.content_key(jwe, &header)?, jwe, b"", member(jwe, "ciphertext")?)
    }

    fn content_key(&self, jwe: &Value, header: &Value) -> Option<Vec<u8>> {
        assert_eq!(header["enc"], "A256GCM");
        let wrapped = member(jwe, "encrypted_key")?;
        let mut out = [0; 256];
        match self {
            Key::P256(_) => None,
            Key::P521(private) => {
                let epk = &header["epk"];
                assert_eq!((&header["alg"], &epk["crv"]), (&json!("ECDH-ES+A256KW"), &json!("P-521")));
                let point = [vec![4], member(epk, "x")?, member(epk, "y")?].concat();
                // Concat KDF of RFC 7518 §4.6.2: round 1, Z, AlgorithmID, two empty party infos, 256 bits.
                let kek = agree(private, UnparsedPublicKey::new(&ECDH_P521, point), (), |z| {
                    let algorithm = b"\0\0\0\x0eECDH-ES+A256KW\0\0\0\0\0\0\0\0\0\0\x01\0";
                    Ok(sha256(&[b"\0\0\0\x01".as_slice(), z, algorithm].concat()))
                });
                AesKek::new(&AES_256, &kek.ok()?).unwrap().unwrap(&wrapped, &mut out).ok().map(|k| k.to_vec())
            }
            Key::Rsa(alg) => {
                assert_eq!(header["alg"], *alg);
                let key = RSA.clone();
                let opened = match *alg {
                    "RSA1_5" => Pkcs1PrivateDecryptingKey::new(key).unwrap().decrypt(&wrapped, &mut out),
                    _ => OaepPrivateDecryptingKey::new(key).unwrap().decrypt(
                        &OAEP_SHA256_MGF1SHA256,
                        &wrapped,
                        &mut out,
                        None,
                    ),
                };
                opened.ok().map(|k| k.to_vec())
            }
        }
    }
}

fn member(of: &Value, name: &str) -> Option<Vec<u8>> {
    b64::url_decode(of[name].as_str()?).ok()
}

fn unseal(key: &[u8], jwe: &Value, aad: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let iv = Nonce::try_assume_unique_for_key(&member(jwe, "iv")?).ok()?;
    key.open_in_place(iv, Aad::from(aad), &mut sealed).ok().map(|plain| plain.to_vec())
}
