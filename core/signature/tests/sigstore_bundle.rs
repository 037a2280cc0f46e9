//! Bundles of a whole fake Sigstore instance: cosign and we accept the same, and no other shape.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use cocoon_image::Digest;
use cocoon_signature::sigstore::{Trust, statement, verify_blob};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use sigstore_fake::check::{BLOB, Case, blob, cosign, cosign_verifies, image, refused, trust};
use sigstore_fake::{Fake, Logged, b64, now, p256, sha256};

#[test]
fn cosign_and_we_accept_the_same_bundles() {
    let fake = Fake::new(now() - 3600);
    let signer = fake.certify(&fake.leaf());
    let digest = Digest::sha256(BLOB);
    let cosign = cosign();
    for (size, index) in [(1, 0), (7, 3), (8, 7), (13, 12)] {
        let message = fake.message_bundle(&signer, BLOB, size, index);
        blob(&trust(&fake), &message, now()).unwrap();
        image(&trust(&fake), &message, &digest, now()).unwrap();
        let statement = fake.statement_bundle(&signer, &statement(&digest, None), size, index);
        image(&trust(&fake), &statement, &digest, now()).unwrap();
        if cosign {
            cosign_verifies(&fake.trusted_root(), &message, false).unwrap();
            cosign_verifies(&fake.trusted_root(), &statement, true).unwrap();
        }
    }
}

#[test]
fn signatures_and_shapes() {
    let fake = Fake::new(now() - 3600);
    let signer = fake.certify(&fake.leaf());
    let good = fake.message_bundle(&signer, BLOB, 7, 3);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle
    };
    let case = |name, change: &dyn Fn(&mut Value), why| Case::of(&fake, name, with(change), why);
    let chain = json!({"certificates": [{"rawBytes": b64(&signer.der)}]});
    let sign = |message: &[u8]| json!(b64(signer.key.sign(message).unwrap()));
    refused(&[
        case(
            "swapped signature",
            &|b| b["messageSignature"]["signature"] = sign(b"another"),
            "does not verify",
        ),
        case(
            "signature of another moment",
            &|b| b["messageSignature"]["signature"] = sign(BLOB),
            "another signature",
        ),
        case("empty signature", &|b| b["messageSignature"]["signature"] = json!(""), "does not verify"),
        case(
            "another digest",
            &|b| b["messageSignature"]["messageDigest"]["digest"] = json!(b64([1; 32])),
            "other bytes",
        ),
        case(
            "a short digest",
            &|b| b["messageSignature"]["messageDigest"]["digest"] = json!("AAAA"),
            "length",
        ),
        case(
            "an unknown version",
            &|b| b["mediaType"] = json!("application/vnd.dev.sigstore.bundle.v0.4+json"),
            "not known",
        ),
        case(
            "no version",
            &|b| {
                b.as_object_mut().unwrap().remove("mediaType");
            },
            "malformed",
        ),
        case(
            "no content",
            &|b| {
                b.as_object_mut().unwrap().remove("messageSignature");
            },
            "either",
        ),
        case(
            "both contents",
            &|b| b["dsseEnvelope"] = json!({"payload": "", "payloadType": "", "signatures": []}),
            "either",
        ),
        case(
            "a chain in 0.3",
            &|b| {
                let material = b["verificationMaterial"].as_object_mut().unwrap();
                material.remove("certificate");
                material.insert("x509CertificateChain".into(), chain.clone());
            },
            "version's form",
        ),
        case(
            "key and certificate",
            &|b| b["verificationMaterial"]["publicKey"] = json!({"hint": ""}),
            "version's form",
        ),
        case(
            "a key alone",
            &|b| {
                let material = b["verificationMaterial"].as_object_mut().unwrap();
                material.remove("certificate");
                material.insert("publicKey".into(), json!({"hint": ""}));
            },
            "no certificate",
        ),
        case(
            "too many entries",
            &|b| {
                let entry = b["verificationMaterial"]["tlogEntries"][0].clone();
                b["verificationMaterial"]["tlogEntries"] = json!(vec![entry; 9]);
            },
            "too many",
        ),
        case(
            "a member twice removed",
            &|b| b["verificationMaterial"]["tlogEntries"][0]["logIndex"] = json!("-1"),
            "number",
        ),
    ]);
    // The older shapes: a chain and only a promise.
    let older = |version: &str, proof: bool, promise: bool| {
        let mut b = good.clone();
        b["mediaType"] = json!(format!("application/vnd.dev.sigstore.bundle+json;version={version}"));
        let material = b["verificationMaterial"].as_object_mut().unwrap();
        material.remove("certificate");
        material.insert("x509CertificateChain".into(), chain.clone());
        let entry = material["tlogEntries"][0].as_object_mut().unwrap();
        if !proof {
            entry.remove("inclusionProof");
        }
        if !promise {
            entry.remove("inclusionPromise");
        }
        blob(&trust(&fake), &b, now())
    };
    older("0.1", false, true).unwrap();
    older("0.1", true, true).unwrap();
    older("0.2", true, true).unwrap();
    assert!(older("0.1", true, false).unwrap_err().contains("promise"));
    assert!(older("0.2", false, true).unwrap_err().contains("proof"));
    assert!(older("0.3", true, true).is_err());
    // What is not a bundle at all, and one cut anywhere.
    let text = good.to_string();
    for cut in (0..text.len()).step_by(7) {
        assert!(verify_blob(&trust(&fake), &text.as_bytes()[..cut], BLOB, now()).is_err());
    }
}

