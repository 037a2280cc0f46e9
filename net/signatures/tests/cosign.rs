//! What cosign signs is found and accepted, under its tag and as a bundle; what is missing, foreign or broken is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::{Path, PathBuf};

use cocoon_image::Digest;
use cocoon_signature::{Needs, Subject};
use cocoon_signatures::{Places, find};
use cocoon_stage::Code;
use common::{MANIFEST, Registry, base64, client, has, http, run};
use serde_json::{Value, json};

/// A folder with a key pair of cosign's, and settings with which it asks no service.
fn keys(registry: &Registry, name: &str) -> PathBuf {
    let dir = registry.dir(name);
    run("cosign", &["generate-key-pair"], &[("HOME", &dir)], &dir);
    let settings = r#"{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}"#;
    std::fs::write(dir.join("settings.json"), settings).unwrap();
    dir
}

fn sign(registry: &Registry, keys: &Path, digest: Digest, more: &[&str]) {
    let image = format!("{}/app@{digest}", registry.address);
    let mut args = vec!["sign", "--key", "cosign.key", "-y", "--allow-http-registry"];
    args.extend(more);
    args.push(&image);
    run("cosign", &args, &[("HOME", keys)], keys);
}

const LEGACY: [&str; 3] = ["--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false"];
const BUNDLE: [&str; 2] = ["--signing-config", "settings.json"];

/// The bundles of cosign name no image, so the digest alone is asked for.
fn requirement(keys: &Path) -> Value {
    by_rule(keys, "matchDigestOnly")
}

fn by_rule(keys: &Path, rule: &str) -> Value {
    json!({"type": "sigstoreSigned", "keyData": base64(std::fs::read(keys.join("cosign.pub")).unwrap()),
        "signedIdentity": {"type": rule}})
}

#[tokio::test]
async fn both_of_cosigns_ways_are_accepted() {
    let (true, Some(registry)) = (has("cosign"), Registry::start()) else { return };
    let (mine, other) = (keys(&registry, "mine"), keys(&registry, "other"));
    let places = Places::default();
    for (what, more) in [("legacy", &LEGACY[..]), ("bundle", &BUNDLE)] {
        let digest = registry.push(what).await;
        let e = registry.decide(digest, requirement(&mine), &places).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureMissing, "{what}: {e}");
        // A stranger's signature is no help, and none in the way.
        sign(&registry, &other, digest, more);
        let e = registry.decide(digest, requirement(&mine), &places).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureInvalid, "{what}: {e}");
        sign(&registry, &mine, digest, more);
        registry.decide(digest, requirement(&mine), &places).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        let named = registry.decide(digest, by_rule(&mine, "matchRepository"), &places).await;
        assert_eq!(named.is_ok(), what == "legacy", "{named:?}");

        let reference = registry.reference("app:v1");
        let subject = Subject { reference: &reference, digests: &[digest, digest] };
        let needs = Needs { cosign: true, ..Needs::default() };
        let found = find(&client(), &http(), &places, &subject, needs).await.unwrap();
        let expected = if what == "legacy" { (2, 0) } else { (0, 2) };
        assert_eq!((found.cosign.len(), found.bundles.len()), expected, "{what}");
        let none = find(&client(), &http(), &places, &subject, Needs::default()).await.unwrap();
        assert_eq!(none, Default::default());
    }
    // A document that says so keeps cosign's signatures from being looked for.
    let digest = registry.push("bundle").await;
    let text = "default-docker:\n  use-sigstore-attachments: false\n";
    let lookaside = cocoon_signature::simple::SigstoreD::parse(text).unwrap();
    let places = Places { lookaside: Some(lookaside), files: false };
    let e = registry.decide(digest, requirement(&mine), &places).await.unwrap_err();
    assert_eq!(e.code, Code::ImageSignatureMissing, "{e}");
}

#[tokio::test]
async fn signatures_of_another_image_do_not_count() {
    let (true, Some(registry)) = (has("cosign"), Registry::start()) else { return };
    let keys = keys(&registry, "keys");
    let signed = registry.push("signed").await;
    sign(&registry, &keys, signed, &LEGACY);
    sign(&registry, &keys, signed, &BUNDLE);
    let other = registry.push("other").await;
    let (client, reference) = (client(), registry.reference("app:v1"));
    // The registry shows the signatures of one image as another's: under the tag, and in the list of referrers.
    let tag = |d: &Digest, end: &str| d.to_string().replace(':', "-") + end;
    for end in [".sig", ""] {
        let bytes = client.tagged(&reference, &tag(&signed, end)).await.unwrap().unwrap();
        let kind = if end.is_empty() { "application/vnd.oci.image.index.v1+json" } else { MANIFEST };
        client.push_manifest(&reference.with_tag(tag(&other, end)), kind, bytes).await.unwrap();
    }
    let places = Places::default();
    registry.decide(signed, requirement(&keys), &places).await.unwrap();
    let e = registry.decide(other, requirement(&keys), &places).await.unwrap_err();
    assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
    assert!(e.reason.contains("another"), "{e}");
}

