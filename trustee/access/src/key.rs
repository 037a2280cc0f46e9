//! A public key and the algorithms it may be used with. The key's type decides; a token's `alg` only chooses among
//! what the type allows.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Encode, Sequence};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Es256,
    Es384,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

impl Algorithm {
    /// The algorithm with this `alg` name; `none`, the symmetric ones and whatever else is unknown are `None`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "PS384" => Algorithm::Ps384,
            "PS512" => Algorithm::Ps512,
            // RFC 9864 names it by its curve.
            "EdDSA" | "Ed25519" => Algorithm::EdDsa,
            _ => return None,
        })
    }

    fn kind(self) -> Kind {
        match self {
            Algorithm::Es256 => Kind::P256,
            Algorithm::Es384 => Kind::P384,
            Algorithm::EdDsa => Kind::Ed25519,
            _ => Kind::Rsa,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Algorithm::EdDsa => &ED25519,
        }
    }
}

/// A public key of an identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    kind: Kind,
    /// SEC 1 uncompressed point, PKCS #1 `RSAPublicKey` or the 32 bytes of Ed25519.
    bytes: Vec<u8>,
    pub(crate) kid: Option<String>,
    only: Option<Algorithm>,
}

/// PKCS #1 `RSAPublicKey` (RFC 8017 §A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl Key {
    /// A key from its coordinates, each of the curve's full length.
    pub(crate) fn ec(kind: Kind, x: &[u8], y: &[u8]) -> Result<Self, &'static str> {
        let len = if kind == Kind::P256 { 32 } else { 48 };
        if x.len() != len || y.len() != len {
            return Err("a coordinate has the wrong length");
        }
        Self::of(kind, [&[4], x, y].concat())
    }

    /// A key from modulus and exponent, big endian without leading zeros.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let top = modulus.first().copied().unwrap_or(0);
        // 2048 to 8192 bits, of which the first is in the first byte.
        if top == 0 || !(256..=1024).contains(&modulus.len()) || (modulus.len() == 256 && top < 0x80) {
            return Err("an RSA modulus must have 2048 to 8192 bits");
        }
        let odd = exponent.last().is_some_and(|b| b & 1 == 1);
        if !odd || exponent.len() > 4 || exponent.first() == Some(&0) || exponent == [1] {
            return Err("an RSA exponent must be odd, at least 3, and of 32 bits at most");
        }
        let numbers = || {
            let key = RsaPublicKey { modulus: UintRef::new(modulus)?, exponent: UintRef::new(exponent)? };
            key.to_der()
        };
        Self::of(Kind::Rsa, numbers().map_err(|_| "not an RSA key")?)
    }

    /// A key from the 32 bytes of its point.
    pub(crate) fn ed25519(point: &[u8]) -> Result<Self, &'static str> {
        Self::of(Kind::Ed25519, point.to_vec())
    }

    /// Reads a `PUBLIC KEY` in PEM.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, &'static str> {
        let (label, der) =
            der::pem::decode_vec(pem.trim_ascii()).map_err(|_| "not a single, well-formed PEM text")?;
        match label {
            "PUBLIC KEY" => {}
            label if label.contains("PRIVATE") => {
                return Err("a private key; only the public half belongs here");
            }
            _ => return Err("not a PUBLIC KEY"),
        }
        let spki = SubjectPublicKeyInfoOwned::from_der(&der).map_err(|_| "not a SubjectPublicKeyInfo")?;
        let bits = spki.subject_public_key.as_bytes().ok_or("not whole bytes")?;
        let curve =
            spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        match (spki.algorithm.oid, curve) {
            (EC, Some(P256)) => Self::point(Kind::P256, bits),
            (EC, Some(P384)) => Self::point(Kind::P384, bits),
            (ED25519_OID, None) => Self::ed25519(bits),
            (RSA, None) => {
                let key = RsaPublicKey::from_der(bits).map_err(|_| "not an RSA key")?;
                Self::rsa(key.modulus.as_bytes(), key.exponent.as_bytes())
            }
            _ => Err("a kind of key that is not supported"),
        }
    }

    fn point(kind: Kind, bits: &[u8]) -> Result<Self, &'static str> {
        match bits.split_first() {
            Some((4, rest)) => {
                let (x, y) = rest.split_at_checked(rest.len() / 2).ok_or("not a point")?;
                Self::ec(kind, x, y)
            }
            _ => Err("not an uncompressed point"),
        }
    }

    fn of(kind: Kind, bytes: Vec<u8>) -> Result<Self, &'static str> {
        let any = match kind {
            Kind::P256 => Algorithm::Es256,
            Kind::P384 => Algorithm::Es384,
            Kind::Rsa => Algorithm::Rs256,
            Kind::Ed25519 => Algorithm::EdDsa,
        };
        if kind == Kind::Ed25519 && bytes.len() != 32 {
            return Err("an Ed25519 key must have 32 bytes");
        }
        ParsedPublicKey::new(any.verification(), &bytes).map_err(|_| "the numbers do not form a key")?;
        Ok(Key { kind, bytes, kid: None, only: None })
    }

    /// The same key under an id, where there is one, and for one algorithm only, where there is one.
    pub(crate) fn named(self, kid: Option<String>, only: Option<Algorithm>) -> Result<Self, &'static str> {
        if only.is_some_and(|algorithm| algorithm.kind() != self.kind) {
            return Err("its alg is not one of its type");
        }
        Ok(Key { kid, only, ..self })
    }

    /// Whether the key may be used with this algorithm.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        algorithm.kind() == self.kind && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether this key made the signature over `signed` with this algorithm.
    pub(crate) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.allows(algorithm)
            && UnparsedPublicKey::new(algorithm.verification(), &self.bytes).verify(signed, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_keys_of_each_type_are_read() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Kind::P256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Kind::P384),
            (&rcgen::PKCS_ED25519, Kind::Ed25519),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = Key::from_pem(pair.public_key_pem().as_bytes()).unwrap();
            assert_eq!(key.kind, kind);
            assert!(Key::from_pem(pair.serialize_pem().as_bytes()).unwrap_err().contains("private key"));
        }
        let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        assert!(Key::from_pem(p521.public_key_pem().as_bytes()).unwrap_err().contains("not supported"));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
        for bad in ["", "x", &pem.replace("PUBLIC", "OTHER"), &pem.replace("KEY-----\n", "KEY-----\nAAAA")] {
            assert!(Key::from_pem(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Key::ec(Kind::P256, &[1; 32], &[1; 32]).is_err());
        assert!(Key::ec(Kind::P256, &[1; 48], &[1; 48]).is_err());
        assert!(Key::ec(Kind::P384, &[0; 48], &[0; 48]).is_err());
        assert!(Key::ed25519(&[1; 31]).is_err());
        assert!(Key::rsa(&[0xff; 256], &[1, 0, 1]).is_ok());
        for (modulus, exponent) in [
            (vec![0xff; 255], vec![1, 0, 1]),
            (vec![0x7f; 256], vec![1, 0, 1]),
            (vec![0xff; 1025], vec![1, 0, 1]),
            ([vec![0], vec![0xff; 256]].concat(), vec![1, 0, 1]),
            (vec![], vec![1, 0, 1]),
            (vec![0xff; 256], vec![]),
            (vec![0xff; 256], vec![1]),
            (vec![0xff; 256], vec![2]),
            (vec![0xff; 256], vec![0, 3]),
            (vec![0xff; 256], vec![1, 0, 0, 0, 1]),
        ] {
            assert!(Key::rsa(&modulus, &exponent).is_err(), "{} {exponent:?}", modulus.len());
        }
    }

    #[test]
    fn the_type_decides_about_the_algorithm() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "ES256K", "ES512", "es256", "", "RS1"] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
        let key = Key::rsa(&[0xff; 256], &[3]).unwrap();
        assert!(
            key.allows(Algorithm::Ps384) && !key.allows(Algorithm::Es256) && !key.allows(Algorithm::EdDsa)
        );
        assert!(key.clone().named(None, Some(Algorithm::Es256)).is_err());
        let key = key.named(Some("k".into()), Some(Algorithm::Rs256)).unwrap();
        assert!(key.allows(Algorithm::Rs256) && !key.allows(Algorithm::Ps256));
    }
}