#[test]
fn statements_vouch_for_one_image_and_nothing_else() {
    let fake = Fake::new(now() - 3600);
    let signer = fake.certify(&fake.leaf());
    let digest = Digest::sha256(BLOB);
    let text = String::from_utf8(statement(&digest, None)).unwrap();
    let check = |bundle: &Value| image(&trust(&fake), bundle, &digest, now());
    let of = |text: &str| fake.statement_bundle(&signer, text.as_bytes(), 4, 1);
    check(&of(&text)).unwrap();
    let refuse = |bundle: Value, why: &str| {
        let e = check(&bundle).expect_err(why);
        assert!(e.contains(why), "{why}: {e}");
    };
    refuse(of(&text.replace(&digest.hex(), &Digest::sha256(b"x").hex())), "another image");
    refuse(
        of(&text.replace("https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1")),
        "not a signature",
    );
    refuse(of("[]"), "malformed");
    let other = of(&text.replace("\"predicate\":{}", "\"predicate\":{\"a\":1}"));
    let mut swapped = of(&text);
    swapped["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone();
    refuse(swapped, "does not verify");
    let mut kind = of(&text);
    kind["dsseEnvelope"]["payloadType"] = json!("text/plain");
    refuse(kind, "in-toto");
    let mut many = of(&text);
    let one = many["dsseEnvelope"]["signatures"][0].clone();
    many["dsseEnvelope"]["signatures"] = json!([one, one]);
    refuse(many, "exactly one");
    let mut entry = of(&text);
    entry["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone();
    refuse(entry, "another");
    let message = fake.message_bundle(&signer, BLOB, 7, 3);
    let mut entry = of(&text);
    entry["verificationMaterial"]["tlogEntries"] = message["verificationMaterial"]["tlogEntries"].clone();
    refuse(entry, "another digest");
}

#[test]
fn keys_may_have_to_be_in_a_log() {
    let (fake, other) = (Fake::new(now() - 3600), Fake::new(now() - 3600));
    let (own, stranger) = (p256(), p256());
    let digest = Digest::sha256(BLOB);
    let bundle = fake.keyed_bundle(&own, &statement(&digest, None));
    let trust = |key: &KeyPair, log: &KeyPair| {
        Trust::keys(&[key.public_key_pem()]).unwrap().with_logs(&[log.public_key_pem()]).unwrap()
    };
    image(&trust(&own, &fake.rekor), &bundle, &digest, now()).unwrap();
    image(&Trust::keys(&[own.public_key_pem()]).unwrap(), &bundle, &digest, now()).unwrap();
    assert!(image(&trust(&stranger, &fake.rekor), &bundle, &digest, now()).is_err());
    assert!(image(&trust(&own, &other.rekor), &bundle, &digest, now()).is_err());
    let mut unlogged = bundle.clone();
    unlogged["verificationMaterial"]["tlogEntries"] = json!([]);
    assert!(image(&trust(&own, &fake.rekor), &unlogged, &digest, now()).is_err());
    // The log's record of the same statement under another key is none of this one.
    let mut swapped = bundle.clone();
    swapped["verificationMaterial"]["tlogEntries"] = fake.keyed_bundle(&stranger, &statement(&digest, None))
        ["verificationMaterial"]["tlogEntries"]
        .clone();
    assert!(image(&trust(&own, &fake.rekor), &swapped, &digest, now()).unwrap_err().contains("another"));
}

#[test]
fn records_of_the_kind_intoto_are_read() {
    let fake = Fake::new(now() - 3600);
    let signer = fake.certify(&fake.leaf());
    let digest = Digest::sha256(BLOB);
    let payload = statement(&digest, None);
    let mut bundle = fake.statement_bundle(&signer, &payload, 1, 0);
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap().to_owned();
    let mut with = |hash: &[u8], signature: &str| {
        let body = json!({"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": {
            "envelope": {"payloadType": "application/vnd.in-toto+json",
                "signatures": [{"publicKey": b64(signer.pem()), "sig": b64(signature)}]},
            "hash": {"algorithm": "sha256", "value": hex::encode(sha256(b"envelope"))},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(hash))},
        }}});
        let body = body.to_string().into_bytes();
        let logged =
            Logged { body, kind: "intoto", version: "0.0.2", size: 3, index: 2, promise: true, at: fake.at };
        bundle["verificationMaterial"]["tlogEntries"] = json!([fake.entry(&logged)]);
        image(&trust(&fake), &bundle, &digest, now())
    };
    with(&payload, &signature).unwrap();
    assert!(with(b"x", &signature).unwrap_err().contains("another digest"));
    assert!(with(&payload, "AAAA").unwrap_err().contains("another signature"));
}
