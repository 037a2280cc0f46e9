//! Notation: the real program's envelopes of both formats and all algorithms, and envelopes made wrong on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cocoon_image::Digest;
use cocoon_signature::NotationEnvelope;
use cocoon_signature::notation::{COSE_TYPE, Claim, JWS_TYPE, Trust, verify};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

const IDENTITY: &str = "x509.subject: C=US, ST=WA, O=Acme";
const DAY: u64 = 86_400;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An authority with one signing certificate under it.
struct Ca {
    root_pem: String,
    leaf_pem: String,
    root_der: Vec<u8>,
    leaf_der: Vec<u8>,
    key: KeyPair,
}

/// Unix seconds so many days from now.
fn seconds(days: i64) -> u64 {
    now().checked_add_signed(days * 86_400).unwrap()
}

/// The same as a date for certificates, whose type has no name here.
macro_rules! day {
    ($days:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds($days))
    };
}

fn name(params: &mut CertificateParams, common: &str) {
    let n = &mut params.distinguished_name;
    n.push(DnType::CountryName, "US");
    n.push(DnType::StateOrProvinceName, "WA");
    n.push(DnType::OrganizationName, "Acme");
    n.push(DnType::CommonName, common);
}

fn ca(key: KeyPair, change: impl Fn(&mut CertificateParams)) -> Ca {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    name(&mut root, "root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (root.not_before, root.not_after) = (day!(-900), day!(900));
    let mut leaf = CertificateParams::default();
    name(&mut leaf, "signer");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (day!(-10), day!(10));
    change(&mut leaf);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    Ca {
        root_pem: root_certificate.pem(),
        leaf_pem: leaf.pem(),
        root_der: root_certificate.der().to_vec(),
        leaf_der: leaf.der().to_vec(),
        key,
    }
}

fn p256(change: impl Fn(&mut CertificateParams)) -> Ca {
    ca(KeyPair::generate().unwrap(), change)
}

fn trust(ca: &Ca) -> Trust {
    Trust::new(std::slice::from_ref(&ca.root_pem), &[IDENTITY.to_owned()]).unwrap()
}

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

fn refusal(trust: &Trust, envelope: &NotationEnvelope, now: u64) -> String {
    verify(trust, envelope, now).unwrap_err().to_string()
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
        Trust::new(&[other.root_pem.clone()], &["*".to_owned()])
            .unwrap()
            .with_authorities(&[ca.root_pem.clone()])
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
    let others = Trust::new(&[one.root_pem.clone()], &[stranger.to_owned()]).unwrap();
    let e = refusal(&others, &envelope(&one, &protected(), &payload()), now());
    assert!(e.contains("trusted identities"), "{e}");
    // Another's certificate before the own signature.
    let stolen = Ca { key: two.key, ..one };
    let e = refusal(&trust(&stolen), &envelope(&stolen, &protected(), &payload()), now());
    assert!(e.contains("not its certificate's"), "{e}");

    assert!(Trust::new(&[], &["*".to_owned()]).is_err());
    assert!(Trust::new(&[two.root_pem.clone()], &[]).is_err());
    assert!(Trust::new(&["junk".to_owned()], &["*".to_owned()]).is_err());
    assert!(Trust::new(&[two.root_pem.clone()], &["*".to_owned(), IDENTITY.to_owned()]).is_err());
}

/// Notation with a home of its own and an image layout in it.
struct Notation(tempfile::TempDir);

impl Notation {
    fn new() -> Option<Notation> {
        if Command::new("notation").arg("version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: no notation");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("notation")).unwrap();
        Some(Notation(home))
    }

    fn run(&self, args: &[&str]) {
        let out = Command::new("notation")
            .args(args)
            .env("XDG_CONFIG_HOME", self.0.path())
            .env("XDG_CACHE_HOME", self.0.path())
            .env("NOTATION_EXPERIMENTAL", "1")
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Makes a key known to it.
    fn add(&self, ca: &Ca) {
        let (key, chain) = (self.0.path().join("k.key"), self.0.path().join("k.crt"));
        std::fs::write(&key, ca.key.serialize_pem()).unwrap();
        std::fs::write(&chain, format!("{}{}", ca.leaf_pem, ca.root_pem)).unwrap();
        let keys = json!({"default": "k", "keys": [{"name": "k", "keyPath": key, "certPath": chain}]});
        std::fs::write(self.0.path().join("notation/signingkeys.json"), keys.to_string()).unwrap();
    }

    /// Signs a fresh image and gives its digest and the envelope.
    fn sign(&self, more: &[&str]) -> (Digest, NotationEnvelope) {
        let layout = tempfile::tempdir_in(self.0.path()).unwrap();
        let digest = image(layout.path());
        let name = format!("{}@{digest}", layout.path().display());
        let mut args = vec!["sign", "--oci-layout", &name];
        args.extend(more);
        self.run(&args);
        for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
            let Ok(manifest) = serde_json::from_slice::<Value>(&std::fs::read(blob.unwrap().path()).unwrap())
            else {
                continue;
            };
            if manifest["config"]["mediaType"] == "application/vnd.cncf.notary.signature" {
                let layer = &manifest["layers"][0];
                let hex = layer["digest"].as_str().unwrap().replace("sha256:", "");
                let bytes = std::fs::read(layout.path().join("blobs/sha256").join(hex)).unwrap();
                let media_type = layer["mediaType"].as_str().unwrap().to_owned();
                return (digest, NotationEnvelope { media_type, bytes });
            }
        }
        panic!("no signature in the layout");
    }
}

