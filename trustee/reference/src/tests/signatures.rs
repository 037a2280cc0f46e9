//! Signatures: what is accepted, and each way to be refused.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coset::{CborSerializable, CoseSign1Builder, HeaderBuilder, iana};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair as CertKey,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

use super::*;
use crate::{dsse, sign_set};

/// An authority (DER) and a signer below it (DER, PKCS#8 of its P-384 key).
pub struct Chain {
    pub authority: Vec<u8>,
    pub leaf: Vec<u8>,
    pub key: Vec<u8>,
}

pub fn chain(change: impl FnOnce(&mut CertificateParams, &mut CertificateParams)) -> Chain {
    let params = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2035, 1, 1));
        params
    };
    let (mut ca, mut leaf) = (params("Authority"), params("Signer"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut ca, &mut leaf);
    let ca_key = CertKey::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let leaf_key = CertKey::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let authority = ca.self_signed(&ca_key).unwrap().der().to_vec();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap().der().to_vec();
    Chain { authority, leaf, key: leaf_key.serialize_der() }
}

fn anchored(chain: &Chain) -> TrustAnchors {
    TrustAnchors { keys: Vec::new(), certificates: vec![chain.authority.clone()] }
}

fn p384_sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key).unwrap();
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn p256_sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key).unwrap();
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn sign1(header: HeaderBuilder, payload: Vec<u8>, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let built = CoseSign1Builder::new().protected(header.build()).payload(payload);
    [&[0xd2][..], &built.create_signature(&[], sign).build().to_vec().unwrap()].concat()
}

fn signed_corim(chain: &Chain) -> Vec<u8> {
    let x5chain = Cbor::Array(vec![Cbor::Bytes(chain.leaf.clone())]);
    let header = HeaderBuilder::new().algorithm(iana::Algorithm::ES384).value(33, x5chain);
    sign1(header, corim(1, None), |m| p384_sign(&chain.key, m))
}

fn import(format: Format, document: impl AsRef<[u8]>, trust: &TrustAnchors) -> Result<crate::Set, Error> {
    fresh().import(&message(format, document), trust, &options())
}

fn import_waived(
    format: Format,
    document: impl AsRef<[u8]>,
    trust: &TrustAnchors,
) -> Result<crate::Set, Error> {
    fresh().import(&message(format, document), trust, &waived())
}

#[test]
fn a_corim_by_a_trusted_key() {
    let ((key, anchor), (_, other), (ed, ed_anchor)) = (p256("k"), p256("k"), ed25519("e"));
    let header = || HeaderBuilder::new().algorithm(iana::Algorithm::ES256).key_id(b"k".to_vec());
    let document = sign1(header(), corim(1, None), |m| p256_sign(&key, m));
    assert_eq!(
        import(Format::Corim, &document, &trusting(&[&anchor])).unwrap().signed_by.as_deref(),
        Some("k")
    );
    assert_eq!(kind(&import(Format::Corim, &document, &trusting(&[&other]))), "signature");
    assert_eq!(kind(&import_waived(Format::Corim, &document, &trusting(&[&other]))), "signature");
    assert_eq!(kind(&import(Format::Corim, &document, &trusting(&[&ed_anchor]))), "untrusted");
    assert_eq!(import_waived(Format::Corim, &document, &trusting(&[])).unwrap().signed_by, None);
    assert_eq!(kind(&import(Format::Corim, corim(1, None), &trusting(&[&anchor]))), "unsigned");

    let by_ed = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(b"e".to_vec());
    let meta =
        Cbor::Bytes(cbor(&map(vec![(1, map(vec![(1, Cbor::Tag(1, Box::new(Cbor::from(NOW + 7))))]))])));
    let document = sign1(by_ed.value(8, meta), corim(1, None), |m| {
        Ed25519KeyPair::from_pkcs8(&ed).unwrap().sign(m).as_ref().to_vec()
    });
    let stored = import(Format::Corim, &document, &trusting(&[&anchor, &ed_anchor])).unwrap();
    assert_eq!((stored.signed_by.as_deref(), stored.expires_unix), (Some("e"), Some(NOW + 7)));

    let nobody =
        sign1(HeaderBuilder::new().algorithm(iana::Algorithm::ES256), corim(1, None), |m| p256_sign(&key, m));
    assert_eq!(kind(&import(Format::Corim, &nobody, &trusting(&[&anchor]))), "untrusted");
    let critical = sign1(header_critical(), corim(1, None), |m| p256_sign(&key, m));
    assert_eq!(kind(&import(Format::Corim, &critical, &trusting(&[&anchor]))), "document");
    let confused =
        sign1(header().content_type("application/other".into()), corim(1, None), |m| p256_sign(&key, m));
    assert_eq!(kind(&import(Format::Corim, &confused, &trusting(&[&anchor]))), "document");
    let unfit = HeaderBuilder::new().algorithm(iana::Algorithm::ES384).key_id(b"k".to_vec());
    let unfit = sign1(unfit, corim(1, None), |m| p256_sign(&key, m));
    assert_eq!(kind(&import(Format::Corim, &unfit, &trusting(&[&anchor]))), "signature");
}

