//! Mirrors that are away, lie, or give half: the image arrives whole or not at all, and credentials stay where they
//! belong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod fake;

use std::time::{Duration, Instant};

use cocoon_image::registries::Registries;
use cocoon_image::{Descriptor, Digest, Reference};
use cocoon_registry::{Auth, BlobStream, Client, Credentials, Error, Retry};
use cocoon_stage::{Code, Failure};
use fake::{Fake, Fault};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn client(auth: Auth) -> Client {
    let options = cocoon_http::Options { idle_timeout: Duration::from_millis(200), ..Default::default() };
    let retry = Retry { attempts: 3, pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(cocoon_http::Client::new(options).unwrap(), auth).with_retry(retry)
}

/// `r.test/team/…` is at the original, below `base`, with these mirrors before it.
fn through(original: &Fake, mirrors: &[&str]) -> Registries {
    let mut conf = format!("[[registry]]\nprefix='r.test/team'\nlocation='{}/base'\n", original.address);
    for mirror in mirrors {
        conf.push_str(&format!("[[registry.mirror]]\nlocation='{mirror}'\n"));
    }
    Registries::parse(&conf).unwrap()
}

fn code(e: Error) -> Code {
    Failure::from(e).code
}

async fn read(mut s: BlobStream) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(c) = s.chunk().await? {
        all.extend_from_slice(&c);
    }
    Ok(all)
}

fn paths(fake: &Fake) -> Vec<String> {
    fake.log().iter().map(|l| l.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn mirrors_are_asked_first_and_under_their_own_names() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let digest = m.manifest("v1", MANIFEST, "{}");
    let content = m.blob("layer");
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
    assert_eq!(c.resolve(&reference).await.unwrap().0, digest);
    assert!(c.manifest(&reference, &digest).await.is_ok());
    let layer = Descriptor::new("", content, 5);
    assert_eq!(read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap(), b"layer");
    assert!(r.log().is_empty());
    assert_eq!(paths(&m)[0], "/v2/cache/app/manifests/v1");

    // What the mirror has not got comes from the original, without the mirror being held in suspicion.
    let only = r.manifest("v2", MANIFEST, "{ }");
    assert_eq!(c.resolve(&reference.with_tag("v2")).await.unwrap().0, only);
    assert_eq!(paths(&r), ["/v2/base/app/manifests/v2"]);
    assert!(c.tagged(&reference, "nope").await.unwrap().is_none());
    assert_eq!(c.resolve(&reference).await.unwrap().0, digest);
}

#[tokio::test]
async fn a_mirror_that_lies_can_only_deny() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let digest = r.manifest("v1", MANIFEST, "{\"schemaVersion\":2}");
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let faults = [
        Fault::Body(b"{\"schemaVersion\":2,\"evil\":1}".to_vec()),
        Fault::Html,
        Fault::Status(404),
        Fault::Status(500),
        Fault::Status(403),
        Fault::Status(204),
        Fault::Redirect("http://169.254.169.254/".into()),
        Fault::Redirect("file:///etc/passwd".into()),
        Fault::Answer(401, vec![("www-authenticate", "Bearer realm=\"http://169.254.169.254/x\"".into())]),
        Fault::Field("content-encoding", "gzip".into()),
        Fault::Stall(3),
        Fault::Cut(3),
        Fault::Drip(60),
    ];
    for fault in faults {
        m.manifest("v1", MANIFEST, "{\"schemaVersion\":2}");
        let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
        m.clear();
        m.fault("manifests", fault.clone(), 99);
        let before = r.log().len();
        let got = c.manifest(&reference, &digest).await;
        assert_eq!(&got.unwrap()[..], b"{\"schemaVersion\":2}", "{fault:?}");
        // Bytes that come slowly are still the right bytes.
        assert!(r.log().len() > before || matches!(fault, Fault::Drip(_)), "{fault:?}");
    }
    let e = client(Auth::anonymous())
        .with_registries(through(&r, &[&m.name("cache"), "127.0.0.1:1"]))
        .manifest(&reference, &Digest::sha256(b"absent"))
        .await
        .unwrap_err();
    let text = e.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains(&m.address.to_string()), "{text}");
    assert!(text.contains(&r.address.to_string()), "{text}");
    assert_eq!(code(e), Code::ImageNotFound);
}