#[tokio::test]
async fn a_broken_signature_hides_no_good_one_and_is_not_none() {
    let (true, Some(registry)) = (has("cosign"), Registry::start()) else { return };
    let keys = keys(&registry, "keys");
    let places = Places::default();
    let (client, reference) = (client(), registry.reference("app:v1"));
    let digest = registry.push("image").await;
    let tag = digest.to_string().replace(':', "-") + ".sig";
    let garbage = client.push_blob(&reference, "garbage".into()).await.unwrap();
    let config = client.push_blob(&reference, "{}".into()).await.unwrap();
    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
    let layer = |size: usize, signed: bool| {
        let mut layer = json!({"mediaType": kind, "digest": garbage, "size": size});
        if signed {
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "AAAA"});
        }
        layer
    };
    let config =
        json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2});
    let broken = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
        "layers": [layer(7, false), layer(8, true), layer(7, true), layer(1 << 20, true)]});
    client.push_manifest(&reference.with_tag(&tag), MANIFEST, broken.to_string().into()).await.unwrap();
    let e = registry.decide(digest, requirement(&keys), &places).await.unwrap_err();
    assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
    // Cosign adds its own to what is there.
    sign(&registry, &keys, digest, &LEGACY);
    registry.decide(digest, requirement(&keys), &places).await.unwrap();

    // More than are read: the good one is the last.
    let crowd = registry.push("crowd").await;
    sign(&registry, &keys, crowd, &LEGACY);
    let tag = crowd.to_string().replace(':', "-") + ".sig";
    let bytes = client.tagged(&reference, &tag).await.unwrap().unwrap();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layers = manifest["layers"].as_array_mut().unwrap();
    for _ in 0..cocoon_signatures::MAX_SIGNATURES {
        layers.insert(0, layer(7, true));
    }
    client.push_manifest(&reference.with_tag(&tag), MANIFEST, manifest.to_string().into()).await.unwrap();
    let e = registry.decide(crowd, requirement(&keys), &places).await.unwrap_err();
    assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
}

#[tokio::test]
async fn an_outage_is_not_the_absence_of_signatures() {
    let (true, Some(registry)) = (has("cosign"), Registry::start()) else { return };
    let keys = keys(&registry, "keys");
    let requirement = requirement(&keys);
    let web = common::Web::serve(registry.dir("web"), Some("503 Service Unavailable"));
    let reference = cocoon_image::Reference::parse(&format!("{}/app:v1", web.address)).unwrap();
    let subject = Subject { reference: &reference, digests: &[Digest::sha256(b"m")] };
    let needs = Needs { cosign: true, notation: true, simple: false };
    let found = find(&client(), &http(), &Places::default(), &subject, needs).await;
    assert!(matches!(found, Err(cocoon_signatures::Error::Registry(_))), "{found:?}");
    // Where the policy rejects or accepts whatever is signed, nobody is asked.
    let (digest, asked) = (registry.push("image").await, web.asked.lock().unwrap().len());
    assert!(asked > 0);
    let policy = |text: Value| cocoon_signature::policy::Policy::parse(text.to_string().as_bytes()).unwrap();
    for (requirements, good) in [
        (json!({"default": [{"type": "reject"}, requirement]}), false),
        (json!({"default": [{"type": "insecureAcceptAnything"}]}), true),
    ] {
        let policy = policy(requirements);
        let decided = cocoon_signatures::check(
            &client(),
            &http(),
            &Places::default(),
            &subject,
            policy.for_image(&reference),
            common::now(),
        )
        .await;
        assert_eq!(decided.is_ok(), good);
    }
    assert_eq!(web.asked.lock().unwrap().len(), asked);
    let nothing = cocoon_signatures::check(&client(), &http(), &Places::default(), &subject, &[], 0).await;
    assert_eq!(nothing.unwrap_err().code, Code::ImagePolicyInvalid);
    assert!(registry.decide(digest, requirement, &Places::default()).await.is_err());
}
