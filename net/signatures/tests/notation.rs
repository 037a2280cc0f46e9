//! What Notation signs is found among the referrers and accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use cocoon_signature::{Needs, Subject};
use cocoon_signatures::{Places, find};
use cocoon_stage::Code;
use common::{MANIFEST, Registry, base64, client, has, http, run};
use serde_json::{Value, json};

#[tokio::test]
async fn envelopes_are_found_and_accepted() {
    let (true, Some(registry)) = (has("notation"), Registry::start()) else { return };
    let home = registry.dir("home");
    let env = [("XDG_CONFIG_HOME", home.as_path()), ("XDG_CACHE_HOME", home.as_path())];
    for name in ["mine", "other"] {
        run("notation", &["cert", "generate-test", name], &env, &home);
    }
    let requirement = |name: &str, identity: &str| {
        let root = home.join(format!("notation/truststore/x509/ca/{name}/{name}.crt"));
        json!({"type": "notationSigned", "trustStoreData": base64(std::fs::read(root).unwrap()),
            "trustedIdentities": [identity]})
    };
    let mine = "x509.subject: C=US, ST=WA, O=Notary, CN=mine";
    let places = Places::default();
    for format in ["jws", "cose"] {
        let digest = registry.push(format).await;
        let image = format!("{}/app@{digest}", registry.address);
        let sign = |key: &str| {
            let args = ["sign", "--insecure-registry", "--signature-format", format, "--key", key, &image];
            run("notation", &args, &env, &home);
        };
        let e = registry.decide(digest, requirement("mine", mine), &places).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureMissing, "{e}");
        sign("other");
        let e = registry.decide(digest, requirement("mine", mine), &places).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
        sign("mine");
        let decision = registry.decide(digest, requirement("mine", mine), &places).await;
        decision.unwrap_or_else(|e| panic!("{format}: {e}"));
        registry.decide(digest, requirement("other", "*"), &places).await.unwrap();
        let stranger = "x509.subject: C=US, ST=WA, O=Notary, CN=third";
        let e = registry.decide(digest, requirement("mine", stranger), &places).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");

        let reference = registry.reference("app:v1");
        let subject = Subject { reference: &reference, digests: &[digest] };
        let needs = Needs { notation: true, ..Needs::default() };
        let found = find(&client(), &http(), &places, &subject, needs).await.unwrap();
        assert_eq!((found.notation.len(), found.bundles.len()), (2, 0));
    }
}

#[tokio::test]
async fn a_list_of_strangers_hides_no_signature() {
    let (true, Some(registry)) = (has("notation"), Registry::start()) else { return };
    let home = registry.dir("home");
    let env = [("XDG_CONFIG_HOME", home.as_path()), ("XDG_CACHE_HOME", home.as_path())];
    run("notation", &["cert", "generate-test", "mine"], &env, &home);
    let digest = registry.push("image").await;
    let image = format!("{}/app@{digest}", registry.address);
    run("notation", &["sign", "--insecure-registry", "--key", "mine", &image], &env, &home);
    let (client, reference) = (client(), registry.reference("app:v1"));
    let list = reference.with_tag(digest.to_string().replace(':', "-"));
    let bytes = client.tagged(&reference, list.tag.as_deref().unwrap()).await.unwrap().unwrap();
    let mut index: Value = serde_json::from_slice(&bytes).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    // Before the good one: entries that are not there, of other types or none, and the image itself.
    let absent = cocoon_image::Digest::sha256(b"absent");
    entries.insert(0, json!({"mediaType": MANIFEST, "digest": digest, "size": 1}));
    for kind in ["application/vnd.cncf.notary.signature", "application/spdx+json"] {
        entries.insert(0, json!({"mediaType": MANIFEST, "digest": absent, "size": 1, "artifactType": kind}));
    }
    client
        .push_manifest(&list, "application/vnd.oci.image.index.v1+json", index.to_string().into())
        .await
        .unwrap_err();
    // This registry refuses lists of what it does not have.
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.retain(|e| e["digest"] != json!(absent));
    client
        .push_manifest(&list, "application/vnd.oci.image.index.v1+json", index.to_string().into())
        .await
        .unwrap();
    let root = std::fs::read(home.join("notation/truststore/x509/ca/mine/mine.crt")).unwrap();
    let requirement =
        json!({"type": "notationSigned", "trustStoreData": base64(root), "trustedIdentities": ["*"]});
    registry.decide(digest, requirement, &Places::default()).await.unwrap();
}
