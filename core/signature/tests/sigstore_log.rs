//! Transparency logs: what they recorded must be this signature, and they must truly have recorded it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use rcgen::SigningKey as _;
use serde_json::{Value, json};

use sigstore_fake::check::{BLOB, Case, base64_of, refused};
use sigstore_fake::{DAY, Fake, Logged, b64, hashedrekord, leaf_hash, now, sha256, tree};

#[test]
fn logs_must_have_recorded_this_signature() {
    let fake = Fake::new(now() - 3600);
    let (at, other) = (fake.at, Fake::new(fake.at));
    let signer = fake.certify(&fake.leaf());
    let good = fake.message_bundle(&signer, BLOB, 7, 3);
    let entry = |bundle: &Value| bundle["verificationMaterial"]["tlogEntries"][0].clone();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle = good.clone();
        change(&mut bundle["verificationMaterial"]["tlogEntries"][0]);
        bundle
    };
    let case = |name, change: &dyn Fn(&mut Value), why| Case::of(&fake, name, with(change), why);
    // A record that the log truly made, promise, proof and all, but of something else.
    let signature = signer.key.sign(BLOB).unwrap();
    let recorded = |name, body: Vec<u8>, kind, version, why| {
        let logged = Logged { body, kind, version, size: 5, index: 2, promise: true, at };
        let bundle = with(&|e| *e = fake.entry(&logged));
        Case::of(&fake, name, bundle, why)
    };
    let own_signature = base64_of(&good["messageSignature"]["signature"]);
    let hash = sha256(BLOB);
    let twin = fake.certify(&fake.leaf());
    let rekord = |hash: &[u8; 32], signature: &[u8], pem: &str| hashedrekord(hash, signature, pem);
    let another = fake.message_bundle(&signer, b"another message", 7, 3);
    let other_tree = entry(&fake.message_bundle(&signer, BLOB, 6, 3));
    let logged = |promise, at| {
        let body = base64_of(&entry(&good)["canonicalizedBody"]);
        fake.entry(&Logged { body, kind: "hashedrekord", version: "0.0.1", size: 7, index: 3, promise, at })
    };
    let stranger = {
        let leaves: Vec<[u8; 32]> =
            (0..7u8).map(|i| if i == 3 { leaf_hash(&body(&good)) } else { leaf_hash(&[i]) }).collect();
        fake.checkpoint(7, tree(&leaves), &other.rekor)
    };
    refused(&[
        Case::of(
            &fake,
            "no entry",
            {
                let mut bundle = good.clone();
                bundle["verificationMaterial"]["tlogEntries"] = json!([]);
                bundle
            },
            "no trusted log",
        ),
        case("no promise, so no time", &|e| *e = logged(false, at), "nothing proves when"),
        case(
            "no proof",
            &|e| {
                e.as_object_mut().unwrap().remove("inclusionProof");
            },
            "must have the log's proof",
        ),
        case(
            "promise of another entry",
            &|e| e["inclusionPromise"] = entry(&another)["inclusionPromise"].clone(),
            "promise",
        ),
        case(
            "promise of another log",
            &|e| {
                let promise = other.promise(&body(&good), at, 1_000_003);
                e["inclusionPromise"]["signedEntryTimestamp"] = json!(b64(promise));
            },
            "promise",
        ),
        case("another time", &|e| e["integratedTime"] = json!((at + 1).to_string()), "promise"),
        case("another index", &|e| e["logIndex"] = json!("1000004"), "promise"),
        case("another log's id", &|e| e["logId"]["keyId"] = json!(b64(other.log_id())), "promise"),
        case(
            "altered body",
            &|e| {
                let text =
                    String::from_utf8(body(&good)).unwrap().replace("hashedrekord\",", "hashedrekord\" ,");
                e["canonicalizedBody"] = json!(b64(text));
            },
            "promise",
        ),
        case(
            "body of another entry",
            &|e| e["canonicalizedBody"] = entry(&another)["canonicalizedBody"].clone(),
            "another",
        ),
        case("another kind", &|e| e["kindVersion"]["kind"] = json!("dsse"), "kind"),
        case("another version", &|e| e["kindVersion"]["version"] = json!("0.0.9"), "kind"),
        recorded(
            "signature of another moment",
            rekord(&hash, &signature, &signer.pem()),
            "hashedrekord",
            "0.0.1",
            "another signature",
        ),
        recorded(
            "another digest",
            rekord(&[7; 32], &own_signature, &signer.pem()),
            "hashedrekord",
            "0.0.1",
            "another digest",
        ),
        recorded(
            "another certificate",
            rekord(&hash, &own_signature, &twin.pem()),
            "hashedrekord",
            "0.0.1",
            "another certificate",
        ),
        recorded(
            "the bare key",
            rekord(&hash, &own_signature, &signer.key.public_key_pem()),
            "hashedrekord",
            "0.0.1",
            "another key",
        ),
        recorded("no record", b"{}".to_vec(), "hashedrekord", "0.0.1", "another kind"),
        recorded(
            "another type of record",
            br#"{"kind":"rpm","apiVersion":"0.0.1","spec":{}}"#.to_vec(),
            "rpm",
            "0.0.1",
            "says nothing",
        ),
        case(
            "proof of another tree",
            &|e| e["inclusionProof"]["hashes"] = other_tree["inclusionProof"]["hashes"].clone(),
            "does not lead",
        ),
        case(
            "another tree throughout",
            &|e| e["inclusionProof"] = entry(&another)["inclusionProof"].clone(),
            "does not lead",
        ),
        case("another place", &|e| e["inclusionProof"]["logIndex"] = json!("2"), "does not lead"),
        case("beyond the tree", &|e| e["inclusionProof"]["logIndex"] = json!("7"), "does not lead"),
        case("another size", &|e| e["inclusionProof"]["treeSize"] = json!("8"), "another tree"),
        case("another root", &|e| e["inclusionProof"]["rootHash"] = json!(b64([1; 32])), "another tree"),
        case(
            "checkpoint of another tree",
            &|e| e["inclusionProof"]["checkpoint"] = other_tree["inclusionProof"]["checkpoint"].clone(),
            "another tree",
        ),
        case(
            "checkpoint by another key",
            &|e| e["inclusionProof"]["checkpoint"]["envelope"] = json!(stranger),
            "not signed by the log",
        ),
        case(
            "checkpoint without signature",
            &|e| e["inclusionProof"]["checkpoint"]["envelope"] = json!("rekor.example\n7\nAAAA\n"),
            "no signatures",
        ),
        case("recorded in the future", &|e| *e = logged(true, at + 10 * DAY), "future"),
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["tlogs"][0]["publicKey"]["validFor"]["end"] = json!("2021-01-01T00:00:00Z");
                root
            },
            ..Case::of(&fake, "a log that was retired", good.clone(), "not in use")
        },
        Case { now: at - 3600, ..Case::of(&fake, "our clock is before", good.clone(), "future") },
    ]);
}

fn body(bundle: &Value) -> Vec<u8> {
    base64_of(&bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"])
}
