//! Cosign's signatures under a tag with a certificate and Rekor's promise, and policies that ask for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use cocoon_image::{Digest, Reference};
use cocoon_signature::cosign::Payload;
use cocoon_signature::policy::{Policy, decide};
use cocoon_signature::sigstore::{Identity, Trust, statement, verify_bundle, verify_legacy};
use cocoon_signature::{CosignSignature, Found, Subject};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SigningKey as _};
use serde_json::{Value, json};

use sigstore_fake::check::{trust, trust_of};
use sigstore_fake::{EMAIL, Fake, OIDC, Signer, b64, hashedrekord, key, now, p256, pem, sha256};

fn subject() -> (Reference, Digest) {
    (Reference::parse("a.io/x:1").unwrap(), Digest::sha256(b"manifest"))
}

/// The annotation with the log's promise.
fn promise(fake: &Fake, body: &[u8], at: u64) -> String {
    let promise = fake.promise(body, at, 42);
    let payload =
        json!({"body": b64(body), "integratedTime": at, "logIndex": 42, "logID": hex::encode(fake.log_id())});
    json!({"SignedEntryTimestamp": b64(promise), "Payload": payload}).to_string()
}

fn keyless(fake: &Fake, signer: &Signer) -> CosignSignature {
    let (reference, digest) = subject();
    let payload = Payload::new(&reference, digest).to_json();
    let signature = signer.key.sign(&payload).unwrap();
    let body = hashedrekord(&sha256(&payload), &signature, &signer.pem());
    CosignSignature {
        payload,
        signature: b64(&signature),
        certificate: Some(signer.pem()),
        chain: Some(pem(&fake.intermediate.der) + &pem(&fake.root.der)),
        bundle: Some(promise(fake, &body, fake.at)),
        timestamp: None,
    }
}

fn keyed(fake: &Fake, key: &KeyPair) -> CosignSignature {
    let (reference, digest) = subject();
    let payload = Payload::new(&reference, digest).to_json();
    let signature = key.sign(&payload).unwrap();
    let body = hashedrekord(&sha256(&payload), &signature, &key.public_key_pem());
    let bundle = Some(promise(fake, &body, fake.at));
    CosignSignature { payload, signature: b64(&signature), bundle, ..CosignSignature::default() }
}

#[test]
fn a_certificate_and_a_promise_are_enough() {
    let fake = Fake::new(now() - 3600);
    let good = keyless(&fake, &fake.certify(&fake.leaf()));
    let check = |s: &CosignSignature| verify_legacy(&trust(&fake), s, now()).map_err(|e| e.to_string());
    let claim = check(&good).unwrap();
    assert_eq!((claim.digest, claim.at_unix), (subject().1, Some(fake.at)));
    assert_eq!(claim.reference.as_deref(), Some("a.io/x"));

    let other = keyless(&fake, &fake.certify(&fake.leaf()));
    let with = |change: &dyn Fn(&mut CosignSignature)| {
        let mut s = good.clone();
        change(&mut s);
        s
    };
    for (altered, why) in [
        (with(&|s| s.bundle = None), "no trusted log"),
        (with(&|s| s.certificate = None), "no certificate"),
        (with(&|s| s.certificate = other.certificate.clone()), "does not verify with its certificate"),
        (with(&|s| s.bundle = other.bundle.clone()), "another signature"),
        (with(&|s| s.signature = other.signature.clone()), "does not verify"),
        (with(&|s| s.payload.push(b' ')), "does not verify"),
        (
            with(&|s| s.bundle = s.bundle.as_ref().map(|b| b.replace("\"logIndex\":42", "\"logIndex\":43"))),
            "promise",
        ),
        (with(&|s| s.bundle = Some("{}".into())), "malformed"),
        (with(&|s| s.certificate = Some("x".into())), "certificates"),
        (with(&|s| s.signature = "%".into()), "base64"),
        (with(&|s| s.timestamp = Some("{}".into())), "malformed"),
        (with(&|s| s.payload = vec![b' '; 100_000]), "too long"),
    ] {
        let e = check(&altered).expect_err(why);
        assert!(e.contains(why), "{why}: {e}");
    }
    // The trusted roots know the way to the root themselves.
    check(&with(&|s| s.chain = None)).unwrap();
    let late = fake.certify(&sigstore_fake::Leaf { from: fake.at + 60, to: fake.at + 600, ..fake.leaf() });
    assert!(check(&keyless(&fake, &late)).unwrap_err().contains("not valid"));
}

#[test]
fn a_key_may_have_to_be_in_a_log() {
    let fake = Fake::new(now() - 3600);
    let other = Fake::new(fake.at);
    for pair in [p256(), key(&PKCS_ECDSA_P384_SHA384), key(&PKCS_ED25519)] {
        let trust = Trust::keys(&[pair.public_key_pem()]).unwrap();
        let logged =
            trust.clone().with_logs(&[other.rekor.public_key_pem(), fake.rekor.public_key_pem()]).unwrap();
        let good = keyed(&fake, &pair);
        assert_eq!(verify_legacy(&trust, &good, now()).unwrap().at_unix, None);
        assert_eq!(verify_legacy(&logged, &good, now()).unwrap().at_unix, Some(fake.at));
        let unlogged = CosignSignature { bundle: None, ..good.clone() };
        assert!(verify_legacy(&trust, &unlogged, now()).is_ok());
        assert!(verify_legacy(&logged, &unlogged, now()).is_err());
        let elsewhere = trust.with_logs(&[other.rekor.public_key_pem()]).unwrap();
        assert!(verify_legacy(&elsewhere, &good, now()).is_err());
        assert!(verify_legacy(&logged, &good, fake.at - 3600).unwrap_err().to_string().contains("future"));
    }
}