#[tokio::test]
async fn a_blob_goes_on_at_the_next_place_from_where_it_broke() {
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let layer = Descriptor::new("", Digest::sha256(&content), content.len() as u64);
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    for (fault, resumed) in [
        (Fault::Cut(100_000), true),
        (Fault::Stall(100_000), true),
        (Fault::Html, false),
        (Fault::Status(404), false),
        (Fault::Status(503), false),
        (Fault::Body(content[..100_000].to_vec()), true),
    ] {
        let (r, m) = (Fake::start().await, Fake::start().await);
        r.blob(content.clone());
        m.blob(content.clone());
        m.fault("blobs", fault.clone(), 1);
        m.fault("blobs", Fault::WrongRange, 99);
        let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
        // One try at the mirror: whatever it says next is too late.
        let c = c.with_retry(Retry { attempts: 1, ..Retry::default() });
        let got = read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap();
        assert!(got == content, "{fault:?}");
        let range = if resumed { "bytes=100000-" } else { " - " };
        assert!(r.log().iter().any(|l| l.contains(range)), "{fault:?} {:?}", r.log());
    }
    // Two tries: the mirror's answer with another range is not taken for the one asked for.
    let (r, m) = (Fake::start().await, Fake::start().await);
    r.blob(content.clone());
    m.blob(content.clone());
    m.fault("blobs", Fault::Cut(50_000), 1);
    m.fault("blobs", Fault::WrongRange, 1);
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
    assert!(read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap() == content);
    assert!(m.log().len() == 2 && r.log()[0].contains("bytes=50000-"), "{:?} {:?}", m.log(), r.log());
}

#[tokio::test]
async fn wrong_content_of_a_mirror_shows_and_the_next_reading_avoids_it() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let content = vec![7_u8; 200_000];
    let layer = Descriptor::new("", r.blob(content.clone()), 200_000);
    let mut lie = content.clone();
    lie[199_999] = 8;
    let longer = [content.clone(), vec![0; 9]].concat();
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    for (lie, expected) in [(lie.clone(), Code::ImageDigestMismatch), (longer, Code::ImageSizeMismatch)] {
        m.blob(content.clone());
        m.clear();
        m.fault("blobs", Fault::Body(lie), 99);
        let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
        let e = read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap_err();
        assert_eq!(code(e), expected);
        let asked = m.log().len();
        assert_eq!(read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap(), content);
        assert_eq!(m.log().len(), asked, "the liar is not asked again");
        // Whole blobs are read anew by themselves.
        let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
        assert_eq!(c.blob_bytes(&reference, &layer, 1 << 20).await.unwrap(), content);
    }
    // A lie that began at the mirror and was completed by the original is the mirror's.
    m.clear();
    let mut early = lie;
    early[0] = 8;
    m.fault("blobs", Fault::Body(early[..100_000].to_vec()), 99);
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
    let c = c.with_retry(Retry { attempts: 1, ..Retry::default() });
    assert_eq!(c.blob_bytes(&reference, &layer, 1 << 20).await.unwrap(), content);
    // The original's own lie is final, and no endless loop.
    r.fault("blobs", Fault::Body(vec![1; 200_000]), 99);
    let e = c.blob_bytes(&reference, &layer, 1 << 20).await.unwrap_err();
    assert_eq!(code(e), Code::ImageDigestMismatch);
}

