//! Time stamps (RFC 3161) of a real authority, OpenSSL's: they prove when it was signed where a log does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use std::path::Path;
use std::process::Command;

use cocoon_image::Digest;
use cocoon_signature::sigstore::Identity;
use cocoon_signature::sigstore::{
    Roots, STATEMENT_MEDIA_TYPE, Trust, pae, statement, verify_blob, verify_bundle,
};
use rcgen::SigningKey as _;
use serde_json::{Value, json};

use sigstore_fake::check::{BLOB, base64_of, cosign, run_cosign, trust_of};
use sigstore_fake::{DAY, EMAIL, Fake, Logged, OIDC, Signer, b64, now, sha256};

const CONFIG: &str = "
[tsa]
default_tsa = it
[it]
dir = .
serial = $dir/serial
crypto_device = builtin
signer_cert = $dir/tsa.pem
certs = $dir/root.pem
signer_key = $dir/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[stamping]
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
";

/// A time-stamping authority in a directory.
struct Tsa {
    dir: tempfile::TempDir,
    /// `-newkey` of its signer, e.g. an elliptic curve or RSA.
    digest: &'static str,
}

fn openssl(dir: &Path, args: &str) -> bool {
    Command::new("openssl").current_dir(dir).args(args.split(' ')).output().is_ok_and(|o| o.status.success())
}

impl Tsa {
    /// `None` where OpenSSL is absent.
    fn new(key: &str, digest: &'static str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("ts.cnf"),
            CONFIG.replace("sha256\ndefault", &format!("{digest}\ndefault")),
        )
        .unwrap();
        if !openssl(dir.path(), "version") {
            println!("skipped: no openssl");
            return None;
        }
        for args in [
            "req -x509 -config ts.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -subj /CN=tsa-root -extensions authority -days 10".to_owned(),
            format!("req -config ts.cnf -new {key} -nodes -keyout tsa.key -out tsa.csr -subj /CN=tsa"),
            "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -CAcreateserial -out tsa.pem -extfile ts.cnf -extensions stamping -days 5".to_owned(),
        ] {
            assert!(openssl(dir.path(), &args), "{args}");
        }
        Some(Tsa { dir, digest })
    }

    /// A response over the bytes.
    fn stamp(&self, bytes: &[u8], with_certificate: bool) -> Vec<u8> {
        let dir = self.dir.path();
        std::fs::write(dir.join("data"), bytes).unwrap();
        let certificate = if with_certificate { " -cert" } else { "" };
        assert!(openssl(dir, &format!("ts -query -data data -{} -out q.tsq{certificate}", self.digest)));
        assert!(openssl(dir, "ts -reply -config ts.cnf -queryfile q.tsq -out r.tsr"));
        std::fs::read(dir.join("r.tsr")).unwrap()
    }

    fn certificate(&self, name: &str) -> Vec<u8> {
        let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        let body: String = text.lines().filter(|l| !l.starts_with('-')).collect();
        base64_of(&json!(body))
    }

    /// The fake instance's roots with this authority.
    fn roots(&self, fake: &Fake) -> Value {
        let mut root = fake.trusted_root();
        root["timestampAuthorities"] = json!([{
            "subject": {"organization": "example", "commonName": "tsa-root"}, "uri": "https://tsa.example",
            "certChain": {"certificates": [
                {"rawBytes": b64(self.certificate("tsa.pem"))}, {"rawBytes": b64(self.certificate("root.pem"))}]},
            "validFor": {"start": "2020-01-01T00:00:00Z"},
        }]);
        root
    }
}

fn stamped(mut bundle: Value, stamp: &[u8]) -> Value {
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": [{"signedTimestamp": b64(stamp)}]});
    bundle
}

fn without_promise(mut bundle: Value) -> Value {
    bundle["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap().remove("inclusionPromise");
    bundle
}

fn check(root: &Value, bundle: &Value, at: u64) -> Result<u64, String> {
    let trust = trust_of(root, Identity::email(OIDC, EMAIL).unwrap());
    let claim = verify_blob(&trust, bundle.to_string().as_bytes(), BLOB, at).map_err(|e| e.to_string())?;
    Ok(claim.at_unix.unwrap())
}

fn parts() -> (Fake, Signer, Value, Vec<u8>) {
    let fake = Fake::new(now() - 30);
    let signer = fake.certify(&fake.leaf());
    let bundle = fake.message_bundle(&signer, BLOB, 7, 3);
    let signature = base64_of(&bundle["messageSignature"]["signature"]);
    (fake, signer, bundle, signature)
}

#[test]
fn a_time_stamp_proves_the_time() {
    let (fake, _, bundle, signature) = parts();
    for (key, digest) in [
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-256", "sha256"),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-384", "sha384"),
        ("-newkey rsa:2048", "sha512"),
    ] {
        let Some(tsa) = Tsa::new(key, digest) else { return };
        let root = tsa.roots(&fake);
        for with_certificate in [true, false] {
            let bundle = stamped(bundle.clone(), &tsa.stamp(&signature, with_certificate));
            let at = check(&root, &without_promise(bundle.clone()), now() + 5).unwrap();
            assert!(at.abs_diff(now()) < 60, "{at}");
            assert!(check(&fake.trusted_root(), &without_promise(bundle.clone()), now() + 5).is_err());
            if cosign() && digest != "sha512" {
                run_cosign(&root, &bundle, false, &["--use-signed-timestamps"]).unwrap();
            }
        }
    }
}