#[test]
fn an_algorithm_that_is_not_known_is_nobodys() {
    let (key, anchor) = p256("k");
    let header = HeaderBuilder::new().algorithm(iana::Algorithm::ES512).key_id(b"k".to_vec());
    let document = sign1(header, corim(1, None), |m| p256_sign(&key, m));
    assert_eq!(kind(&import(Format::Corim, &document, &trusting(&[&anchor]))), "untrusted");
    assert_eq!(import_waived(Format::Corim, &document, &trusting(&[&anchor])).unwrap().signed_by, None);
}

fn header_critical() -> HeaderBuilder {
    let header = HeaderBuilder::new().algorithm(iana::Algorithm::ES256).key_id(b"k".to_vec());
    header.add_critical(iana::HeaderParameter::Iv)
}

#[test]
fn a_corim_by_a_trusted_authoritys_signer() {
    let good = chain(|_, _| {});
    let document = signed_corim(&good);
    let by = import(Format::Corim, &document, &anchored(&good)).unwrap().signed_by.unwrap();
    assert!(by.starts_with("sha256:") && by.len() == 71, "{by}");
    assert_eq!(kind(&import(Format::Corim, &document, &anchored(&chain(|_, _| {})))), "untrusted");
    assert_eq!(kind(&import(Format::Corim, &document, &TrustAnchors::default())), "untrusted");
    // A flipped bit anywhere: no such document is taken as signed.
    for at in (1..document.len()).step_by(13) {
        let mut altered = document.clone();
        altered[at] ^= 1;
        assert!(import(Format::Corim, &altered, &anchored(&good)).is_err(), "byte {at}");
    }
    let last = document.len() - 1;
    let mut altered = document.clone();
    altered[last] ^= 1;
    assert_eq!(kind(&import(Format::Corim, &altered, &anchored(&good))), "signature");
    assert_eq!(kind(&import_waived(Format::Corim, &altered, &TrustAnchors::default())), "signature");
}

