//! Notation: envelopes made wrong on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod notation_help;

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cocoon_image::Digest;
use cocoon_signature::NotationEnvelope;
use cocoon_signature::notation::{JWS_TYPE, Trust, verify};
use notation_help::{Ca, IDENTITY, day, now, p256, refusal, seconds, trust};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

fn payload() -> Value {
    json!({"targetArtifact": {"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::sha256(b"m").to_string(), "size": 1, "annotations": {"a": "b"}}})
}

fn protected() -> Value {
    json!({"alg": "ES256", "cty": "application/vnd.cncf.notary.payload.v1+json",
        "crit": ["io.cncf.notary.signingScheme"], "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2026-01-01T00:00:00Z"})
}

/// An envelope of our own, by a P-256 key.
fn envelope(ca: &Ca, protected: &Value, payload: &Value) -> NotationEnvelope {
    let (protected, payload) =
        (URL_SAFE_NO_PAD.encode(protected.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()));
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &ca.key.serialize_der()).unwrap();
    let message = format!("{protected}.{payload}");
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let envelope = json!({"payload": payload, "protected": protected,
        "header": {"x5c": [STANDARD.encode(&ca.leaf_der), STANDARD.encode(&ca.root_der)]},
        "signature": URL_SAFE_NO_PAD.encode(signature.as_ref())});
    NotationEnvelope { media_type: JWS_TYPE.to_owned(), bytes: envelope.to_string().into_bytes() }
}

#[test]
fn headers_decide() {
    let ca = p256(|_| ());
    let trust = trust(&ca);
    let claim = verify(&trust, &envelope(&ca, &protected(), &payload()), now()).unwrap();
    assert_eq!((claim.digest, claim.size), (Digest::sha256(b"m"), 1));
    assert_eq!(claim.annotations["a"], "b");
    assert!(claim.signer.contains("CN=signer"), "{}", claim.signer);

    let change = |name: &str, value: Value| {
        let mut headers = protected();
        if value.is_null() {
            headers.as_object_mut().unwrap().remove(name);
        } else {
            headers[name] = value;
        }
        refusal(&trust, &envelope(&ca, &headers, &payload()), now())
    };
    let scheme = "io.cncf.notary.signingScheme";
    for (name, value, expected) in [
        ("alg", json!("ES384"), "does not belong to its key's size"),
        ("alg", json!("none"), "not supported"),
        ("alg", json!("HS256"), "not supported"),
        ("cty", json!("text/plain"), "not over a payload"),
        ("b64", json!(false), "not over a payload"),
        ("crit", json!([scheme, "io.cncf.notary.verificationPlugin"]), "unknown critical"),
        ("crit", json!([]), "does not mark"),
        ("crit", json!([scheme, scheme]), "does not mark"),
        ("crit", Value::Null, "malformed"),
        ("io.cncf.notary.expiry", json!("2100-01-01T00:00:00Z"), "does not mark"),
        (scheme, json!("notary.x510"), "unknown signing scheme"),
        (scheme, json!("notary.x509.signingAuthority"), "signing time"),
        ("io.cncf.notary.signingTime", json!("2100-01-01T00:00:00Z"), "future"),
        ("io.cncf.notary.signingTime", json!("yesterday"), "malformed time"),
        ("io.cncf.notary.signingTime", Value::Null, "signing time"),
    ] {
        let e = change(name, value);
        assert!(e.contains(expected), "{name}: {e}");
    }
    let mut headers = protected();
    headers["crit"] = json!([scheme, "io.cncf.notary.expiry"]);
    headers["io.cncf.notary.expiry"] = json!("2026-02-01T00:00:00+01:00");
    let e = refusal(&trust, &envelope(&ca, &headers, &payload()), now());
    assert!(e.contains("has expired"), "{e}");
    headers["io.cncf.notary.expiry"] = json!("2100-02-01T00:00:00+01:00");
    verify(&trust, &envelope(&ca, &headers, &payload()), now()).unwrap();

    let mut wrong = payload();
    wrong["more"] = json!(1);
    assert!(refusal(&trust, &envelope(&ca, &protected(), &wrong), now()).contains("malformed payload"));
    let mut wrong = payload();
    wrong["targetArtifact"]["digest"] = json!("md5:00");
    assert!(refusal(&trust, &envelope(&ca, &protected(), &wrong), now()).contains("malformed payload"));
}

#[test]
fn a_signing_authority_vouches_for_the_time_and_must_be_trusted_to() {
    let ca = p256(|leaf| (leaf.not_before, leaf.not_after) = (day!(-30), day!(-20)));
    let mut headers = protected();
    let authentic = "io.cncf.notary.authenticSigningTime";
    let at = |days: i64| {
        der::DateTime::from_unix_duration(Duration::from_secs(seconds(days))).unwrap().to_string()
    };
    headers["crit"] = json!(["io.cncf.notary.signingScheme", authentic]);
    headers["io.cncf.notary.signingScheme"] = json!("notary.x509.signingAuthority");
    headers.as_object_mut().unwrap().remove("io.cncf.notary.signingTime");
    headers[authentic] = json!(at(-25));
    let good = envelope(&ca, &headers, &payload());
    let plain = trust(&ca);
    assert!(refusal(&plain, &good, now()).contains("none is trusted"));
    let other = p256(|_| ());
    let trusting = |ca: &Ca| {
        Trust::new(std::slice::from_ref(&other.root_pem), &["*".to_owned()])
            .unwrap()
            .with_authorities(std::slice::from_ref(&ca.root_pem))
            .unwrap()
    };
    verify(&trusting(&ca), &good, now()).unwrap();
    assert!(refusal(&trusting(&other), &good, now()).contains("trusted root"));
    for (days, expected) in [(-15, "not valid at the time"), (1, "future")] {
        headers[authentic] = json!(at(days));
        let e = refusal(&trusting(&ca), &envelope(&ca, &headers, &payload()), now());
        assert!(e.contains(expected), "{e}");
    }
    // The other scheme's signer cannot say when he signed.
    let e = refusal(&plain, &envelope(&ca, &protected(), &payload()), now());
    assert!(e.contains("not valid at the time"), "{e}");
}

#[test]
fn certificates_must_be_for_code_signing() {
    use ExtendedKeyUsagePurpose as Purpose;
    let refused = |change: &dyn Fn(&mut CertificateParams)| {
        let ca = p256(change);
        refusal(&trust(&ca), &envelope(&ca, &protected(), &payload()), now())
    };
    for (e, expected) in [
        (refused(&|l| l.extended_key_usages = vec![]), "code signing"),
        (refused(&|l| l.extended_key_usages = vec![Purpose::ServerAuth]), "code signing"),
        (refused(&|l| l.extended_key_usages.push(Purpose::TimeStamping)), "code signing alone"),
        (refused(&|l| l.extended_key_usages.push(Purpose::Any)), "code signing alone"),
        (refused(&|l| l.key_usages = vec![]), "without a critical key usage"),
        (refused(&|l| l.key_usages = vec![KeyUsagePurpose::KeyEncipherment]), "signatures alone"),
        (refused(&|l| l.key_usages.push(KeyUsagePurpose::CrlSign)), "signatures alone"),
        (refused(&|l| l.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "signatures alone|authority"),
        (refused(&|l| l.not_after = day!(-1)), "not valid at the time"),
        (refused(&|l| l.not_before = day!(1)), "not valid at the time"),
    ] {
        assert!(expected.split('|').any(|x| e.contains(x)), "{expected}: {e}");
    }
    let (one, two) = (p256(|_| ()), p256(|_| ()));
    let e = refusal(&trust(&two), &envelope(&one, &protected(), &payload()), now());
    assert!(e.contains("trusted root"), "{e}");
    let stranger = "x509.subject: C=US, ST=WA, O=Other";
    let others = Trust::new(std::slice::from_ref(&one.root_pem), &[stranger.to_owned()]).unwrap();
    let e = refusal(&others, &envelope(&one, &protected(), &payload()), now());
    assert!(e.contains("trusted identities"), "{e}");
    // Another's certificate before the own signature.
    let stolen = Ca { key: two.key, ..one };
    let e = refusal(&trust(&stolen), &envelope(&stolen, &protected(), &payload()), now());
    assert!(e.contains("not its certificate's"), "{e}");

    assert!(Trust::new(&[], &["*".to_owned()]).is_err());
    assert!(Trust::new(std::slice::from_ref(&two.root_pem), &[]).is_err());
    assert!(Trust::new(&["junk".to_owned()], &["*".to_owned()]).is_err());
    assert!(Trust::new(std::slice::from_ref(&two.root_pem), &["*".to_owned(), IDENTITY.to_owned()]).is_err());
}