#[test]
fn strangers_cost_little() {
    let (fake, _, bundle, signature) = parts();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
    let (Some(tsa), Some(other)) = (Tsa::new(ec, "sha256"), Tsa::new(ec, "sha256")) else { return };
    let root = tsa.roots(&fake);
    let (good, decoy) = (tsa.stamp(&signature, true), other.stamp(&signature, true));
    let elsewhere = tsa.stamp(b"another signature", true);
    let with = |stamps: &[&Vec<u8>]| {
        let mut bundle = without_promise(bundle.clone());
        let stamps: Vec<Value> = stamps.iter().map(|s| json!({"signedTimestamp": b64(s)})).collect();
        bundle["verificationMaterial"]["timestampVerificationData"] = json!({"rfc3161Timestamps": stamps});
        bundle
    };
    // Of the stamps over this signature two are looked at; others are told apart for nothing.
    check(&root, &with(&[&decoy, &good]), now() + 5).unwrap();
    check(&root, &with(&[&elsewhere, &elsewhere, &elsewhere, &good]), now() + 5).unwrap();
    let e = check(&root, &with(&[&decoy, &decoy, &good]), now() + 5).unwrap_err();
    assert!(e.contains("too many time stamps"), "{e}");
    // Who signed comes before when: nothing of these stamps and entries is looked at.
    let mut unproved = with(&[&decoy, &decoy, &good]);
    unproved["verificationMaterial"]["tlogEntries"] = json!([]);
    let e = check(&root, &unproved, now() + 5).unwrap_err();
    assert!(e.contains("no trusted log"), "{e}");
    let stranger = trust_of(&root, Identity::email(OIDC, "another@example.com").unwrap());
    let e = verify_blob(&stranger, unproved.to_string().as_bytes(), BLOB, now() + 5).unwrap_err().to_string();
    assert!(e.contains("the certificate's subject is"), "{e}");
    let mut foreign = root.clone();
    foreign["certificateAuthorities"] =
        Fake::new(now() - 30).trusted_root()["certificateAuthorities"].clone();
    let e = check(&foreign, &unproved, now() + 5).unwrap_err();
    assert!(e.contains("no path"), "{e}");
}

#[test]
fn other_time_stamps_prove_nothing() {
    let (fake, _, bundle, signature) = parts();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
    let (Some(tsa), Some(other)) = (Tsa::new(ec, "sha256"), Tsa::new(ec, "sha256")) else { return };
    let root = tsa.roots(&fake);
    let with = |stamp: &[u8]| check(&root, &stamped(without_promise(bundle.clone()), stamp), now() + 5);
    let good = tsa.stamp(&signature, true);
    let at = with(&good).unwrap();
    assert!(with(&tsa.stamp(b"another signature", true)).unwrap_err().contains("another signature"));
    assert!(with(&other.stamp(&signature, true)).unwrap_err().contains("trusted authority"));
    assert!(with(b"").is_err() && with(&[0x30, 0]).is_err());
    for cut in 0..good.len() {
        assert!(with(&good[..cut]).is_err(), "{cut}");
    }
    // Whatever byte is changed, no other time comes out.
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1;
        if let Ok(other) = with(&bad) {
            assert_eq!(other, at, "{i}");
        }
    }
    let with_root = |change: &dyn Fn(&mut Value)| {
        let mut root = tsa.roots(&fake);
        change(&mut root["timestampAuthorities"][0]);
        check(&root, &stamped(without_promise(bundle.clone()), &good), now() + 5)
    };
    assert!(
        with_root(&|t| t["validFor"]["end"] = json!("2021-01-01T00:00:00Z"))
            .unwrap_err()
            .contains("not valid")
    );
    // A root alone is enough where the stamp brings its certificate; Fulcio's signer must not stamp.
    let root_only = json!([{"rawBytes": b64(tsa.certificate("root.pem"))}]);
    assert!(with_root(&|t| t["certChain"]["certificates"] = root_only.clone()).is_ok());
    // The same key under a certificate that is not for time stamps.
    let plain = "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -CAcreateserial -out plain.pem -days 5";
    assert!(openssl(tsa.dir.path(), plain));
    let bare = tsa.stamp(&signature, false);
    for (name, accepted) in [("tsa.pem", true), ("plain.pem", false)] {
        let mut root = tsa.roots(&fake);
        root["timestampAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] =
            json!(b64(tsa.certificate(name)));
        let outcome = check(&root, &stamped(without_promise(bundle.clone()), &bare), now() + 5);
        assert_eq!(outcome.is_ok(), accepted, "{name}: {outcome:?}");
    }
    // A stamp from the future, or after the certificate ended.
    let stamped_good = stamped(without_promise(bundle.clone()), &good);
    assert!(check(&root, &stamped_good, now() - DAY).unwrap_err().contains("future"));
    let late = fake.certify(&sigstore_fake::Leaf { to: fake.at - 1, ..fake.leaf() });
    let late = fake.message_bundle(&late, BLOB, 7, 3);
    let late_stamp = tsa.stamp(&base64_of(&late["messageSignature"]["signature"]), true);
    assert!(
        check(&root, &stamped(without_promise(late), &late_stamp), now() + 5)
            .unwrap_err()
            .contains("not valid")
    );
}

