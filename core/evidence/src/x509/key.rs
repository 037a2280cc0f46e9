//! Public keys and signatures, by what X.509 calls them.

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, UintRef};
use der::{Decode, Encode, Sequence};
use x509_cert::spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef, SubjectPublicKeyInfoOwned};

use crate::Error;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");
const EC: ObjectIdentifier = oid("1.2.840.10045.2.1");
const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");

/// Hash of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    fn of(oid: ObjectIdentifier) -> Option<Self> {
        match oid {
            SHA256 => Some(Hash::Sha256),
            SHA384 => Some(Hash::Sha384),
            SHA512 => Some(Hash::Sha512),
            _ => None,
        }
    }

    /// Length of a digest in bytes.
    pub fn length(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS, salt as long as the hash, MGF1 with the same hash.
    RsaPss(Hash),
    /// ECDSA, the signature a DER sequence of r and s.
    Ecdsa(Hash),
    /// ECDSA, the signature r and s in full length one after the other.
    EcdsaFixed(Hash),
}

/// Parameters of RSASSA-PSS (RFC 4055).
#[derive(Sequence)]
struct PssParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    salt: Option<u8>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer: Option<u8>,
}

impl Scheme {
    /// The scheme that a signature algorithm names; `None` for one that is not taken (SHA-1, unusual PSS parameters).
    pub(super) fn of(algorithm: &AlgorithmIdentifierOwned) -> Option<Self> {
        match algorithm.oid.to_string().as_str() {
            "1.2.840.113549.1.1.11" => Some(Scheme::RsaPkcs1(Hash::Sha256)),
            "1.2.840.113549.1.1.12" => Some(Scheme::RsaPkcs1(Hash::Sha384)),
            "1.2.840.113549.1.1.13" => Some(Scheme::RsaPkcs1(Hash::Sha512)),
            "1.2.840.10045.4.3.2" => Some(Scheme::Ecdsa(Hash::Sha256)),
            "1.2.840.10045.4.3.3" => Some(Scheme::Ecdsa(Hash::Sha384)),
            "1.2.840.10045.4.3.4" => Some(Scheme::Ecdsa(Hash::Sha512)),
            _ if algorithm.oid == RSA_PSS => {
                let parameters: PssParameters = algorithm.parameters.as_ref()?.decode_as().ok()?;
                let hash = Hash::of(parameters.hash?.oid)?;
                let mask = parameters.mask?;
                let mask_hash: AlgorithmIdentifierRef<'_> = mask.parameters.as_ref()?.decode_as().ok()?;
                let usual = mask.oid == MGF1
                    && Hash::of(mask_hash.oid) == Some(hash)
                    && parameters.salt.map(usize::from) == Some(hash.length())
                    && parameters.trailer.is_none_or(|t| t == 1);
                usual.then_some(Scheme::RsaPss(hash))
            }
            _ => None,
        }
    }
}

/// An elliptic curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    const ALL: [(Curve, &'static str); 3] =
        [(Curve::P256, "1.2.840.10045.3.1.7"), (Curve::P384, "1.3.132.0.34"), (Curve::P521, "1.3.132.0.35")];

    fn of(oid: ObjectIdentifier) -> Option<Self> {
        let name = oid.to_string();
        Curve::ALL.iter().find(|(_, text)| *text == name).map(|(curve, _)| *curve)
    }

    /// Length of a coordinate in bytes.
    pub fn length(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }
}

