//! A whole Sigstore instance for tests: Fulcio's authority, a Rekor log of several entries, a certificate log.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(clippy::cast_possible_truncation)]

pub mod check;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::{Decode as _, Encode as _};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey as _,
};
use serde_json::{Value, json};

pub const OIDC: &str = "https://issuer.example/oidc";
pub const EMAIL: &str = "dev@example.com";
pub const DAY: u64 = 86_400;

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

pub fn p256() -> KeyPair {
    key(&PKCS_ECDSA_P256_SHA256)
}

pub fn spki(key: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    key.subject_public_key_info()
}

/// An authority's certificate and key.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub der: Vec<u8>,
}

fn params(name: &str, from: u64, to: u64) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(to);
    params
}

impl Authority {
    pub fn root(name: &str, at: u64) -> Self {
        let key = p256();
        let params = Authority::params(name, at);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Authority { issuer: Issuer::new(params, key), der }
    }

    pub fn below(&self, name: &str, at: u64) -> Self {
        let key = p256();
        let params = Authority::params(name, at);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Authority { issuer: Issuer::new(params, key), der }
    }

    fn params(name: &str, at: u64) -> CertificateParams {
        let mut params = params(name, at - 100 * DAY, at + 3650 * DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }
}

/// A Sigstore instance.
pub struct Fake {
    pub root: Authority,
    pub intermediate: Authority,
    pub rekor: KeyPair,
    pub ct: KeyPair,
    /// When everything is signed, Unix seconds.
    pub at: u64,
}

/// How a signer's certificate looks.
pub struct Leaf {
    pub san: SanType,
    pub issuer: Option<&'static str>,
    pub old_issuer: Option<&'static str>,
    pub usage: ExtendedKeyUsagePurpose,
    pub from: u64,
    pub to: u64,
    /// The key of the certificate log; `None` for a certificate without SCT.
    pub ct: Option<KeyPair>,
    /// Added to the SCT's time in seconds before it is signed.
    pub sct_later: u64,
}

/// A certified signer.
pub struct Signer {
    pub key: KeyPair,
    pub der: Vec<u8>,
}

impl Signer {
    pub fn pem(&self) -> String {
        pem(&self.der)
    }
}

pub fn pem(der: &[u8]) -> String {
    let text = b64(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// An entry in the fake log.
pub struct Logged {
    pub body: Vec<u8>,
    pub kind: &'static str,
    pub version: &'static str,
    /// Leaves of the tree and which one this is.
    pub size: usize,
    pub index: usize,
    pub promise: bool,
    pub at: u64,
}

impl Fake {
    pub fn new(at: u64) -> Self {
        Fake::with_rekor(at, p256())
    }

    pub fn with_rekor(at: u64, rekor: KeyPair) -> Self {
        let root = Authority::root("fake fulcio", at);
        let intermediate = root.below("fake fulcio intermediate", at);
        Fake { root, intermediate, rekor, ct: p256(), at }
    }

    pub fn leaf(&self) -> Leaf {
        Leaf {
            san: SanType::Rfc822Name(EMAIL.try_into().unwrap()),
            issuer: Some(OIDC),
            old_issuer: Some(OIDC),
            usage: ExtendedKeyUsagePurpose::CodeSigning,
            from: self.at - 60,
            to: self.at + 540,
            ct: Some(KeyPair::from_pem(&self.ct.serialize_pem()).unwrap()),
            sct_later: 0,
        }
    }

    pub fn certify(&self, leaf: &Leaf) -> Signer {
        self.certify_key(leaf, p256())
    }

    pub fn certify_key(&self, leaf: &Leaf, key: KeyPair) -> Signer {
        let mut params = params("", leaf.from, leaf.to);
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(vec![0x12; 16]));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.usage.clone()];
        params.subject_alt_names = vec![leaf.san.clone()];
        let fulcio = |last: u64| [1, 3, 6, 1, 4, 1, 57264, 1, last];
        if let Some(issuer) = leaf.old_issuer {
            let extension = CustomExtension::from_oid_content(&fulcio(1), issuer.as_bytes().to_vec());
            params.custom_extensions.push(extension);
        }
        if let Some(issuer) = leaf.issuer {
            let content = [&[0x0c, issuer.len() as u8], issuer.as_bytes()].concat();
            params.custom_extensions.push(CustomExtension::from_oid_content(&fulcio(8), content));
        }
        let mut der = params.signed_by(&key, &self.intermediate.issuer).unwrap().der().to_vec();
        if let Some(ct) = &leaf.ct {
            let tbs = x509_cert::Certificate::from_der(&der).unwrap().tbs_certificate().to_der().unwrap();
            let content =
                sct(ct, &spki(self.intermediate.issuer.key()), &tbs, (leaf.from + leaf.sct_later) * 1000);
            let list = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
            params.custom_extensions.push(CustomExtension::from_oid_content(&list, content));
            der = params.signed_by(&key, &self.intermediate.issuer).unwrap().der().to_vec();
        }
        Signer { key, der }
    }

    /// The instance's roots as JSON.
    pub fn trusted_root(&self) -> Value {
        let from = "2020-01-01T00:00:00.000Z";
        let log = |key: &KeyPair, url: &str| {
            let ed25519 = key.algorithm() == &rcgen::PKCS_ED25519;
            let details = if ed25519 { "PKIX_ED25519" } else { "PKIX_ECDSA_P256_SHA_256" };
            json!({"baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": {"keyId": b64(sha256(&spki(key)))},
                "publicKey": {"rawBytes": b64(spki(key)), "keyDetails": details, "validFor": {"start": from}}})
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.rekor, "https://rekor.example")],
            "certificateAuthorities": [{
                "subject": {"organization": "example", "commonName": "fake fulcio"}, "uri": "https://fulcio.example",
                "certChain": {"certificates": [
                    {"rawBytes": b64(&self.intermediate.der)}, {"rawBytes": b64(&self.root.der)}]},
                "validFor": {"start": from},
            }],
            "ctlogs": [log(&self.ct, "https://ct.example")],
        })
    }

    /// The log's id.
    pub fn log_id(&self) -> [u8; 32] {
        sha256(&spki(&self.rekor))
    }

    /// The log's promise over an entry.
    pub fn promise(&self, body: &[u8], at: u64, index: u64) -> Vec<u8> {
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{at},"logID":"{}","logIndex":{index}}}"#,
            b64(body),
            hex::encode(self.log_id())
        );
        self.rekor.sign(signed.as_bytes()).unwrap()
    }

    /// An entry as bundles carry it.
    pub fn entry(&self, logged: &Logged) -> Value {
        let leaves: Vec<[u8; 32]> = (0..logged.size)
            .map(|i| if i == logged.index { leaf_hash(&logged.body) } else { leaf_hash(&[i as u8]) })
            .collect();
        let root = tree(&leaves);
        let hashes: Vec<String> = path(logged.index, &leaves).iter().map(b64).collect();
        // The log had other trees before: the index over all of them is another.
        let global = logged.index as u64 + 1_000_000;
        let mut entry = json!({
            "logIndex": global.to_string(),
            "logId": {"keyId": b64(self.log_id())},
            "kindVersion": {"kind": logged.kind, "version": logged.version},
            "integratedTime": logged.at.to_string(),
            "inclusionProof": {
                "logIndex": logged.index.to_string(), "rootHash": b64(root), "treeSize": logged.size.to_string(),
                "hashes": hashes, "checkpoint": {"envelope": self.checkpoint(logged.size, root, &self.rekor)},
            },
            "canonicalizedBody": b64(&logged.body),
        });
        if logged.promise {
            let promise = b64(self.promise(&logged.body, logged.at, global));
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": promise});
        }
        entry
    }

    pub fn checkpoint(&self, size: usize, root: [u8; 32], key: &KeyPair) -> String {
        let text = format!("rekor.example - 1\n{size}\n{}\n", b64(root));
        let signature = key.sign(text.as_bytes()).unwrap();
        let hint = &sha256(&spki(key))[..4];
        format!("{text}\n\u{2014} rekor.example {}\n", b64([hint, &signature].concat()))
    }

    /// A bundle 0.3 over a message.
    pub fn message_bundle(&self, signer: &Signer, message: &[u8], size: usize, index: usize) -> Value {
        let signature = signer.key.sign(message).unwrap();
        let body = hashedrekord(&sha256(message), &signature, &signer.pem());
        let logged =
            Logged { body, kind: "hashedrekord", version: "0.0.1", size, index, promise: true, at: self.at };
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": b64(&signer.der)}, "tlogEntries": [self.entry(&logged)]},
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": b64(sha256(message))},
                "signature": b64(&signature),
            },
        })
    }

    /// A bundle 0.3 over an in-toto statement.
    pub fn statement_bundle(&self, signer: &Signer, statement: &[u8], size: usize, index: usize) -> Value {
        let kind = cocoon_signature::sigstore::STATEMENT_MEDIA_TYPE;
        let signature = signer.key.sign(&cocoon_signature::sigstore::pae(kind, statement)).unwrap();
        let envelope =
            json!({"payload": b64(statement), "payloadType": kind, "signatures": [{"sig": b64(&signature)}]});
        let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hex::encode(sha256(envelope.to_string().as_bytes()))},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(statement))},
            "signatures": [{"signature": b64(&signature), "verifier": b64(signer.pem())}],
        }});
        let body = body.to_string().into_bytes();
        let logged = Logged { body, kind: "dsse", version: "0.0.1", size, index, promise: true, at: self.at };
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": b64(&signer.der)}, "tlogEntries": [self.entry(&logged)]},
            "dsseEnvelope": envelope,
        })
    }
}

