//! JWTs whose header and payload are the fuzzer's and whose signature is good.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use cocoon_protocol::b64;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as CertificateKey, date_time_ymd};
use serde_json::{Value, json};

/// A key, a CA, and the CA's certificate for the key.
pub struct Identity {
    key: EcdsaKeyPair,
    /// The CA's certificate, DER.
    pub ca: Vec<u8>,
    /// The key's certificate, DER.
    pub leaf: Vec<u8>,
}

/// The one identity of a run.
pub static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::make().expect("keys and certificates"));

impl Identity {
    fn make() -> Option<Self> {
        let dated = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).ok()?;
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2090, 1, 1);
            Some(params)
        };
        let mut params = dated("ca.example")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = CertificateKey::generate().ok()?;
        let ca = params.self_signed(&ca_key).ok()?.der().to_vec();
        let issuer = Issuer::new(params, ca_key);
        let key = CertificateKey::generate().ok()?;
        let leaf = dated("as.example")?.signed_by(&key, &issuer).ok()?.der().to_vec();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).ok()?;
        Some(Identity { key, ca, leaf })
    }

    /// The public key as JWK, with the chain.
    pub fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k",
            "x": b64::url_encode(&point[1..33]), "y": b64::url_encode(&point[33..]),
            "x5c": [b64::std_encode(&self.leaf), b64::std_encode(&self.ca)],
        })
    }

    /// The public key as JWK, as key sets have it.
    pub fn plain_jwk(&self) -> Value {
        let mut jwk = self.jwk();
        jwk.as_object_mut().expect("an object").remove("x5c");
        jwk
    }

    /// A token of these very bytes.
    pub fn token(&self, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", b64::url_encode(header), b64::url_encode(payload));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", b64::url_encode(signature.as_ref()))
    }
}
