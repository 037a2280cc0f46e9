//! The Trustee's token signing key.
//!
//! Runs on the Trustee only. The private half leaves only through [`Signer::to_pkcs8_der`], to be stored sealed.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::jwk::{self, EcCurve};
use crate::{Error, b64};

/// An ECDSA P-256 key that signs tokens with ES256 (RFC 7518 §3.4).
pub struct Signer {
    pair: EcdsaKeyPair,
    x: String,
    y: String,
    kid: String,
    /// The token header, base64url.
    header: String,
}

impl Signer {
    /// Makes a new random key.
    ///
    /// # Errors
    /// [`Error::Crypto`].
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| Error::Crypto("P-256 key generation"))?;
        Self::of(pair)
    }

    /// Reads a PKCS #8 DER private key of curve P-256.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is anything else.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| Error::invalid("token signing key", "not a PKCS #8 key of curve P-256"))?;
        Self::of(pair)
    }

    /// The private key as PKCS #8 v1 DER. Empty only if the library cannot encode its own key.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.to_pkcs8v1().map(|d| d.as_ref().to_vec()).unwrap_or_default())
    }

    /// The key's id: its RFC 7638 thumbprint (SHA-256, base64url).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key: `{"kty":"EC","crv":"P-256","alg":"ES256","x","y","kid"}`.
    pub fn public_jwk(&self) -> Value {
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": self.x, "y": self.y, "kid": self.kid})
    }

    /// The key set of this one key: `{"keys":[…]}` (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.public_jwk()]})
    }

    /// Signs `claims`, as given, into a compact JWT.
    ///
    /// Header: `{"typ":"JWT","alg":"ES256","jwk":{"alg","kty","crv","x","y"}}`, members in this order; with certificates
    /// `jwk` has `x5c` too.
    ///
    /// # Errors
    /// [`Error::Token`] if the claims are not an object; [`Error::Crypto`].
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        if !claims.is_object() {
            return Err(Error::Token("claims are not an object"));
        }
        let mut token = self.header.clone();
        token.push('.');
        token.push_str(&b64::url_encode(claims.to_string().as_bytes()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| Error::Crypto("ECDSA signature"))?;
        token.push('.');
        token.push_str(&b64::url_encode(signature.as_ref()));
        Ok(token)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, Error> {
        let (x, y) = jwk::point_coordinates(EcCurve::P256, pair.public_key().as_ref())?;
        let kid = thumbprint(&x, &y);
        let mut signer = Self { pair, x, y, kid, header: String::new() };
        signer.header = signer.header_with(&[]);
        Ok(signer)
    }

    /// The same signer with certificates (DER, its own first) that vouch for the key; they go into each token.
    #[must_use]
    pub fn with_certificates(mut self, certificates: &[Vec<u8>]) -> Self {
        self.header = self.header_with(certificates);
        self
    }

    fn header_with(&self, certificates: &[Vec<u8>]) -> String {
        let mut jwk = json!({"alg": "ES256", "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y});
        if let (false, Some(members)) = (certificates.is_empty(), jwk.as_object_mut()) {
            let chain: Vec<String> = certificates.iter().map(|der| b64::std_encode(der)).collect();
            members.insert("x5c".into(), json!(chain));
        }
        let header = json!({"typ": "JWT", "alg": "ES256", "jwk": jwk});
        b64::url_encode(header.to_string().as_bytes())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// RFC 7638 thumbprint of a P-256 key; the coordinates are checked base64url and need no escaping.
pub(super) fn thumbprint(x: &str, y: &str) -> String {
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    b64::url_encode(digest(&SHA256, canonical.as_bytes()).as_ref())
}