/// Writes an image layout with one empty image.
fn image(dir: &Path) -> Digest {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let config = put(b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}, "layers": []})
    .to_string();
    let digest = put(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest, "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "v1"}}]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

fn check(claim: &Claim, digest: Digest) {
    assert_eq!(claim.digest, digest);
    assert_eq!(claim.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(claim.annotations.get("build").map(String::as_str), Some("7"));
}

#[test]
fn notations_own_signatures_verify() {
    let Some(notation) = Notation::new() else { return };
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let ec = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    for (what, key) in [
        ("RSA 2048", rsa(rcgen::RsaKeySize::_2048)),
        ("RSA 3072", rsa(rcgen::RsaKeySize::_3072)),
        ("RSA 4096", rsa(rcgen::RsaKeySize::_4096)),
        ("P-256", ec(&rcgen::PKCS_ECDSA_P256_SHA256)),
        ("P-384", ec(&rcgen::PKCS_ECDSA_P384_SHA384)),
        ("P-521", ec(&rcgen::PKCS_ECDSA_P521_SHA512)),
    ] {
        let ca = ca(key, |_| ());
        notation.add(&ca);
        for (format, kind) in [("jws", JWS_TYPE), ("cose", COSE_TYPE)] {
            let more = ["--signature-format", format, "--expiry", "24h", "--user-metadata", "build=7"];
            let (digest, envelope) = notation.sign(&more);
            assert_eq!(envelope.media_type, kind);
            let claim = verify(&trust(&ca), &envelope, now() + 1);
            check(&claim.unwrap_or_else(|e| panic!("{what} {format}: {e}")), digest);
            assert!(refusal(&trust(&ca), &envelope, now() + DAY + 10).contains("has expired"));
            let e = refusal(&trust(&ca), &envelope, now() - 3600);
            assert!(e.contains("future"), "{e}");
            let other = match format {
                "jws" => COSE_TYPE,
                _ => JWS_TYPE,
            };
            let wrong = NotationEnvelope { media_type: other.to_owned(), bytes: envelope.bytes.clone() };
            assert!(refusal(&trust(&ca), &wrong, now()).contains("malformed"));
        }
    }
}

#[test]
fn notations_test_certificate_is_a_root_of_itself() {
    let Some(notation) = Notation::new() else { return };
    notation.run(&["cert", "generate-test", "--default", "wabbit"]);
    let (digest, envelope) = notation.sign(&["--user-metadata", "build=7"]);
    let root = notation.0.path().join("notation/truststore/x509/ca/wabbit/wabbit.crt");
    let root = std::fs::read_to_string(root).unwrap();
    let trust = |identity: &str| Trust::new(&[root.clone()], &[identity.to_owned()]).unwrap();
    let named = trust("x509.subject: C=US, ST=WA, L=Seattle, O=Notary, CN=wabbit");
    check(&verify(&named, &envelope, now() + 1).unwrap(), digest);
    verify(&trust("*"), &envelope, now() + 1).unwrap();
    assert!(refusal(&trust(IDENTITY), &envelope, now() + 1).contains("trusted identities"));
    assert!(refusal(&named, &envelope, now() + 2 * DAY).contains("not valid at the time"));
}

#[test]
fn no_altered_byte_verifies_as_something_else() {
    let Some(notation) = Notation::new() else { return };
    let ca = p256(|_| ());
    notation.add(&ca);
    for format in ["jws", "cose"] {
        let (digest, envelope) = notation.sign(&["--signature-format", format, "--user-metadata", "build=7"]);
        let trust = trust(&ca);
        let mut survivors = 0;
        for at in 0..envelope.bytes.len() {
            let mut altered = envelope.clone();
            altered.bytes[at] ^= 1 << (at % 8);
            if let Ok(claim) = verify(&trust, &altered, now() + 1) {
                check(&claim, digest);
                survivors += 1;
            }
            altered.bytes.truncate(at);
            assert!(verify(&trust, &altered, now() + 1).is_err(), "{format}: cut to {at}");
        }
        // Unsigned remarks, the root's copy in the envelope, which is not needed, and unused bits of base64.
        assert!(survivors < envelope.bytes.len() / 2, "{format}: {survivors} of {}", envelope.bytes.len());
        let mut longer = envelope.clone();
        longer.bytes.extend(b"{}");
        assert!(verify(&trust, &longer, now() + 1).is_err());
    }
}
