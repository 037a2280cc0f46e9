//! Whole policies: what they mean, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_image::{Digest, Reference};
use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use super::*;
use crate::cosign::{Payload, bundle_for_key, sign};
use crate::sigstore;
use crate::{CosignSignature, Found, KeyPair, Needs, SigningKey, Subject};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn policy(value: &Value) -> Result<Policy, Error> {
    Policy::parse(value.to_string().as_bytes())
}

fn code(e: Error) -> Code {
    Failure::from(e).code
}

fn signed(pair: &KeyPair, name: &str, digest: Digest) -> CosignSignature {
    let payload = Payload { reference: name.to_owned(), manifest_digest: digest }.to_json();
    let signature = sign(&pair.private_pem, &payload).unwrap();
    CosignSignature { payload, signature, ..CosignSignature::default() }
}

fn keyed(pair: &KeyPair, identity: Option<&str>) -> Value {
    let mut value = json!({"type": "sigstoreSigned", "keyData": STANDARD.encode(&pair.public_pem)});
    if let Some(rule) = identity {
        value["signedIdentity"] = json!({"type": rule});
    }
    value
}

#[test]
fn the_most_specific_scope_alone_counts() {
    let rejects = json!([{"type": "reject"}]);
    let accepts = json!([{"type": "insecureAcceptAnything"}]);
    let digest = Digest::sha256(b"");
    let by_digest = format!("a.io/n/x@{digest}");
    let p = policy(&json!({"default": rejects, "transports": {"docker": {
        "a.io/n/x:1": accepts, "a.io/n/x": rejects, "a.io/n": accepts, (by_digest.clone()): accepts,
        "*.b.io": accepts, "c.b.io": rejects, "docker.io/library/busybox": accepts, "d.io:5000": accepts,
    }, "dir": {"": accepts}}}))
    .unwrap();
    for (name, accepted) in [
        ("a.io/n/x:1", true),
        ("a.io/n/x:2", false),
        ("a.io/n/x", false),
        (&by_digest, true),
        (&format!("a.io/n/x:2@{digest}"), true),
        ("a.io/n/xy:2", true),
        ("a.io/n/y/z", true),
        ("a.io/nn/y", false),
        ("a.io/y", false),
        ("e.b.io/x", true),
        ("e.b.io:5000/x", true),
        ("f.e.b.io/x", true),
        ("F.E.B.io/x", true),
        ("A.IO/n/x:1", true),
        ("A.io/n/x:2", false),
        ("C.B.io/x", false),
        ("Docker.io/library/busybox", true),
        ("c.b.io/x", false),
        ("b.io/x", false),
        ("busybox", true),
        ("index.docker.io/library/busybox", true),
        ("alpine", false),
        ("d.io:5000/x", true),
        ("d.io/x", false),
        ("localhost:5000/x", false),
        ("127.0.0.1:5000/x", false),
    ] {
        let requirements = p.for_image(&reference(name));
        assert_eq!(matches!(requirements, [Requirement::InsecureAcceptAnything]), accepted, "{name}");
    }
    let all = policy(&json!({"default": rejects, "transports": {"docker": {"": accepts}}})).unwrap();
    assert!(matches!(all.for_image(&reference("x")), [Requirement::InsecureAcceptAnything]));
}