#[test]
fn logs_may_sign_with_ed25519() {
    let fake = Fake::with_rekor(now() - 3600, key(&PKCS_ED25519));
    let signer = fake.certify(&fake.leaf());
    verify_legacy(&trust(&fake), &keyless(&fake, &signer), now()).unwrap();
    let bundle = fake.statement_bundle(&signer, &statement(&subject().1, None), 9, 8).to_string();
    verify_bundle(&trust(&fake), bundle.as_bytes(), &[subject().1], now()).unwrap();
}

#[test]
fn signers_keys_may_be_of_any_kind() {
    let fake = Fake::new(now() - 3600);
    for pair in [key(&PKCS_ECDSA_P384_SHA384), key(&PKCS_ED25519)] {
        let signer = fake.certify_key(&fake.leaf(), pair);
        verify_legacy(&trust(&fake), &keyless(&fake, &signer), now()).unwrap();
    }
}

#[test]
fn policies_ask_for_identities() {
    let fake = Fake::new(now() - 3600);
    let signer = fake.certify(&fake.leaf());
    let (reference, digest) = subject();
    let ca = b64(pem(&fake.root.der) + &pem(&fake.intermediate.der));
    let rekor = b64(fake.rekor.public_key_pem());
    let by = |fulcio: Value, rekor: Option<&String>| {
        let mut requirement = json!({"type": "sigstoreSigned", "fulcio": fulcio,
            "signedIdentity": {"type": "matchDigestOnly"}});
        if let Some(rekor) = rekor {
            requirement["rekorPublicKeyDatas"] = json!([rekor]);
        }
        Policy::parse(json!({"default": [requirement]}).to_string().as_bytes()).unwrap()
    };
    let decision = |policy: &Policy, found: &Found| {
        let subject = Subject { reference: &reference, digests: &[digest] };
        decide(policy.for_image(&reference), &subject, found, now())
    };
    let plain = json!({"caData": ca, "oidcIssuer": OIDC, "subjectEmail": EMAIL});
    let logged = json!({"caData": ca, "oidcIssuer": OIDC, "subjectEmail": EMAIL,
        "ctLogPublicKeyData": b64(fake.ct.public_key_pem())});
    let root = json!({"trustedRootData": b64(fake.trusted_root().to_string()), "oidcIssuer": OIDC,
        "subjectEmail": EMAIL});
    let good = [by(plain, Some(&rekor)), by(logged, Some(&rekor)), by(root, None)];
    let others = [
        by(json!({"caData": ca, "oidcIssuer": OIDC, "subjectEmail": "a@example.com"}), Some(&rekor)),
        by(json!({"caData": ca, "oidcIssuer": "https://x", "subjectEmail": EMAIL}), Some(&rekor)),
        by(json!({"caData": ca, "oidcIssuer": OIDC, "subjectURI": EMAIL}), Some(&rekor)),
        by(
            json!({"caData": b64(pem(&Fake::new(fake.at).root.der)), "oidcIssuer": OIDC, "subjectEmail": EMAIL}),
            Some(&rekor),
        ),
        by(
            json!({"caData": ca, "oidcIssuer": OIDC, "subjectEmail": EMAIL}),
            Some(&b64(p256().public_key_pem())),
        ),
        by(
            json!({"caData": ca, "oidcIssuer": OIDC, "subjectEmail": EMAIL,
            "ctLogPublicKeyData": b64(p256().public_key_pem())}),
            Some(&rekor),
        ),
    ];
    let bundle = fake.statement_bundle(&signer, &statement(&digest, None), 7, 2).to_string().into_bytes();
    for found in [
        Found { cosign: vec![keyless(&fake, &signer)], ..Found::default() },
        Found { bundles: vec![b"junk".to_vec(), bundle], ..Found::default() },
    ] {
        for policy in &good {
            let by = decision(policy, &found).unwrap().by;
            assert!(by[0].contains(EMAIL) && by[0].contains(OIDC), "{by:?}");
        }
        for policy in &others {
            assert!(decision(policy, &found).is_err());
        }
    }
}

#[test]
fn roots_must_be_able_to_prove_something() {
    let fake = Fake::new(now());
    let identity = || Identity::email(OIDC, EMAIL).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut root = fake.trusted_root();
        change(&mut root);
        let roots = cocoon_signature::sigstore::Roots::from_trusted_root(root.to_string().as_bytes());
        roots.and_then(|roots| Trust::keyless(roots, identity())).is_err()
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|r| r["mediaType"] = json!("x")));
    assert!(refused(&|r| r["tlogs"] = json!([])), "neither log nor time stamps");
    assert!(refused(&|r| r["certificateAuthorities"] = json!([])));
    assert!(refused(&|r| r["certificateAuthorities"][0]["certChain"]["certificates"] = json!([])));
    assert!(
        refused(&|r| r["ctlogs"][0]["publicKey"]["keyDetails"] = json!("UNKNOWN")),
        "no log left by accident"
    );
    assert!(refused(&|r| r["ctlogs"][0]["publicKey"]["rawBytes"] = json!("AAAA")));
    assert!(refused(&|r| r["tlogs"][0]["publicKey"]["validFor"]["start"] = json!("yesterday")));
    assert!(refused(&|r| r["tlogs"] = json!(vec![r["tlogs"][0].clone(); 65])));
    assert!(Identity::email("", EMAIL).is_err() && Identity::uri(OIDC, "").is_err());
    let _ = trust_of(&fake.trusted_root(), identity());
}