/// A record of kind `hashedrekord` 0.0.1 in canonical form.
pub fn hashedrekord(sha256: &[u8; 32], signature: &[u8], verifier_pem: &str) -> Vec<u8> {
    json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": hex::encode(sha256)}},
        "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier_pem)}},
    }})
    .to_string()
    .into_bytes()
}

fn sct(ct: &KeyPair, issuer_spki: &[u8], tbs: &[u8], milliseconds: u64) -> Vec<u8> {
    let time = milliseconds.to_be_bytes();
    let length = (tbs.len() as u32).to_be_bytes();
    let signed = [&[0, 0][..], &time, &[0, 1], &sha256(issuer_spki), &length[1..], tbs, &[0, 0]].concat();
    let signature = ct.sign(&signed).unwrap();
    let length = (signature.len() as u16).to_be_bytes();
    let one = [&[0][..], &sha256(&spki(ct)), &time, &[0, 0, 4, 3], &length, &signature].concat();
    let list = [&(one.len() as u16).to_be_bytes()[..], &one].concat();
    let list = [&(list.len() as u16).to_be_bytes()[..], &list].concat();
    [&[4, list.len() as u8][..], &list].concat()
}

pub fn leaf_hash(data: &[u8]) -> [u8; 32] {
    sha256(&[&[0], data].concat())
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], &left[..], &right[..]].concat())
}

pub fn tree(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [one] => *one,
        many => {
            let k = many.len().next_power_of_two() / 2;
            node(&tree(&many[..k]), &tree(&many[k..]))
        }
    }
}

pub fn path(index: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut below, sibling) = if index < k {
        (path(index, &leaves[..k]), tree(&leaves[k..]))
    } else {
        (path(index - k, &leaves[k..]), tree(&leaves[..k]))
    };
    below.push(sibling);
    below
}