/// A public key that can check signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// PKCS #1 `RSAPublicKey`, DER.
    Rsa(Vec<u8>),
    /// A point, uncompressed (`04`, x, y).
    Ec(Curve, Vec<u8>),
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    n: UintRef<'a>,
    e: UintRef<'a>,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`Error::Certificate`] for anything but RSA and the three curves.
    pub fn from_spki(der: &[u8]) -> Result<Self, Error> {
        let spki = SubjectPublicKeyInfoOwned::from_der(der)
            .map_err(|_| Error::Certificate("not a public key (SubjectPublicKeyInfo)"))?;
        PublicKey::of(&spki)
    }

    pub(super) fn of(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, Error> {
        let wrong = Error::Certificate("the public key is neither RSA nor on P-256, P-384 or P-521");
        let key = spki.subject_public_key.as_bytes().ok_or(wrong.clone())?;
        match spki.algorithm.oid {
            RSA | RSA_PSS => Ok(PublicKey::Rsa(key.to_vec())),
            EC => {
                let parameters = spki.algorithm.parameters.as_ref();
                let curve = parameters.and_then(|p| p.decode_as().ok()).and_then(Curve::of);
                PublicKey::point(curve.ok_or(wrong)?, key)
            }
            _ => Err(wrong),
        }
    }

    /// An RSA key from modulus and exponent, big endian; leading zeros do not matter.
    ///
    /// # Errors
    /// [`Error::Certificate`] where they cannot be numbers.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, Error> {
        let wrong = |_| Error::Certificate("not an RSA key");
        let key = RsaPublicKey { n: UintRef::new(n).map_err(wrong)?, e: UintRef::new(e).map_err(wrong)? };
        Ok(PublicKey::Rsa(key.to_der().map_err(wrong)?))
    }

    /// An EC key from its coordinates, big endian in full length.
    ///
    /// # Errors
    /// [`Error::Certificate`] where a coordinate has another length.
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, Error> {
        if x.len() != curve.length() || y.len() != curve.length() {
            return Err(Error::Certificate("a coordinate of the wrong length"));
        }
        PublicKey::point(curve, &[&[4], x, y].concat())
    }

    fn point(curve: Curve, point: &[u8]) -> Result<Self, Error> {
        match point.split_first() {
            Some((4, xy)) if xy.len() == 2 * curve.length() => Ok(PublicKey::Ec(curve, point.to_vec())),
            _ => Err(Error::Certificate("the key is not an uncompressed point of its curve")),
        }
    }

    /// Modulus and exponent of an RSA key, big endian without leading zeros.
    pub fn rsa_components(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        match self {
            PublicKey::Rsa(der) => {
                let key = RsaPublicKey::from_der(der).ok()?;
                Some((key.n.as_bytes().to_vec(), key.e.as_bytes().to_vec()))
            }
            PublicKey::Ec(..) => None,
        }
    }

    /// The key as DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`Error::Certificate`] where the key cannot be encoded.
    pub fn to_spki(&self) -> Result<Vec<u8>, Error> {
        let wrong = |_| Error::Certificate("the key cannot be encoded");
        let (oid, parameters, key) = match self {
            PublicKey::Rsa(key) => (RSA, AnyRef::NULL.into(), key),
            PublicKey::Ec(curve, point) => {
                let name = Curve::ALL.iter().find(|(c, _)| c == curve).map(|(_, text)| *text);
                let curve = ObjectIdentifier::new(name.unwrap_or_default())
                    .map_err(|_| Error::Certificate("the key cannot be encoded"))?;
                (EC, der::Any::encode_from(&curve).map_err(wrong)?, point)
            }
        };
        let algorithm = AlgorithmIdentifierOwned { oid, parameters: Some(parameters) };
        let subject_public_key = der::asn1::BitString::from_bytes(key).map_err(wrong)?;
        SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().map_err(wrong)
    }

    /// Whether `signature` is this key's over `message`. False also where key and scheme do not belong together.
    pub fn verifies(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        match (self, self.algorithm(scheme)) {
            (PublicKey::Rsa(key) | PublicKey::Ec(_, key), Some(algorithm)) => {
                UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }

    /// The key prepared for many signatures of one scheme.
    ///
    /// # Errors
    /// [`Error::Certificate`] where the key is not valid or does not go with the scheme.
    pub fn prepared(&self, scheme: Scheme) -> Result<ParsedPublicKey, Error> {
        let wrong = Error::Certificate("the key does not go with its signature scheme, or is no valid key");
        let (PublicKey::Rsa(key) | PublicKey::Ec(_, key)) = self;
        let algorithm = self.algorithm(scheme).ok_or(wrong.clone())?;
        // The library would notice a short modulus only when it checks a signature.
        if self.rsa_components().is_some_and(|(n, _)| !(256..=1024).contains(&n.len())) {
            return Err(wrong);
        }
        ParsedPublicKey::new(algorithm, key).map_err(|_| wrong)
    }

    fn algorithm(&self, scheme: Scheme) -> Option<&'static dyn VerificationAlgorithm> {
        use signature as s;
        Some(match (self, scheme) {
            (PublicKey::Rsa(_), Scheme::RsaPkcs1(Hash::Sha256)) => &s::RSA_PKCS1_2048_8192_SHA256,
            (PublicKey::Rsa(_), Scheme::RsaPkcs1(Hash::Sha384)) => &s::RSA_PKCS1_2048_8192_SHA384,
            (PublicKey::Rsa(_), Scheme::RsaPkcs1(Hash::Sha512)) => &s::RSA_PKCS1_2048_8192_SHA512,
            (PublicKey::Rsa(_), Scheme::RsaPss(Hash::Sha256)) => &s::RSA_PSS_2048_8192_SHA256,
            (PublicKey::Rsa(_), Scheme::RsaPss(Hash::Sha384)) => &s::RSA_PSS_2048_8192_SHA384,
            (PublicKey::Rsa(_), Scheme::RsaPss(Hash::Sha512)) => &s::RSA_PSS_2048_8192_SHA512,
            (PublicKey::Ec(Curve::P256, _), Scheme::Ecdsa(Hash::Sha256)) => &s::ECDSA_P256_SHA256_ASN1,
            (PublicKey::Ec(Curve::P256, _), Scheme::Ecdsa(Hash::Sha384)) => &s::ECDSA_P256_SHA384_ASN1,
            (PublicKey::Ec(Curve::P384, _), Scheme::Ecdsa(Hash::Sha256)) => &s::ECDSA_P384_SHA256_ASN1,
            (PublicKey::Ec(Curve::P384, _), Scheme::Ecdsa(Hash::Sha384)) => &s::ECDSA_P384_SHA384_ASN1,
            (PublicKey::Ec(Curve::P521, _), Scheme::Ecdsa(Hash::Sha256)) => &s::ECDSA_P521_SHA256_ASN1,
            (PublicKey::Ec(Curve::P521, _), Scheme::Ecdsa(Hash::Sha384)) => &s::ECDSA_P521_SHA384_ASN1,
            (PublicKey::Ec(Curve::P521, _), Scheme::Ecdsa(Hash::Sha512)) => &s::ECDSA_P521_SHA512_ASN1,
            (PublicKey::Ec(Curve::P256, _), Scheme::EcdsaFixed(Hash::Sha256)) => &s::ECDSA_P256_SHA256_FIXED,
            (PublicKey::Ec(Curve::P384, _), Scheme::EcdsaFixed(Hash::Sha384)) => &s::ECDSA_P384_SHA384_FIXED,
            (PublicKey::Ec(Curve::P521, _), Scheme::EcdsaFixed(Hash::Sha512)) => &s::ECDSA_P521_SHA512_FIXED,
            _ => return None,
        })
    }
}