#[test]
fn chains_that_do_not_count() {
    let (past, future) = (date_time_ymd(2025, 6, 1), date_time_ymd(2026, 6, 1));
    let cases: [(&str, Chain); 9] = [
        ("expired signer", chain(|_, leaf| leaf.not_after = past)),
        ("signer not yet valid", chain(|_, leaf| leaf.not_before = future)),
        ("expired authority", chain(|ca, _| ca.not_after = past)),
        ("authority that is none", chain(|ca, _| ca.is_ca = IsCa::ExplicitNoCa)),
        ("authority without constraints", chain(|ca, _| ca.is_ca = IsCa::NoCa)),
        ("authority that may not issue", chain(|ca, _| ca.key_usages = vec![KeyUsagePurpose::CrlSign])),
        (
            "signer that is an authority",
            chain(|_, leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        ("signer that may not sign", chain(|_, leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement])),
        (
            "signer for TLS",
            chain(|_, leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
    ];
    for (what, chain) in &cases {
        assert_eq!(
            kind(&import(Format::Corim, signed_corim(chain), &anchored(chain))),
            "untrusted",
            "{what}"
        );
    }
    let taken = import_waived(Format::Corim, signed_corim(&cases[0].1), &anchored(&cases[0].1)).unwrap();
    assert_eq!(taken.signed_by, None);
    let code = chain(|_, leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    assert_eq!(kind(&import(Format::Corim, signed_corim(&code), &anchored(&code))), "ok");
}

#[test]
fn a_chain_with_an_authority_between() {
    let key = || CertKey::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    for (limit, wanted) in [(1, "ok"), (0, "untrusted")] {
        let params = |name: &str, ca: Option<u8>| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = ca.map_or(IsCa::NoCa, |n| IsCa::Ca(BasicConstraints::Constrained(n)));
            params
        };
        let (root, middle, leaf) = (params("R", Some(limit)), params("M", Some(0)), params("L", None));
        let (root_key, middle_key, leaf_key) = (key(), key(), key());
        let authority = root.self_signed(&root_key).unwrap().der().to_vec();
        let middle_der = middle.signed_by(&middle_key, &Issuer::new(root, root_key)).unwrap().der().to_vec();
        let leaf_der = leaf.signed_by(&leaf_key, &Issuer::new(middle, middle_key)).unwrap().der().to_vec();
        let sign = |chain: Vec<Vec<u8>>| {
            let x5chain = Cbor::Array(chain.into_iter().map(Cbor::Bytes).collect());
            let header = HeaderBuilder::new().algorithm(iana::Algorithm::ES384).value(33, x5chain);
            sign1(header, corim(1, None), |m| p384_sign(&leaf_key.serialize_der(), m))
        };
        let trust = TrustAnchors { keys: Vec::new(), certificates: vec![authority] };
        let whole = sign(vec![leaf_der.clone(), middle_der]);
        assert_eq!(kind(&import(Format::Corim, whole, &trust)), wanted, "{limit}");
        assert_eq!(kind(&import(Format::Corim, sign(vec![leaf_der]), &trust)), "untrusted");
    }
}

fn envelope(payload_type: &str, payload: &[u8], keyid: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let sig = STANDARD.encode(sign(&dsse::pae(payload_type, payload)));
    json!({
        "payloadType": payload_type, "payload": STANDARD.encode(payload),
        "signatures": [{ "keyid": keyid, "sig": sig }],
    })
    .to_string()
}

#[test]
fn provenance_by_keys_of_all_kinds() {
    const TYPE: &str = "application/vnd.in-toto+json";
    let statement = provenance("https://slsa.dev/provenance/v0.2");
    let rng = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let rsa_anchor = AnchorKey { id: "rsa".into(), key: public.as_ref().to_vec() };
    for scheme in [&RSA_PKCS1_SHA256, &RSA_PSS_SHA256] {
        let sign = |m: &[u8]| {
            let mut out = vec![0; rsa.public_modulus_len()];
            rsa.sign(scheme, &rng, m, &mut out).unwrap();
            out
        };
        let document = envelope(TYPE, &statement, "rsa", sign);
        assert_eq!(kind(&import(Format::InToto, document, &trusting(&[&rsa_anchor]))), "ok");
    }
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let public: PublicKeyX509Der<'_> = p384.public_key().as_der().unwrap();
    let anchor = AnchorKey { id: "p384".into(), key: public.as_ref().to_vec() };
    let sign = |m: &[u8]| p384.sign(&rng, m).unwrap().as_ref().to_vec();
    // Of all anchors the one that fits, where none is named.
    let document = envelope(TYPE, &statement, "", sign);
    let stored = import(Format::InToto, &document, &trusting(&[&rsa_anchor, &anchor])).unwrap();
    assert_eq!(stored.signed_by.as_deref(), Some("p384"));
    assert_eq!(kind(&import(Format::InToto, &document, &trusting(&[&rsa_anchor]))), "untrusted");
    let named_wrong = envelope(TYPE, &statement, "rsa", sign);
    assert_eq!(kind(&import(Format::InToto, named_wrong, &trusting(&[&rsa_anchor, &anchor]))), "signature");
    assert_eq!(kind(&import(Format::InToto, &statement, &trusting(&[&anchor]))), "unsigned");
    // Signed, but as something else.
    let other = envelope("application/json", &statement, "p384", sign);
    assert_eq!(kind(&import(Format::InToto, &other, &trusting(&[&anchor]))), "document");
    let relabelled = other.replace("application/json", TYPE);
    assert_eq!(kind(&import(Format::InToto, relabelled, &trusting(&[&anchor]))), "signature");
}

#[test]
fn our_own_form() {
    for (key, anchor) in [p256("p"), ed25519("p")] {
        let document = sign_set(&set("s", 1, json!({"a": ["1"]})), "p", &key).unwrap();
        let trust = trusting(&[&anchor]);
        assert_eq!(kind(&import(Format::Cocoon, &document, &trust)), "ok");
        let (_, other) = p256("p");
        assert_eq!(kind(&import(Format::Cocoon, &document, &trusting(&[&other]))), "signature");
        assert_eq!(kind(&import(Format::Cocoon, &document, &trusting(&[]))), "untrusted");
        let mut envelope: Value = serde_json::from_str(&document).unwrap();
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let altered = String::from_utf8(payload).unwrap().replace("\"1\"", "\"2\"");
        envelope["payload"] = STANDARD.encode(altered).into();
        assert_eq!(kind(&import(Format::Cocoon, envelope.to_string(), &trust)), "signature");
        envelope["signatures"] = json!([]);
        assert_eq!(kind(&import(Format::Cocoon, envelope.to_string(), &trust)), "unsigned");
        let anonymous = sign_set(&set("s", 1, json!({"a": ["1"]})), "", &key).unwrap();
        assert_eq!(import(Format::Cocoon, anonymous, &trust).unwrap().signed_by.as_deref(), Some("p"));
    }
    let (key, _) = p256("p");
    assert_eq!(kind(&sign_set(&set("s", 1, json!({"a": null})), "p", &key)), "value");
    assert_eq!(kind(&sign_set(&set("s", 1, json!({})), "p", &key)), "document");
    assert_eq!(kind(&sign_set(&set("s", 1, json!({"a": 1})), "p", b"junk")), "key");
}

#[test]
fn anchors_are_checked() {
    let (_, good) = p256("k");
    assert_eq!(kind(&trusting(&[&good]).check()), "ok");
    assert_eq!(kind(&trusting(&[&good, &good]).check()), "key");
    let bad = AnchorKey { key: b"junk".to_vec(), ..good.clone() };
    assert_eq!(kind(&trusting(&[&bad]).check()), "key");
    let bad = TrustAnchors { keys: Vec::new(), certificates: vec![good.key.clone()] };
    assert_eq!(kind(&bad.check()), "key");
    let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
    let pem = AnchorKey { id: "pem".into(), key: pem.into_bytes() };
    assert_eq!(kind(&trusting(&[&pem]).check()), "ok");
}