#[test]
fn logs_of_the_second_kind_take_their_time_from_a_stamp() {
    let Some(tsa) = Tsa::new("-newkey ec -pkeyopt ec_paramgen_curve:P-256", "sha256") else { return };
    let fake = Fake::with_rekor(now() - 30, sigstore_fake::key(&rcgen::PKCS_ED25519));
    let signer = fake.certify(&fake.leaf());
    let root = tsa.roots(&fake);
    let verifier =
        json!({"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": b64(&signer.der)}});
    let bundle = |kind: &'static str, spec: Value, content: (&str, Value), signature: &[u8]| {
        let body = json!({"apiVersion": "0.0.2", "kind": kind, "spec": spec}).to_string().into_bytes();
        let logged = Logged { body, kind, version: "0.0.2", size: 9, index: 4, promise: false, at: 0 };
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": b64(&signer.der)}, "tlogEntries": [fake.entry(&logged)]},
            (content.0): content.1,
        });
        stamped(bundle, &tsa.stamp(signature, true))
    };
    let signature = signer.key.sign(BLOB).unwrap();
    let message = |recorded: &[u8; 32]| {
        let spec = json!({"hashedRekordV002": {"data": {"algorithm": "SHA2_256", "digest": b64(recorded)},
            "signature": {"content": b64(&signature), "verifier": verifier}}});
        let content = json!({"messageDigest": {"algorithm": "SHA2_256", "digest": b64(sha256(BLOB))},
            "signature": b64(&signature)});
        bundle("hashedrekord", spec, ("messageSignature", content), &signature)
    };
    check(&root, &message(&sha256(BLOB)), now() + 5).unwrap();
    assert!(check(&root, &message(&[3; 32]), now() + 5).unwrap_err().contains("another digest"));

    let digest = Digest::sha256(BLOB);
    let payload = statement(&digest, None);
    let message = pae(STATEMENT_MEDIA_TYPE, &payload);
    let signature = signer.key.sign(&message).unwrap();
    let envelope = json!({"payload": b64(&payload), "payloadType": STATEMENT_MEDIA_TYPE,
        "signatures": [{"sig": b64(&signature)}]});
    let roots = Roots::from_trusted_root(root.to_string().as_bytes()).unwrap();
    let trust = Trust::keyless(roots, Identity::email(OIDC, EMAIL).unwrap()).unwrap();
    let dsse = json!({"dsseV002": {"payloadHash": {"algorithm": "SHA2_256", "digest": b64(sha256(&payload))},
        "signatures": [{"content": b64(&signature), "verifier": verifier}]}});
    let rekord = json!({"hashedRekordV002": {"data": {"algorithm": "SHA2_256", "digest": b64(sha256(&message))},
        "signature": {"content": b64(&signature), "verifier": verifier}}});
    for (kind, spec) in [("dsse", dsse), ("hashedrekord", rekord)] {
        let good = bundle(kind, spec, ("dsseEnvelope", envelope.clone()), &signature);
        verify_bundle(&trust, good.to_string().as_bytes(), &[digest], now() + 5).unwrap();
        let mut unstamped = good.clone();
        unstamped["verificationMaterial"].as_object_mut().unwrap().remove("timestampVerificationData");
        assert!(verify_bundle(&trust, unstamped.to_string().as_bytes(), &[digest], now() + 5).is_err());
    }
}
