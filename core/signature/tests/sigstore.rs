//! Keyless signatures of a whole fake Sigstore instance: cosign and we accept the same, and what is altered is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use std::process::Command;

use cocoon_image::Digest;
use cocoon_signature::sigstore::{Identity, Roots, Trust, statement, verify_blob, verify_bundle};
use rcgen::{ExtendedKeyUsagePurpose, SanType, SigningKey as _};
use serde_json::{Value, json};

use sigstore_fake::{DAY, EMAIL, Fake, Leaf, Logged, OIDC, b64, hashedrekord, leaf_hash, now, p256, sha256};

const BLOB: &[u8] = b"what is signed";

fn trust_of(root: &Value, identity: Identity) -> Trust {
    Trust::keyless(Roots::from_trusted_root(root.to_string().as_bytes()).unwrap(), identity).unwrap()
}

fn trust(fake: &Fake) -> Trust {
    trust_of(&fake.trusted_root(), Identity::email(OIDC, EMAIL).unwrap())
}

fn blob(trust: &Trust, bundle: &Value, at: u64) -> Result<(), String> {
    verify_blob(trust, bundle.to_string().as_bytes(), BLOB, at).map(|_| ()).map_err(|e| e.to_string())
}

fn image(trust: &Trust, bundle: &Value, digest: &Digest, at: u64) -> Result<(), String> {
    verify_bundle(trust, bundle.to_string().as_bytes(), &[*digest], at).map(|_| ()).map_err(|e| e.to_string())
}

/// Whether cosign is there.
fn cosign() -> bool {
    let there = Command::new("cosign").arg("version").output().is_ok_and(|o| o.status.success());
    if !there {
        println!("skipped: no cosign");
    }
    there
}

fn cosign_verifies(root: &Value, bundle: &Value, statement: bool) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let root = write("root.json", root.to_string().as_bytes());
    let bundle = write("bundle.json", bundle.to_string().as_bytes());
    let blob = write("blob", BLOB);
    let mut command = Command::new("cosign");
    if statement {
        command.args(["verify-blob-attestation", "--type", "https://sigstore.dev/cosign/sign/v1"]);
    } else {
        command.arg("verify-blob");
    }
    command.args(["--certificate-identity", EMAIL, "--certificate-oidc-issuer", OIDC]);
    command.args(["--bundle", &bundle, "--trusted-root", &root, &blob]).env("HOME", dir.path());
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

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
        let statement = fake.statement_bundle(&signer, &statement(&digest), size, index);
        image(&trust(&fake), &statement, &digest, now()).unwrap();
        if cosign {
            cosign_verifies(&fake.trusted_root(), &message, false).unwrap();
            cosign_verifies(&fake.trusted_root(), &statement, true).unwrap();
        }
    }
}

/// One alteration: what is checked against what, and which words explain the refusal.
struct Case {
    name: &'static str,
    root: Value,
    identity: Identity,
    bundle: Value,
    now: u64,
    why: &'static str,
}

impl Case {
    fn of(fake: &Fake, name: &'static str, bundle: Value, why: &'static str) -> Self {
        let identity = Identity::email(OIDC, EMAIL).unwrap();
        Case { name, root: fake.trusted_root(), identity, bundle, now: fake.at + 3600, why }
    }

    fn is_refused(&self) {
        let e =
            blob(&trust_of(&self.root, self.identity.clone()), &self.bundle, self.now).expect_err(self.name);
        assert!(e.contains(self.why), "{}: {e}", self.name);
    }
}

fn bundle_of(fake: &Fake, change: impl FnOnce(&mut Leaf)) -> Value {
    let mut leaf = fake.leaf();
    change(&mut leaf);
    fake.message_bundle(&fake.certify(&leaf), BLOB, 7, 3)
}

fn refused(cases: &[Case]) {
    for case in cases {
        case.is_refused();
    }
    if cosign() {
        for case in
            cases.iter().filter(|c| c.now <= now() && c.identity == Identity::email(OIDC, EMAIL).unwrap())
        {
            let verdict = cosign_verifies(&case.root, &case.bundle, false);
            if verdict.is_ok() {
                println!("stricter than cosign: {}", case.name);
            }
        }
    }
}