#[test]
fn what_is_no_policy_is_refused_by_name() {
    let accepts = json!([{"type": "insecureAcceptAnything"}]);
    let pair = KeyPair::generate().unwrap();
    let pem = STANDARD.encode(&pair.public_pem);
    let list = |r: Value| json!({"default": [r]});
    for (bad, named) in [
        (json!([]), "not an object"),
        (json!({}), "default"),
        (json!({"transports": {}}), "default"),
        (json!({"default": []}), "empty"),
        (json!({"default": {}}), "not a list"),
        (json!({"default": accepts, "transport": {}}), "transport"),
        (json!({"default": accepts, "transports": {"docker": {"a.io": []}}}), "a.io"),
        (json!({"default": accepts, "transports": {"dir": {"/x": []}}}), "/x"),
        (json!({"default": accepts, "transports": {"docker": {"example*.*.com": accepts}}}), "example*"),
        (json!({"default": accepts, "transports": {"docker": {"busybox": accepts}}}), "busybox"),
        (list(json!("reject")), "not an object"),
        (list(json!({})), "type"),
        (list(json!({"type": "Reject"})), "Reject"),
        (list(json!({"type": "reject", "x": 1})), "x"),
        (list(json!({"type": "insecureAcceptAnything", "keyData": ""})), "keyData"),
        (list(json!({"type": "signedBy"})), "keyType"),
        (list(json!({"type": "signedBy", "keyType": "GPGKeys"})), "keyData"),
        (list(json!({"type": "signedBy", "keyType": "X509", "keyData": "AAAA"})), "X509"),
        (list(json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": "%"})), "base64"),
        (
            list(json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA", "keyDatas": ["AAAA"]})),
            "exclude",
        ),
        (list(json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"})), "/k"),
        (
            list(json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "keyData": "AAAA"})),
            "keyPath",
        ),
        (list(json!({"type": "signedBy", "keyType": "GPGKeys", "keyDatas": []})), "keyDatas"),
        (
            list(json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA",
            "signedIdentity": {"type": "matchDigestOnly"}})),
            "matchDigestOnly",
        ),
        (list(json!({"type": "sigstoreSigned"})), "fulcio"),
        (list(json!({"type": "sigstoreSigned", "keyData": "AAAA"})), "key"),
        (list(json!({"type": "sigstoreSigned", "keyData": pair.public_pem})), "base64 of the whole"),
        (list(json!({"type": "sigstoreSigned", "keyData": pem, "pki": {}})), "pki"),
        (list(json!({"type": "sigstoreSigned", "keyData": pem, "rekorPublicKeyData": "AAAA"})), "key"),
        (list(json!({"type": "sigstoreSigned", "keyData": pem, "signedIdentity": {}})), "signedIdentity"),
        (
            list(json!({"type": "sigstoreSigned", "keyData": pem,
            "fulcio": {"caData": "AAAA", "oidcIssuer": "i", "subjectEmail": "e"}})),
            "exclude",
        ),
        (
            list(json!({"type": "sigstoreSigned", "rekorPublicKeyData": pem,
            "fulcio": {"caData": "AAAA", "oidcIssuer": "i"}})),
            "subjectEmail",
        ),
        (
            list(json!({"type": "sigstoreSigned", "rekorPublicKeyData": pem,
            "fulcio": {"caData": "AAAA", "oidcIssuer": "i", "subjectEmail": "e", "subjectURI": "u"}})),
            "subjectEmail",
        ),
        (
            list(json!({"type": "sigstoreSigned",
            "fulcio": {"caData": "AAAA", "oidcIssuer": "i", "subjectEmail": "e"}})),
            "rekorPublicKey",
        ),
        (
            list(json!({"type": "sigstoreSigned", "rekorPublicKeyData": pem,
            "fulcio": {"trustedRootData": "AAAA", "oidcIssuer": "i", "subjectEmail": "e"}})),
            "trusted root",
        ),
        (list(json!({"type": "notationSigned", "trustStoreData": "AAAA"})), "trustedIdentities"),
        (
            list(json!({"type": "notationSigned", "trustStoreData": "AAAA", "trustedIdentities": []})),
            "trustedIdentities",
        ),
    ] {
        let e = policy(&bad).expect_err(&bad.to_string());
        assert!(e.to_string().contains(named), "{bad}: {e}");
        assert_eq!(code(e), Code::ImagePolicyInvalid);
    }
    let twice = r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#;
    assert!(Policy::parse(twice.as_bytes()).unwrap_err().to_string().contains("twice"));
    let long = format!("{{\"default\":[{}]}}", vec![r#"{"type":"reject"}"#; 33].join(","));
    assert!(Policy::parse(long.as_bytes()).is_err());
    assert!(Policy::parse(&vec![b' '; MAX_POLICY_BYTES + 1]).is_err());
}

#[test]
fn files_are_put_in() {
    let pair = KeyPair::generate().unwrap();
    let text = json!({"default": [
        {"type": "sigstoreSigned", "keyPath": "kbs:///default/key/1"},
        {"type": "sigstoreSigned", "keyPaths": ["/a", "/b"], "rekorPublicKeyPath": "/a"},
    ], "transports": {"dir": {"": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/g"}]}}})
    .to_string();
    assert_eq!(Policy::paths(text.as_bytes()).unwrap(), ["kbs:///default/key/1", "/a", "/b", "/g"]);
    let files = |path: &str| match path {
        "/missing" => Err("no such file".to_owned()),
        _ => Ok(pair.public_pem.clone().into_bytes()),
    };
    let inlined = Policy::inlined(text.as_bytes(), &files).unwrap();
    assert!(!inlined.to_string().contains("Path"), "{inlined}");
    assert_eq!(inlined["default"][1]["keyDatas"].as_array().unwrap().len(), 2);
    let one = policy(&inlined).unwrap();
    let other = Policy::parse_with(text.as_bytes(), &files).unwrap();
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    let e = Policy::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(e.contains("keyPath") && e.contains("no files here"), "{e}");
    let missing = text.replace("/g", "/missing");
    assert!(Policy::inlined(missing.as_bytes(), &files).unwrap_err().to_string().contains("no such file"));
    let big = |_: &str| Ok(vec![0; MAX_FILE_BYTES + 1]);
    assert!(Policy::inlined(text.as_bytes(), &big).is_err());
}

#[test]
fn the_vector_is_read() {
    let dir = std::env::var("COCOON_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let Ok(text) = std::fs::read(format!("{dir}/image/signature/policy.json")) else {
        println!("skipped: no vectors in {dir}");
        return;
    };
    assert!(Policy::parse(&text).is_err(), "it names files");
    let p = Policy::parse_with(&text, &|_| Ok(b"nonsense".to_vec())).unwrap();
    let kinds = |name: &str| p.for_image(&reference(name)).iter().map(Requirement::kind).collect::<Vec<_>>();
    assert_eq!(kinds("other.org/x"), ["reject"]);
    assert_eq!(kinds("example.com/playground/x"), ["insecureAcceptAnything"]);
    assert_eq!(kinds("example.com/hardened/x:1"), ["signedBy", "signedBy"]);
    let rule = |name: &str| match p.for_image(&reference(name)) {
        [_, Requirement::SignedBy(signed)] => signed.identity.rule(),
        _ => "",
    };
    assert_eq!(rule("registry.access.redhat.com/x"), "matchExact");
    assert_eq!(rule("other.access.redhat.com/x"), "exactReference");
    assert_eq!(rule("access.redhat.com/x"), "exactRepository");
    assert_eq!(rule("redhat.com/x"), "remapIdentity");
    assert_eq!(rule("example.com/hardened/x"), "matchRepoDigestOrExact");
}

#[test]
fn all_requirements_and_any_signature() {
    let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (digest, other) = (Digest::sha256(b"m"), Digest::sha256(b"other"));
    let name = reference("a.io/x:1");
    let subject = Subject { reference: &name, digests: &[digest] };
    let decide_on = |requirements: Value, cosign: Vec<CosignSignature>| {
        let p = policy(&json!({"default": requirements})).unwrap();
        decide(p.for_image(&name), &subject, &Found { cosign, ..Found::default() }, 0)
    };
    let good = |pair| signed(pair, "a.io/x:1", digest);
    let decision =
        decide_on(json!([keyed(&a, None)]), vec![good(&b), signed(&a, "a.io/x:1", other), good(&a)]).unwrap();
    assert!(decision.by[0].contains("SHA256:"), "{decision:?}");
    let both = json!([keyed(&a, None), keyed(&b, None), {"type": "insecureAcceptAnything"}]);
    assert_eq!(decide_on(both.clone(), vec![good(&b), good(&a)]).unwrap().by.len(), 3);
    let any = json!([{"type": "sigstoreSigned",
        "keyDatas": [STANDARD.encode(&a.public_pem), STANDARD.encode(&b.public_pem)]}]);
    assert!(decide_on(any, vec![good(&b)]).is_ok());

    for (requirements, found, expected) in [
        (both.clone(), vec![good(&a)], Code::ImageSignatureInvalid),
        (both.clone(), vec![], Code::ImageSignatureMissing),
        (json!([keyed(&a, None)]), vec![good(&b)], Code::ImageSignatureInvalid),
        (json!([keyed(&a, None)]), vec![signed(&a, "a.io/x:1", other)], Code::ImageSignatureInvalid),
        (json!([keyed(&a, None)]), vec![signed(&a, "a.io/y:1", digest)], Code::ImageSignatureInvalid),
        (json!([keyed(&a, None)]), vec![CosignSignature::default()], Code::ImageSignatureInvalid),
        (json!([{"type": "reject"}]), vec![good(&a)], Code::ImagePolicyRejected),
        (json!([keyed(&a, None), {"type": "reject"}]), vec![], Code::ImagePolicyRejected),
        (json!([{"type": "insecureAcceptAnything"}, keyed(&a, None)]), vec![], Code::ImageSignatureMissing),
        (
            json!([{"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA"}]),
            vec![good(&a)],
            Code::ImageSignatureMissing,
        ),
    ] {
        let e = decide_on(requirements.clone(), found).expect_err(&requirements.to_string());
        assert_eq!(code(e), expected, "{requirements}");
    }
    assert_eq!(code(decide(&[], &subject, &Found::default(), 0).unwrap_err()), Code::ImagePolicyInvalid);
}

#[test]
fn names_in_signatures_follow_the_rule() {
    let pair = KeyPair::generate().unwrap();
    let digest = Digest::sha256(b"m");
    let name = reference("a.io/x:1");
    let subject = Subject { reference: &name, digests: &[digest] };
    let with = |rule: Option<&str>, signed_name: &str| {
        let p = policy(&json!({"default": [keyed(&pair, rule)]})).unwrap();
        let found = Found { cosign: vec![signed(&pair, signed_name, digest)], ..Found::default() };
        decide(p.for_image(&name), &subject, &found, 0).is_ok()
    };
    // As the manual page says: no rule is matchRepoDigestOrExact.
    assert!(with(None, "a.io/x:1") && !with(None, "a.io/x") && !with(None, "a.io/x:2"));
    assert!(with(Some("matchDigestOnly"), "a.io/y") && with(Some("matchDigestOnly"), ""));
    assert!(with(Some("matchExact"), "a.io/x:1") && !with(Some("matchExact"), "a.io/x"));
    assert!(with(Some("matchRepository"), "a.io/x") && !with(Some("matchRepoDigestOrExact"), "a.io/x"));
}

#[test]
fn a_bundle_counts_in_the_repository_that_it_names() {
    let pair = KeyPair::generate().unwrap();
    let key = SigningKey::from_pem(&pair.private_pem).unwrap();
    let digest = Digest::sha256(b"m");
    let decided = |requirements: &[Requirement], bundle: &[u8], name: &str| {
        let (name, found) = (reference(name), Found { bundles: vec![bundle.to_vec()], ..Found::default() });
        decide(requirements, &Subject { reference: &name, digests: &[digest] }, &found, 0)
    };
    let by_key = [Requirement::cosign_key(&pair.public_pem).unwrap()];
    let by_rule = |rule| policy(&json!({"default": [keyed(&pair, rule)]})).unwrap();
    let pinned = format!("a.io/x@{digest}");

    // Cosign's own names nothing: anybody who keeps the registry could offer it for another repository.
    let payload = sigstore::statement(&digest, None);
    let signature = key.sign(&sigstore::pae(sigstore::STATEMENT_MEDIA_TYPE, &payload)).unwrap();
    let nameless = json!({
        "mediaType": sigstore::BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.hint().unwrap()}},
        "dsseEnvelope": {"payload": STANDARD.encode(payload), "payloadType": sigstore::STATEMENT_MEDIA_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature)}]},
    })
    .to_string();
    for name in ["a.io/x:1", "a.io/y:1", &pinned] {
        let e = decided(&by_key, nameless.as_bytes(), name).unwrap_err();
        assert!(e.to_string().contains("names no repository") && e.to_string().contains("matchDigestOnly"));
        assert_eq!(code(e), Code::ImageSignatureInvalid);
        for rule in [None, Some("matchRepository"), Some("matchExact")] {
            let p = by_rule(rule);
            assert!(decided(p.for_image(&reference(name)), nameless.as_bytes(), name).is_err(), "{rule:?}");
        }
        let p = by_rule(Some("matchDigestOnly"));
        decided(p.for_image(&reference(name)), nameless.as_bytes(), name).unwrap();
    }

    let named = bundle_for_key(&key, &reference("a.io/x:7"), &digest).unwrap();
    decided(&by_key, &named, "a.io/x:1").unwrap();
    decided(&by_key, &named, &pinned).unwrap();
    let e = decided(&by_key, &named, "a.io/y:1").unwrap_err();
    assert!(e.to_string().contains("a.io/x"), "{e}");
    // By the manual page's default a tag must be signed, a digest need not be.
    let p = by_rule(None);
    assert!(decided(p.for_image(&reference(&pinned)), &named, &pinned).is_ok());
    assert!(decided(p.for_image(&reference("a.io/x:1")), &named, "a.io/x:1").is_err());
}

#[test]
fn what_is_told_is_bounded_and_fit_for_a_line() {
    let pair = KeyPair::generate().unwrap();
    let digest = Digest::sha256(b"m");
    let name = reference("a.io/x:1");
    let hostile = "\u{1b}[31m\n".repeat(500);
    let cosign = vec![signed(&pair, &hostile, digest); 1000];
    let found = Found { cosign, bundles: vec![hostile.clone().into_bytes(); 1000], ..Found::default() };
    let subject = Subject { reference: &name, digests: &[digest] };
    let requirement = [Requirement::cosign_key(&pair.public_pem).unwrap()];
    let text = decide(&requirement, &subject, &found, 0).unwrap_err().to_string();
    assert!(text.len() < 8192 && !text.contains(['\n', '\u{1b}']), "{}", text.len());
}

#[test]
fn only_what_is_needed_is_looked_for() {
    let pair = KeyPair::generate().unwrap();
    let needs_of = |list: Value| needs(policy(&json!({"default": list})).unwrap().for_image(&reference("x")));
    let accepts = json!({"type": "insecureAcceptAnything"});
    assert_eq!(needs_of(json!([accepts])), Needs::default());
    assert_eq!(needs_of(json!([accepts, keyed(&pair, None)])), Needs { cosign: true, ..Needs::default() });
    let gpg = json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA"});
    assert_eq!(needs_of(json!([gpg])), Needs { simple: true, ..Needs::default() });
    assert_eq!(needs_of(json!([gpg, {"type": "reject"}])), Needs::default());
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "[\\[\\]{}\":,a-zA-Z0-9 ]{0,200}") {
        let _ = Policy::parse(text.as_bytes());
        let _ = Policy::paths(text.as_bytes());
    }
}