#[tokio::test]
async fn a_mirror_gets_its_own_credentials_or_none() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let digest = r.manifest("v1", MANIFEST, "{}");
    r.demand("Basic b3JpZzpwdw==", "Basic realm=\"r\"");
    m.demand("Basic bm9ib2R5", "Basic realm=\"m\"");
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let auth = Auth::anonymous()
        .with("r.test", Credentials::new("user", "secret"))
        .with(&r.address.to_string(), Credentials::new("orig", "pw"));
    let c = client(auth).with_registries(through(&r, &[&m.name("cache")]));
    assert!(c.manifest(&reference, &digest).await.is_ok());
    assert!(m.log().iter().all(|l| l.ends_with(" -")), "{:?}", m.log());
    assert!(r.log().iter().all(|l| !l.contains("dXNlcjpzZWNyZXQ=")), "{:?}", r.log());
    let own = Auth::anonymous().with(&m.name("cache"), Credentials::new("mine", "m"));
    let c = client(own).with_registries(through(&r, &[&m.name("cache")]));
    let e = c.manifest(&reference, &digest).await.unwrap_err();
    assert_eq!(code(e), Code::ImageUnauthorized);
    assert!(m.log().iter().any(|l| l.ends_with("Basic bWluZTpt")), "{:?}", m.log());
}

#[tokio::test]
async fn a_guests_credentials_are_kept_from_its_hosts_loopback() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let digest = r.manifest("v1", MANIFEST, "{}");
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let mine = || Credentials::new("mine", "m");
    let auth = Auth::anonymous().with(&r.address.to_string(), mine()).with(&m.address.to_string(), mine());
    let options = cocoon_http::Options {
        idle_timeout: Duration::from_millis(200),
        loopback: Some("127.0.0.1".parse().unwrap()),
        ..Default::default()
    };
    let retry = Retry { attempts: 2, pause: Duration::from_millis(1), ..Retry::default() };
    let guest = Client::new(cocoon_http::Client::new(options).unwrap(), auth.clone()).with_retry(retry);
    for challenge in ["Basic realm=\"r\"", &format!("Bearer realm=\"http://{}/token\"", r.address)] {
        r.token("Basic bWluZTpt", r#"{"token":"t"}"#);
        r.demand("Basic bWluZTpt", challenge);
        m.demand("Basic bWluZTpt", challenge);
        let c = guest.clone().with_registries(through(&r, &[&m.name("cache")]));
        let e = c.manifest(&reference, &digest).await.unwrap_err();
        assert_eq!(code(e), Code::ImageUnauthorized, "{challenge}");
        assert!([r.log(), m.log()].concat().iter().all(|l| l.ends_with(" -")), "{:?} {:?}", r.log(), m.log());
    }
    // On the owner's own machine loopback is its own.
    r.demand("Basic bWluZTpt", "Basic realm=\"r\"");
    assert!(client(auth).with_registries(through(&r, &[])).manifest(&reference, &digest).await.is_ok());
}

#[tokio::test]
async fn a_mirror_that_gives_nothing_and_an_original_that_lies_come_to_an_end() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let layer = Descriptor::new("", r.blob("layer"), 5);
    r.fault("blobs", Fault::Body(b"liars".to_vec()), 9999);
    // Nothing at all with a good status, then no such blob, over and over.
    for _ in 0..50 {
        m.fault("blobs", Fault::Body(Vec::new()), 1);
        m.fault("blobs", Fault::Status(404), 1);
    }
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
    let e = c.blob_bytes(&reference, &layer, 10).await.unwrap_err();
    assert_eq!(code(e), Code::ImageDigestMismatch);
    assert!(r.log().len() <= 2, "{:?}", r.log());
}

