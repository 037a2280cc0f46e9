//! What is attached to an image: through the API, by the fallback tag, and from registries that overdo it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod fake;

use std::time::Duration;

use cocoon_image::{Descriptor, Digest, Manifest, Reference};
use cocoon_registry::{Auth, Client, Error, Retry};
use cocoon_stage::{Code, Failure};
use fake::{Fake, Fault};
use serde_json::json;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

fn client() -> Client {
    let options = cocoon_http::Options { idle_timeout: Duration::from_millis(500), ..Default::default() };
    let retry = Retry { attempts: 2, pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(cocoon_http::Client::new(options).unwrap(), Auth::anonymous()).with_retry(retry)
}

fn code(e: Error) -> Code {
    Failure::from(e).code
}

fn entry(content: &str, kind: &str) -> Descriptor {
    let digest = Digest::sha256(content.as_bytes());
    Descriptor { artifact_type: Some(kind.into()), ..Descriptor::new(MANIFEST, digest, 1) }
}

fn list(entries: &[Descriptor]) -> String {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string()
}

fn signature(subject: &Digest, text: &str) -> String {
    let empty = Digest::sha256(b"{}");
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
           "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
           "layers": [], "annotations": {"text": text},
           "subject": {"mediaType": MANIFEST, "digest": subject, "size": 2}})
    .to_string()
}

#[tokio::test]
async fn pages_are_followed_and_filtered_here_too() {
    let r = Fake::start().await;
    let reference = Reference::parse(&r.name("app")).unwrap();
    let image = Digest::sha256(b"image");
    let (a, b, c) = (entry("a", BUNDLE), entry("b", "application/x"), entry("c", BUNDLE));
    let path = format!("/v2/app/referrers/{image}");
    let asked = format!("{path}?artifactType=application/vnd.dev.sigstore.bundle.v0.3%2Bjson");
    for first in [&path, &asked] {
        let next = Some(format!("<{path}?n=2>; rel=\"next\""));
        r.page(first, INDEX, next, list(&[a.clone(), b.clone()]));
    }
    r.page(&format!("{path}?n=2"), INDEX, None, list(&[a.clone(), c.clone()]));
    let all = client().referrers(&reference, &image, None).await.unwrap();
    assert_eq!(all, [a.clone(), b, c.clone()]);
    assert_eq!(client().referrers(&reference, &image, Some(BUNDLE)).await.unwrap(), [a, c]);
    assert!(r.log().iter().all(|l| !l.contains("manifests")), "no fallback beside the API: {:?}", r.log());
}

#[tokio::test]
async fn without_the_api_the_tag_is_read() {
    let r = Fake::start().await;
    let reference = Reference::parse(&r.name("app")).unwrap();
    let image = Digest::sha256(b"image");
    assert!(client().referrers(&reference, &image, None).await.unwrap().is_empty());
    let (a, b) = (entry("a", BUNDLE), entry("b", "application/x"));
    let tag = image.to_string().replace(':', "-");
    r.manifest(&tag, INDEX, list(&[a.clone(), b.clone()]));
    assert_eq!(client().referrers(&reference, &image, None).await.unwrap(), [a.clone(), b]);
    assert_eq!(client().referrers(&reference, &image, Some(BUNDLE)).await.unwrap(), [a.clone()]);
    r.fault("/referrers/", Fault::Html, 1);
    assert_eq!(client().referrers(&reference, &image, Some(BUNDLE)).await.unwrap(), [a]);
    r.manifest(&tag, INDEX, "{\"schemaVersion\":2,\"manifests\":[{}]}");
    let e = client().referrers(&reference, &image, None).await.unwrap_err();
    assert_eq!(code(e), Code::ImageRegistryAnswer);
}

#[tokio::test]
async fn endless_and_straying_lists_are_refused() {
    let r = Fake::start().await;
    let reference = Reference::parse(&r.name("app")).unwrap();
    let image = Digest::sha256(b"image");
    let path = format!("/v2/app/referrers/{image}");
    let refused = async |what: &str| {
        let before = r.log().len();
        let e = client().referrers(&reference, &image, None).await.unwrap_err();
        assert_eq!(code(e), Code::ImageRegistryAnswer, "{what}");
        assert!(r.log().len() - before <= 33, "{what}");
    };
    for n in 0..99 {
        let here = if n == 0 { path.clone() } else { format!("{path}?n={n}") };
        let next = Some(format!("<{path}?n={}>; rel=next", n + 1));
        r.page(&here, INDEX, next, list(&[entry(&n.to_string(), BUNDLE)]));
    }
    refused("endless pages").await;
    r.page(&path, INDEX, Some(format!("<{path}>; rel=next")), list(&[]));
    refused("the page itself again").await;
    r.page(&path, INDEX, Some("<http://127.0.0.1:1/x>; rel=next".into()), list(&[]));
    refused("another host").await;
    r.page(&path, INDEX, Some("<file:///etc/passwd>; rel=next".into()), list(&[]));
    r.page(&format!("{}/file:///etc/passwd", path.rsplit_once('/').unwrap().0), "text/plain", None, "root");
    refused("a file").await;
    let many: Vec<_> = (0..65_000).map(|n| entry(&n.to_string(), "x")).collect();
    r.page(&path, INDEX, None, list(&many));
    refused("65,000 referrers").await;
    r.page(&path, INDEX, None, list(&many[..5000]));
    refused("5,000 referrers").await;
    r.page(&path, INDEX, None, list(&many[..4000]));
    assert_eq!(client().referrers(&reference, &image, None).await.unwrap().len(), 4000);
    r.page(&path, INDEX, None, "{\"schemaVersion\":2");
    refused("half a list").await;
}

#[tokio::test]
async fn referrers_are_attached_with_and_without_the_api() {
    let r = Fake::start().await;
    let reference = Reference::parse(&r.name("app:v1")).unwrap();
    let image = Digest::sha256(b"image");
    let c = client();
    let mut pushed = Vec::new();
    for text in ["one", "two", "one"] {
        pushed.push(c.push_referrer(&reference, MANIFEST, signature(&image, text).into()).await.unwrap());
    }
    assert_eq!(pushed[0].annotations["text"], "one");
    let found = c.referrers(&reference, &image, Some(BUNDLE)).await.unwrap();
    assert_eq!(found, pushed[..2]);
    let got = c.manifest(&reference, &found[0].digest).await.unwrap();
    assert_eq!(Manifest::parse(&got).unwrap().subject.unwrap().digest, image);

    r.keep_referrers();
    let before = r.log().len();
    c.push_referrer(&reference, MANIFEST, signature(&image, "three").into()).await.unwrap();
    assert_eq!(r.log().len(), before + 1, "the registry keeps it, so no list is written");

    let none =
        json!({"schemaVersion": 2, "config": Descriptor::new("x", image, 1), "layers": []}).to_string();
    let e = c.push_referrer(&reference, MANIFEST, none.into()).await.unwrap_err();
    assert_eq!(code(e), Code::ImageManifestInvalid);
}
