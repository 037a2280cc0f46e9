//! The client against a registry that lies, stalls, breaks off and asks for credentials.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod fake;

use std::time::Duration;

use cocoon_image::{Descriptor, Digest, Reference};
use cocoon_registry::{Auth, BlobStream, Client, Credentials, Error, Retry};
use cocoon_stage::{Code, Failure};
use fake::{Fake, Fault};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn client_with(auth: Auth) -> Client {
    let options = cocoon_http::Options { idle_timeout: Duration::from_millis(200), ..Default::default() };
    let retry = Retry { attempts: 3, pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(cocoon_http::Client::new(options).unwrap(), auth).with_retry(retry)
}

fn client() -> Client {
    client_with(Auth::anonymous())
}

fn descriptor(digest: Digest, size: usize) -> Descriptor {
    Descriptor::new("", digest, size as u64)
}

async fn read(mut s: BlobStream) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(c) = s.chunk().await? {
        all.extend_from_slice(&c);
    }
    Ok(all)
}

fn code(e: Error) -> Code {
    Failure::from(e).code
}

#[tokio::test]
async fn manifests_are_found_and_checked() {
    let r = Fake::start().await;
    let digest = r.manifest("v1", MANIFEST, r#"{"schemaVersion":2}"#);
    let reference = Reference::parse(&r.name("app:v1")).unwrap();
    assert_eq!(client().resolve(&reference).await.unwrap().0, digest);
    assert!(client().manifest(&reference, &digest).await.is_ok());
    assert!(client().tagged(&reference, "nope").await.unwrap().is_none());

    let missing = client().resolve(&reference.with_tag("nope")).await.unwrap_err();
    assert_eq!(code(missing), Code::ImageNotFound);
    r.fault("manifests", Fault::Body(b"{ }".to_vec()), 1);
    assert_eq!(code(client().manifest(&reference, &digest).await.unwrap_err()), Code::ImageDigestMismatch);
    r.fault("manifests", Fault::Html, 1);
    assert_eq!(code(client().manifest(&reference, &digest).await.unwrap_err()), Code::ImageRegistryAnswer);
    r.fault("manifests", Fault::Status(403), 1);
    assert_eq!(code(client().manifest(&reference, &digest).await.unwrap_err()), Code::ImageUnauthorized);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_not_without_end() {
    let r = Fake::start().await;
    let digest = r.manifest("v1", MANIFEST, "{}");
    let reference = Reference::parse(&r.name("app")).unwrap();
    for fault in [Fault::Status(503), Fault::Stall(0), Fault::Cut(1)] {
        r.fault("manifests", fault, 2);
        assert!(client().manifest(&reference, &digest).await.is_ok());
    }
    r.fault("manifests", Fault::Status(500), 99);
    assert_eq!(code(client().manifest(&reference, &digest).await.unwrap_err()), Code::ImageRegistryAnswer);

    let nobody = Reference::parse("127.0.0.1:1/app").unwrap();
    assert_eq!(code(client().resolve(&nobody).await.unwrap_err()), Code::ImageRegistryUnreachable);
}

#[tokio::test]
async fn blobs_resume_where_they_broke() {
    let r = Fake::start().await;
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let d = descriptor(r.blob(content.clone()), content.len());
    let reference = Reference::parse(&r.name("app")).unwrap();
    for faults in [vec![Fault::Cut(100_000), Fault::Stall(50_000)], vec![Fault::Cut(1000), Fault::NoRanges]] {
        for fault in faults {
            r.fault("blobs", fault, 1);
        }
        assert_eq!(read(client().blob(&reference, &d, 0).await.unwrap()).await.unwrap(), content);
    }
    assert!(r.log().iter().any(|l| l.contains("bytes=100000-")), "{:?}", r.log());
    let tail = read(client().blob(&reference, &d, 1_199_999).await.unwrap()).await.unwrap();
    assert_eq!(tail, content[1_199_999..]);

    r.fault("blobs", Fault::Stall(10), 99);
    let e = read(client().blob(&reference, &d, 0).await.unwrap()).await.unwrap_err();
    assert_eq!(code(e), Code::ImageRegistryStalled);
}

#[tokio::test]
async fn a_web_page_or_an_absent_blob_is_named() {
    let r = Fake::start().await;
    let d = descriptor(r.blob("x"), 1);
    let reference = Reference::parse(&r.name("app")).unwrap();
    r.fault("blobs", Fault::Html, 1);
    assert_eq!(code(client().blob(&reference, &d, 0).await.err().unwrap()), Code::ImageRegistryAnswer);
    let absent = descriptor(Digest::sha256(b"absent"), 1);
    assert_eq!(code(client().blob(&reference, &absent, 0).await.err().unwrap()), Code::ImageNotFound);
    let big = descriptor(d.digest, 5000);
    assert_eq!(code(client().blob_bytes(&reference, &big, 100).await.unwrap_err()), Code::ImageTooLarge);
    assert_eq!(code(client().blob_bytes(&reference, &big, 9000).await.unwrap_err()), Code::ImageSizeMismatch);
    assert_eq!(&client().blob_bytes(&reference, &d, 1).await.unwrap()[..], b"x");
}

#[tokio::test]
async fn tokens_are_fetched_with_the_credentials_and_kept() {
    let r = Fake::start().await;
    let digest = r.manifest("latest", MANIFEST, "{}");
    let realm = format!("http://{}/token", r.address);
    r.demand(
        "Bearer t0k",
        &format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:app:pull\""),
    );
    r.token("Basic dTpw", r#"{"access_token":"t0k"}"#);
    let reference = Reference::parse(&r.name("app")).unwrap();
    assert_eq!(code(client().resolve(&reference).await.unwrap_err()), Code::ImageUnauthorized);

    let auth = Auth::anonymous().with(&r.address.to_string(), Credentials::new("u", "p"));
    let c = client_with(auth);
    for _ in 0..2 {
        assert_eq!(c.resolve(&reference).await.unwrap().0, digest);
    }
    let asked = r.log().iter().filter(|l| l.contains("/token?scope=repository:app:pull&service=reg")).count();
    assert_eq!(asked, 2, "once in vain, once for both requests: {:?}", r.log());
}

#[tokio::test]
async fn basic_credentials_work_and_a_helper_is_named() {
    let r = Fake::start().await;
    r.manifest("latest", MANIFEST, "{}");
    r.demand("Basic dTpw", "Basic realm=\"x\"");
    let reference = Reference::parse(&r.name("app")).unwrap();
    let good = Auth::anonymous().with(&r.address.to_string(), Credentials::new("u", "p"));
    assert!(client_with(good).resolve(&reference).await.is_ok());
    let bad = Auth::anonymous().with(&r.address.to_string(), Credentials::new("u", "secret-word"));
    let e = client_with(bad).resolve(&reference).await.unwrap_err();
    assert!(!e.to_string().contains("secret-word"));
    let helper = Auth::from_json(r#"{"credsStore":"desktop"}"#).unwrap();
    let e = client_with(helper).resolve(&reference).await.unwrap_err();
    assert!(e.to_string().contains("credential helper"), "{e}");
}

#[tokio::test]
async fn redirects_leave_credentials_behind_and_end() {
    let (r, cdn) = (Fake::start().await, Fake::start().await);
    let d = descriptor(cdn.blob("content"), 7);
    r.demand("Basic dTpw", "Basic");
    let auth = Auth::anonymous().with(&r.address.to_string(), Credentials::new("u", "p"));
    let reference = Reference::parse(&r.name("app")).unwrap();
    // The first rule is used up by the request without credentials, which is answered by it too.
    r.fault("blobs", Fault::Redirect(format!("http://{}/v2/app/blobs/{}", cdn.address, d.digest)), 1);
    let c = client_with(auth);
    assert_eq!(read(c.blob(&reference, &d, 0).await.unwrap()).await.unwrap(), b"content");
    assert!(cdn.log().iter().all(|l| l.ends_with(" -")), "{:?}", cdn.log());

    r.fault("blobs", Fault::Redirect("/v2/app/blobs/again".into()), 99);
    assert_eq!(code(c.blob(&reference, &d, 0).await.err().unwrap()), Code::ImageRegistryAnswer);
    let away = Fake::start().await;
    away.fault("blobs", Fault::Redirect("http://192.0.2.1/x".into()), 1);
    let reference = Reference::parse(&away.name("app")).unwrap();
    assert_eq!(code(c.blob(&reference, &d, 0).await.err().unwrap()), Code::ImageRegistryAnswer);
}

#[tokio::test]
async fn blobs_and_manifests_are_pushed() {
    let r = Fake::start().await;
    let reference = Reference::parse(&r.name("app:v2")).unwrap();
    let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
    let c = Client::new(http, Auth::anonymous());
    let digest = c.push_blob(&reference, "small".into()).await.unwrap();
    assert_eq!(r.stored_blob(&digest).unwrap(), b"small");
    let before = r.log().len();
    c.push_blob(&reference, "small".into()).await.unwrap();
    assert_eq!(r.log().len(), before + 1, "only asked whether it is there");

    let large = vec![3_u8; (8 << 20) + 5];
    let digest = Digest::sha256(&large);
    c.push_blob_from(&reference, &digest, &mut &large[..]).await.unwrap();
    assert_eq!(r.stored_blob(&digest).unwrap(), large);
    let wrong = Digest::sha256(b"other");
    assert!(c.push_blob_from(&reference, &wrong, &mut &b"x"[..]).await.is_err());

    let pushed = c.push_manifest(&reference, MANIFEST, "{}".into()).await.unwrap();
    assert_eq!(c.resolve(&reference).await.unwrap().0, pushed);
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_the_registry_is_and_repeats_nothing() {
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::sha256(&content);
    // The registry takes the piece, or the end, and fails to say so.
    for fault in [Fault::Answer(503, Vec::new()), Fault::Answer(500, Vec::new()), Fault::Status(504)] {
        let r = Fake::start().await;
        let reference = Reference::parse(&r.name("app")).unwrap();
        // Of the same path and query are PATCH, GET and PUT; the first two pieces fail in turn with what asks for them.
        r.fault("/upload/1?state=x", fault.clone(), 1);
        let c = client();
        c.push_blob_from(&reference, &digest, &mut content.as_slice()).await.unwrap();
        assert!(r.stored_blob(&digest).unwrap() == content, "{fault:?}");
        assert!(r.log().iter().any(|l| l.starts_with("GET /v2/upload/")), "{:?}", r.log());

        let r = Fake::start().await;
        let reference = Reference::parse(&r.name("app")).unwrap();
        r.fault("digest=sha256", fault.clone(), 1);
        c.push_blob_from(&reference, &digest, &mut content.as_slice()).await.unwrap();
        assert!(r.stored_blob(&digest).unwrap() == content);
        r.fault("digest=sha256", fault, 1);
        let small = c.push_blob(&reference, "small".into()).await.unwrap();
        assert_eq!(r.stored_blob(&small).unwrap(), b"small");
        assert_eq!(r.log().iter().filter(|l| l.starts_with("PUT ")).count(), 2, "{:?}", r.log());
    }
}