#[tokio::test]
async fn a_layer_that_drips_for_good_is_given_up() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let layer = Descriptor::new("", r.blob(vec![7; 4000]), 4000);
    m.blob(vec![7; 4000]);
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let (grace, slowest) = (Duration::from_millis(300), 4000);
    let retry = Retry { pause: Duration::from_millis(1), grace, slowest, ..Retry::default() };
    // Each byte comes well before silence would be noticed; all of them would take 20 seconds.
    m.fault("blobs", Fault::Drip(5), 99);
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")])).with_retry(retry);
    let began = Instant::now();
    assert_eq!(read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap(), [7; 4000]);
    assert!(m.log().len() == 1 && r.log()[0].contains("bytes="), "{:?} {:?}", m.log(), r.log());
    r.fault("blobs", Fault::Drip(5), 99);
    let e = read(c.blob(&reference, &layer, 0).await.unwrap()).await.unwrap_err();
    assert_eq!(code(e), Code::ImageRegistryStalled);
    assert_eq!(r.log().len(), 2, "{:?}", r.log());
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_silent_mirror_costs_little_and_once() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let digest = r.manifest("v1", MANIFEST, "{}");
    m.manifest("v1", MANIFEST, "{}");
    m.fault("manifests", Fault::Stall(0), 99);
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
    for _ in 0..5 {
        assert!(c.manifest(&reference, &digest).await.is_ok());
    }
    assert!(m.log().len() <= 4, "{:?}", m.log());
}

#[tokio::test]
async fn blocked_names_are_not_asked_for() {
    let conf = "[[registry]]\nprefix='*.r.test'\nblocked=true";
    let c = client(Auth::anonymous()).with_registries(Registries::parse(conf).unwrap());
    let e = c.resolve(&Reference::parse("a.r.test/x").unwrap()).await.unwrap_err();
    assert_eq!(code(e), Code::ImagePolicyRejected);
}

#[tokio::test]
async fn referrers_come_from_whoever_has_them_and_are_pushed_to_the_name() {
    let (r, m) = (Fake::start().await, Fake::start().await);
    let image = Digest::sha256(b"image");
    let tag = image.to_string().replace(':', "-");
    let entry = Descriptor { artifact_type: Some("x".into()), ..Descriptor::new(MANIFEST, image, 1) };
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let c = client(Auth::anonymous()).with_registries(through(&r, &[&m.name("cache")]));
    assert!(c.referrers(&reference, &image, None).await.unwrap().is_empty());
    r.manifest(&tag, INDEX, list);
    assert_eq!(c.referrers(&reference, &image, Some("x")).await.unwrap().len(), 1);

    let conf =
        format!("[[registry]]\nlocation='{}'\n[[registry.mirror]]\nlocation='{}'", r.address, m.address);
    let c = client(Auth::anonymous()).with_registries(Registries::parse(&conf).unwrap());
    let before = m.log().len();
    c.push_blob(&Reference::parse(&r.name("app")).unwrap(), "x".into()).await.unwrap();
    assert_eq!(m.log().len(), before);
}

#[tokio::test]
async fn retry_after_is_honoured_within_its_bound() {
    let r = Fake::start().await;
    let digest = r.manifest("v1", MANIFEST, "{}");
    let reference = Reference::parse(&r.name("app")).unwrap();
    let mut c = client(Auth::anonymous());
    let asked = |seconds: &str| Fault::Answer(429, vec![("retry-after", seconds.into())]);
    r.fault("manifests", asked("1"), 1);
    let began = Instant::now();
    assert!(c.manifest(&reference, &digest).await.is_ok());
    assert!(began.elapsed() >= Duration::from_secs(1));
    c = c.with_retry(Retry {
        attempts: 3,
        pause: Duration::from_millis(1),
        longest: Duration::from_millis(5),
        ..Retry::default()
    });
    for odd in ["99999999999", "Fri, 31 Dec 2100 23:59:59 GMT", "-1", ""] {
        r.fault("manifests", asked(odd), 2);
        let waited = tokio::time::timeout(Duration::from_secs(10), c.manifest(&reference, &digest)).await;
        assert!(waited.unwrap().is_ok(), "{odd}");
    }
    r.fault("manifests", asked("0"), 99);
    let before = r.log().len();
    assert_eq!(code(c.manifest(&reference, &digest).await.unwrap_err()), Code::ImageRegistryAnswer);
    assert_eq!(r.log().len() - before, 3);
}
