//! Keys in DER (RFC 5280, 5915, 5958, 8017), with or without PEM's armour (RFC 7468).

use aws_lc_rs::agreement::PrivateKey;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use x509_cert::Certificate;
use zeroize::Zeroizing;

use super::{Private, Public, ec_public, refuse, rsa_private, rsa_public};
use crate::Error;
use crate::encryption::ecdh::Curve;

/// `id-ecPublicKey` (RFC 5480 §2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `rsaEncryption` (RFC 8017 appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// `RSAPublicKey` (RFC 8017 appendix A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    n: UintRef<'a>,
    e: UintRef<'a>,
}

/// `PrivateKeyInfo` (RFC 5208 §5) without attributes.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierRef<'a>,
    key: &'a OctetStringRef,
}

/// `RSAPrivateKey` (RFC 8017 appendix A.1.2), of two primes.
#[derive(Sequence)]
pub(super) struct RsaPrivateKey<'a> {
    pub version: u8,
    pub n: UintRef<'a>,
    pub e: UintRef<'a>,
    pub d: UintRef<'a>,
    pub p: UintRef<'a>,
    pub q: UintRef<'a>,
    pub dp: UintRef<'a>,
    pub dq: UintRef<'a>,
    pub qi: UintRef<'a>,
}

/// The bytes within PEM's armour with its label, or the file itself as DER.
pub(super) fn unarmour(file: &[u8]) -> Result<(Option<String>, Vec<u8>), Error> {
    if file.first() == Some(&0x30) {
        return Ok((None, file.to_vec()));
    }
    let text = std::str::from_utf8(file).map_err(|_| refuse("it is neither PEM nor DER nor JWK"))?;
    // OpenSSL writes a curve's parameters before the key.
    let start = text
        .match_indices("-----BEGIN ")
        .map(|(at, _)| at)
        .find(|at| !text.get(*at..).unwrap_or_default().starts_with("-----BEGIN EC PARAMETERS"))
        .ok_or_else(|| refuse("it is neither PEM nor DER nor JWK"))?;
    let block = text.get(start..).unwrap_or_default();
    let end = block.match_indices("-----END ").next().map(|(at, _)| at).unwrap_or(block.len());
    let end = block.get(end + 9..).and_then(|t| t.find("-----")).map_or(block.len(), |n| end + 9 + n + 5);
    let block = block.get(..end).unwrap_or_default();
    if block.contains("Proc-Type:") {
        return Err(refuse("it is encrypted in PEM's obsolete way; convert it with `openssl pkcs8 -topk8`"));
    }
    let (label, bytes) =
        der::pem::decode_vec(block.trim().as_bytes()).map_err(|_| refuse("it is malformed PEM"))?;
    Ok((Some(label.to_owned()), bytes))
}

/// A public key of a PEM label, or of whatever kind fits.
pub(super) fn public(label: Option<&str>, bytes: &[u8]) -> Result<Public, Error> {
    match label {
        Some("PUBLIC KEY") => spki(bytes),
        Some("RSA PUBLIC KEY") => pkcs1(bytes),
        Some("CERTIFICATE") => certificate(bytes),
        Some(label) if label.ends_with("PRIVATE KEY") => {
            Err(refuse("it is a private key; a recipient is a public one"))
        }
        Some(_) => Err(refuse("its PEM label is not that of a public key")),
        None => spki(bytes)
            .or_else(|_| certificate(bytes))
            .or_else(|_| pkcs1(bytes))
            .map_err(|_| refuse("it is no public key: not SPKI, certificate or PKCS #1")),
    }
}

fn spki(bytes: &[u8]) -> Result<Public, Error> {
    let wrong = |_| refuse("it is malformed SPKI");
    let info = SubjectPublicKeyInfoRef::from_der(bytes).map_err(wrong)?;
    let key = info.subject_public_key.as_bytes().ok_or_else(|| refuse("it is malformed SPKI"))?;
    if info.algorithm.oid == RSA {
        return pkcs1(key);
    }
    if info.algorithm.oid != EC {
        return Err(refuse("it is neither an RSA nor an EC key"));
    }
    let named = info.algorithm.parameters.and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
    let curve = named.and_then(|oid| Curve::by_oid(&oid.to_string()));
    ec_public(curve.ok_or_else(|| refuse("its curve is not P-256, P-384 or P-521"))?, key)
}

fn pkcs1(bytes: &[u8]) -> Result<Public, Error> {
    let key = RsaPublicKey::from_der(bytes).map_err(|_| refuse("it is malformed PKCS #1"))?;
    rsa_components(key.n.as_bytes(), key.e.as_bytes())
}

/// An RSA key of modulus and exponent, big endian.
pub(super) fn rsa_components(n: &[u8], e: &[u8]) -> Result<Public, Error> {
    if n.len() > 1024 || e.len() > 8 || e.last().is_none_or(|b| b & 1 == 0) || e == [1] {
        return Err(refuse("its modulus is too large or its exponent is none"));
    }
    let key: PublicEncryptingKey = PublicKeyComponents { n, e }
        .try_into()
        .map_err(|_| refuse("modulus and exponent form no RSA key of 2048 to 8192 bits"))?;
    rsa_public(key)
}

fn certificate(bytes: &[u8]) -> Result<Public, Error> {
    let wrong = |_| refuse("it is a malformed certificate");
    let certificate = Certificate::from_der(bytes).map_err(wrong)?;
    let info = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(wrong)?;
    spki(&info)
}

/// A private key of a PEM label, or of whatever kind fits.
pub(super) fn private(label: Option<&str>, bytes: &[u8]) -> Result<Private, Error> {
    match label {
        Some("PRIVATE KEY") => pkcs8(bytes),
        Some("RSA PRIVATE KEY") => rsa_private(&pkcs8_of_pkcs1(bytes)?),
        Some("EC PRIVATE KEY") => ec(bytes),
        Some(label) if label.contains("PUBLIC") || label == "CERTIFICATE" => {
            Err(refuse("it is a public key; decryption takes the private one"))
        }
        Some(_) => Err(refuse("its PEM label is not that of a private key")),
        None => pkcs8(bytes)
            .or_else(|_| ec(bytes))
            .or_else(|_| rsa_private(&pkcs8_of_pkcs1(bytes)?))
            .map_err(|_| refuse("it is no private key: not PKCS #8, PKCS #1 or SEC 1")),
    }
}

fn pkcs8(bytes: &[u8]) -> Result<Private, Error> {
    rsa_private(bytes)
        .or_else(|_| ec(bytes))
        .map_err(|_| refuse("it is neither an RSA nor an EC key in PKCS #8"))
}

fn ec(bytes: &[u8]) -> Result<Private, Error> {
    // The library refuses a key of another curve.
    let found = Curve::ALL.into_iter().find_map(|curve| {
        PrivateKey::from_private_key_der(curve.agreement(), bytes).ok().map(|key| Private::Ec { curve, key })
    });
    found.ok_or_else(|| refuse("it is no EC key of curve P-256, P-384 or P-521"))
}

/// What a PKCS #1 key is within PKCS #8, the only form that the library reads for decryption.
pub(super) fn pkcs8_of_pkcs1(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = |_| refuse("it is malformed PKCS #1");
    let algorithm = AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) };
    let key = OctetStringRef::new(bytes).map_err(wrong)?;
    PrivateKeyInfo { version: 0, algorithm, key }.to_der().map(Zeroizing::new).map_err(wrong)
}
