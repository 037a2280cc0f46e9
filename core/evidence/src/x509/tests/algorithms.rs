//! Signature algorithms and keys: what is taken, and what must not be.

use der::Decode;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::writer::{INTEGER, OID, SEQUENCE, sequence, tlv};
use super::*;
use crate::x509::{Curve, Hash, PublicKey, Scheme};

fn scheme(der: &[u8]) -> Option<Scheme> {
    Scheme::of(&AlgorithmIdentifierOwned::from_der(der).unwrap())
}

fn named(oid: &str) -> Vec<u8> {
    let oid = const_oid::ObjectIdentifier::new(oid).unwrap();
    sequence(&[&tlv(OID, oid.as_bytes())])
}

const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";
const MGF1: &str = "1.2.840.113549.1.1.8";

fn oid(text: &str) -> Vec<u8> {
    tlv(OID, const_oid::ObjectIdentifier::new(text).unwrap().as_bytes())
}

/// RSASSA-PSS with these parts of its parameters.
fn pss(hash: Option<&str>, mask: Option<(&str, &str)>, salt: Option<&[u8]>, trailer: Option<u8>) -> Vec<u8> {
    let hash = hash.map_or(Vec::new(), |hash| tlv(0xa0, &named(hash)));
    let mask = mask.map_or(Vec::new(), |(mask, hash)| tlv(0xa1, &sequence(&[&oid(mask), &named(hash)])));
    let salt = salt.map_or(Vec::new(), |salt| tlv(0xa2, &tlv(INTEGER, salt)));
    let trailer = trailer.map_or(Vec::new(), |trailer| tlv(0xa3, &tlv(INTEGER, &[trailer])));
    sequence(&[&oid("1.2.840.113549.1.1.10"), &tlv(SEQUENCE, &[hash, mask, salt, trailer].concat())])
}

#[test]
fn weak_and_unknown_algorithms_have_no_scheme() {
    for (name, text) in [
        ("RSA with MD5", "1.2.840.113549.1.1.4"),
        ("RSA with SHA-1", "1.2.840.113549.1.1.5"),
        ("RSA with SHA-224", "1.2.840.113549.1.1.14"),
        ("RSA without a hash", "1.2.840.113549.1.1.1"),
        ("PSS without parameters", "1.2.840.113549.1.1.10"),
        ("DSA with SHA-1", "1.2.840.10040.4.3"),
        ("ECDSA with SHA-1", "1.2.840.10045.4.1"),
        ("ECDSA with SHA-224", "1.2.840.10045.4.3.1"),
        ("Ed25519", "1.3.101.112"),
        ("SM2 with SM3", "1.2.156.10197.1.501"),
    ] {
        assert_eq!(scheme(&named(text)), None, "{name}");
    }
    assert_eq!(scheme(&named("1.2.840.113549.1.1.11")), Some(Scheme::RsaPkcs1(Hash::Sha256)));
    assert_eq!(scheme(&named("1.2.840.10045.4.3.4")), Some(Scheme::Ecdsa(Hash::Sha512)));
}

#[test]
fn pss_is_taken_with_its_usual_parameters_alone() {
    let usual = Some((MGF1, SHA384));
    assert_eq!(scheme(&pss(Some(SHA384), usual, Some(&[48]), None)), Some(Scheme::RsaPss(Hash::Sha384)));
    assert_eq!(scheme(&pss(Some(SHA384), usual, Some(&[48]), Some(1))), Some(Scheme::RsaPss(Hash::Sha384)));
    assert_eq!(
        scheme(&pss(Some(SHA256), Some((MGF1, SHA256)), Some(&[32]), None)),
        Some(Scheme::RsaPss(Hash::Sha256))
    );
    for (name, odd) in [
        ("everything by default, which is SHA-1", pss(None, None, None, None)),
        ("default hash", pss(None, usual, Some(&[48]), None)),
        ("SHA-1", pss(Some(SHA1), Some((MGF1, SHA1)), Some(&[20]), None)),
        ("default mask", pss(Some(SHA384), None, Some(&[48]), None)),
        ("mask with another hash", pss(Some(SHA384), Some((MGF1, SHA256)), Some(&[48]), None)),
        ("mask with SHA-1", pss(Some(SHA384), Some((MGF1, SHA1)), Some(&[48]), None)),
        ("another mask", pss(Some(SHA384), Some((SHA384, SHA384)), Some(&[48]), None)),
        ("default salt", pss(Some(SHA384), usual, None, None)),
        ("no salt", pss(Some(SHA384), usual, Some(&[0]), None)),
        ("short salt", pss(Some(SHA384), usual, Some(&[32]), None)),
        ("salt of 304", pss(Some(SHA384), usual, Some(&[1, 48]), None)),
        ("negative salt", pss(Some(SHA384), usual, Some(&[0xd0]), None)),
        ("trailer", pss(Some(SHA384), usual, Some(&[48]), Some(2))),
    ] {
        assert_eq!(scheme(&odd), None, "{name}");
    }
}