#[test]
fn certificates_must_hold_for_the_identity_when_it_was_signed() {
    let fake = Fake::new(now() - 3600);
    let at = fake.at;
    let good = || bundle_of(&fake, |_| ());
    let case =
        |name, change: &dyn Fn(&mut Leaf), why| Case::of(&fake, name, bundle_of(&fake, |l| change(l)), why);
    let named = |name, issuer: &str, subject: Result<&str, &str>, why| {
        let identity = match subject {
            Ok(email) => Identity::email(issuer, email).unwrap(),
            Err(uri) => Identity::uri(issuer, uri).unwrap(),
        };
        Case { identity, ..Case::of(&fake, name, good(), why) }
    };
    let other = Fake::new(at);
    let alien = |l: &mut Leaf| l.ct = Some(p256());
    refused(&[
        named("another subject", OIDC, Ok("dev@example.org"), "subject"),
        named("a longer subject", OIDC, Ok("dev@example.com.org"), "subject"),
        named("another case", OIDC, Ok("Dev@example.com"), "subject"),
        named("another issuer", "https://issuer.example", Ok(EMAIL), "issuer"),
        named("a URI of the same text", OIDC, Err(EMAIL), "subject"),
        case("a URI instead of an address", &|l| l.san = SanType::URI(EMAIL.try_into().unwrap()), "subject"),
        case(
            "a host instead of an address",
            &|l| l.san = SanType::DnsName("example.com".try_into().unwrap()),
            "subject",
        ),
        case("no issuer", &|l| (l.issuer, l.old_issuer) = (None, None), "no OIDC issuer"),
        case("two issuers", &|l| l.old_issuer = Some("https://other.example"), "issuer"),
        case("another new issuer", &|l| l.issuer = Some("https://other.example"), "issuer"),
        case("not for code", &|l| l.usage = ExtendedKeyUsagePurpose::ServerAuth, "not for signing code"),
        case("expired when logged", &|l| (l.from, l.to) = (at - 1200, at - 600), "was not valid"),
        case("not yet valid when logged", &|l| (l.from, l.to) = (at + 600, at + 1200), "was not valid"),
        case("no SCT", &|l| l.ct = None, "SCT"),
        case("SCT of another log", &alien, "SCT"),
        case("SCT of the future", &|l| l.sct_later = DAY, "SCT"),
        Case::of(
            &fake,
            "another authority",
            {
                let mut bundle = good();
                let certificate = other.certify(&fake.leaf()).der;
                bundle["verificationMaterial"]["certificate"]["rawBytes"] = json!(b64(certificate));
                bundle
            },
            "does not verify with its certificate",
        ),
        Case {
            root: other.trusted_root(),
            ..Case::of(&fake, "another instance", good(), "not the log's|promise")
        }
        .loosely(),
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["certificateAuthorities"] = other.trusted_root()["certificateAuthorities"].clone();
                root
            },
            ..Case::of(&fake, "another instance's authority", good(), "no path")
        },
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["certificateAuthorities"][0]["validFor"]["end"] = json!("2021-01-01T00:00:00Z");
                root
            },
            ..Case::of(&fake, "an authority that was retired", good(), "no certificate authority was in use")
        },
        Case {
            root: {
                let mut root = fake.trusted_root();
                root["ctlogs"][0]["publicKey"]["validFor"]["end"] = json!("2021-01-01T00:00:00Z");
                root
            },
            ..Case::of(&fake, "a certificate log that was retired", good(), "SCT")
        },
    ]);
    // An old issuer alone, and a URI, are as good.
    blob(&trust(&fake), &bundle_of(&fake, |l| l.issuer = None), now()).unwrap();
    blob(&trust(&fake), &bundle_of(&fake, |l| l.old_issuer = None), now()).unwrap();
    let uri = "https://github.com/o/r/.github/workflows/x.yml@refs/heads/main";
    let bundle = bundle_of(&fake, |l| l.san = SanType::URI(uri.try_into().unwrap()));
    blob(&trust_of(&fake.trusted_root(), Identity::uri(OIDC, uri).unwrap()), &bundle, now()).unwrap();
}

impl Case {
    /// The refusal may come from more than one check.
    fn loosely(mut self) -> Self {
        self.why = "";
        self
    }
}

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
        fake.checkpoint(7, sigstore_fake::tree(&leaves), &other.rekor)
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

fn base64_of(value: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn body(bundle: &Value) -> Vec<u8> {
    base64_of(&bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"])
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
    let text = String::from_utf8(statement(&digest)).unwrap();
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
    refuse(entry, "says nothing");
}