/// Two certificates of one key and name, made with OpenSSL for this test: signed with SHA-1 and with SHA-256.
const BY_SHA1: &str = "-----BEGIN CERTIFICATE-----
MIIBfDCCASKgAwIBAgIUEY1ao7Sb9ycNOpyXHB0Z3E2lfKAwCQYHKoZIzj0EATATMREwDwYDVQQDDAhPbGQgSGFzaDAgFw0y
NjExMjcxMTU4NDFaGA8yMDgxMDgzMDExNTg0MVowEzERMA8GA1UEAwwIT2xkIEhhc2gwWTATBgcqhkjOPQIBBggqhkjOPQMB
BwNCAASwOhKYTUB0Cq3c5Aj15W8rxpgzDciN8hgmWSyeg4IyKhlRqWmIni3EoQVgPrSw4R4RpJsnHdG4NetUpLhXa5JXo1Mw
UTAdBgNVHQ4EFgQUWnIbqN5sTNRGgjDtYTMuQYz0OmUwHwYDVR0jBBgwFoAUWnIbqN5sTNRGgjDtYTMuQYz0OmUwDwYDVR0T
AQH/BAUwAwEB/zAJBgcqhkjOPQQBA0kAMEYCIQDju654QN9nZ5YAvW8agasuKq4Rah3cm5Q8Kv2Z47dbZAIhAIOLbIEhf2Aa
J6YeF3mJL+1N/DOQvY7cvXGoXpOYVgYC
-----END CERTIFICATE-----";
const BY_SHA256: &str = "-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUT0JvmO+NMVxjP0xgrm7UAG/PGjMwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIT2xkIEhhc2gwIBcN
MjYxMTI3MTE1ODQxWhgPMjA4MTA4MzAxMTU4NDFaMBMxETAPBgNVBAMMCE9sZCBIYXNoMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEsDoSmE1AdAqt3OQI9eVvK8aYMw3IjfIYJlksnoOCMioZUalpiJ4txKEFYD60sOEeEaSbJx3RuDXrVKS4V2uSV6NT
MFEwHQYDVR0OBBYEFFpyG6jebEzURoIw7WEzLkGM9DplMB8GA1UdIwQYMBaAFFpyG6jebEzURoIw7WEzLkGM9DplMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAJ/5gLpI6ihu7AvM+MfOQc0B/hN+NjB0vVk/seze+qSzAiBKK5lvZuVN
zmMDxgoLEQslqXgfk9vl8/Quf+bPCZhurQ==
-----END CERTIFICATE-----";

#[test]
fn a_signature_over_sha1_is_refused() {
    let old = Certificate::parse(BY_SHA1.as_bytes()).unwrap();
    let new = Certificate::parse(BY_SHA256.as_bytes()).unwrap();
    assert_eq!(old.spki(), new.spki());
    assert!(new.is_issued_by(&new) && new.is_issued_by(&old), "the key and the name are good");
    assert!(!old.is_issued_by(&old) && !old.is_issued_by(&new));
    assert!(!old.is_signed_with(&new.key().unwrap()));
}

/// An RSA key of 1024 bits and its PKCS #1 signature of `message` with SHA-256, made with OpenSSL for this test.
const SHORT_MODULUS: &str = "b250f839531155b09e81dcd367a0ce5c0319b3fff15fd513866a87872c4de38cc7717ccb0684e66169f396ad4f6e628d\
    dcff788408fc5e1137433dfa4fd17b9ef60a87eaf3652367e9205d4fe9240283810dd2753a4620f7c833adf0997ae0e1\
    f414121b90f9eec13a83033e0f0e337b2b8283c4d9fb2bc44a6e86bff0523921";
const SHORT_SIGNATURE: &str = "8ca76a935769b35ee71e0a5b90e1c71779f6fcf762d20133ab3915b98ad827cc3e7f9279fa6798892d89a4610a5f756b\
    6b22ef9d8a780a9e967b53dcdd13a7015a46764e39a4fe16109cf376adadb840d6bd2c1f03a4d039ac09f3edc8fa2132\
    de606782333cf9a54c4799351d13578ee7a66c97e0c8ea3bfa1d270e65159ead";

#[test]
fn short_rsa_keys_are_refused() {
    let (modulus, signature) = (hex::decode(SHORT_MODULUS).unwrap(), hex::decode(SHORT_SIGNATURE).unwrap());
    let key = PublicKey::rsa(&modulus, &[1, 0, 1]).unwrap();
    assert!(!key.verifies(Scheme::RsaPkcs1(Hash::Sha256), b"message", &signature));
    assert!(key.prepared(Scheme::RsaPkcs1(Hash::Sha256)).is_err());
    let whole = PublicKey::rsa(&[0xff; 256], &[1, 0, 1]).unwrap();
    assert!(whole.prepared(Scheme::RsaPkcs1(Hash::Sha256)).is_ok());
    assert!(
        PublicKey::rsa(&[0xff; 255], &[1, 0, 1]).unwrap().prepared(Scheme::RsaPkcs1(Hash::Sha256)).is_err()
    );
    assert!(
        PublicKey::rsa(&[0xff; 1025], &[1, 0, 1]).unwrap().prepared(Scheme::RsaPss(Hash::Sha256)).is_err()
    );
    // The signature is a right one: a library that takes 1024 bits says so.
    use aws_lc_rs::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY as LEGACY, UnparsedPublicKey};
    let PublicKey::Rsa(der) = &key else { unreachable!() };
    assert!(UnparsedPublicKey::new(&LEGACY, der).verify(b"message", &signature).is_ok());
}

#[test]
fn numbers_that_are_no_keys_are_refused() {
    let modulus = [0xff; 256];
    for exponent in [&[][..], &[0], &[1], &[2], &[4]] {
        let key = PublicKey::rsa(&modulus, exponent);
        assert!(
            key.is_err() || !key.unwrap().verifies(Scheme::RsaPkcs1(Hash::Sha256), b"", &[1; 256]),
            "{exponent:?}"
        );
    }
    for modulus in [&[][..], &[0; 256], &[1]] {
        let key = PublicKey::rsa(modulus, &[1, 0, 1]);
        assert!(key.is_err() || !key.unwrap().verifies(Scheme::RsaPkcs1(Hash::Sha256), b"", &[1; 256]));
    }
    let zeros = PublicKey::rsa(&[&[0, 0], &modulus[..]].concat(), &[0, 1, 0, 1]).unwrap();
    assert_eq!(zeros.rsa_components(), Some((modulus.to_vec(), vec![1, 0, 1])));
    // Points: not on the curve, compressed, of another length, at infinity.
    let scheme = Scheme::Ecdsa(Hash::Sha256);
    for (x, y) in [([0; 32], [0; 32]), ([1; 32], [1; 32]), ([0xff; 32], [0xff; 32])] {
        let key = PublicKey::ec(Curve::P256, &x, &y).unwrap();
        assert!(!key.verifies(scheme, b"", &[0x30, 6, 2, 1, 1, 2, 1, 1]) && key.prepared(scheme).is_err());
    }
    assert!(PublicKey::ec(Curve::P256, &[1; 31], &[1; 32]).is_err());
    assert!(PublicKey::ec(Curve::P384, &[1; 32], &[1; 32]).is_err());
}

#[test]
fn a_key_serves_only_its_own_schemes() {
    use rcgen::SigningKey;
    let pair = KeyPair::generate().unwrap();
    let public = PublicKey::Ec(Curve::P256, pair.public_key_raw().to_vec());
    let signature = pair.sign(b"message").unwrap();
    assert!(public.verifies(Scheme::Ecdsa(Hash::Sha256), b"message", &signature));
    assert!(!public.verifies(Scheme::Ecdsa(Hash::Sha256), b"massage", &signature));
    for other in [
        Scheme::Ecdsa(Hash::Sha384),
        Scheme::Ecdsa(Hash::Sha512),
        Scheme::EcdsaFixed(Hash::Sha256),
        Scheme::RsaPkcs1(Hash::Sha256),
        Scheme::RsaPss(Hash::Sha256),
    ] {
        assert!(!public.verifies(other, b"message", &signature), "{other:?}");
    }
    let wrong_curve = PublicKey::Ec(Curve::P384, pair.public_key_raw().to_vec());
    assert!(!wrong_curve.verifies(Scheme::Ecdsa(Hash::Sha256), b"message", &signature));
    for odd in [&[][..], &signature[..signature.len() - 1], &[signature.as_slice(), &[0]].concat(), &[0; 72]]
    {
        assert!(!public.verifies(Scheme::Ecdsa(Hash::Sha256), b"message", odd));
    }
}
