//! Registries with public names, reached through a proxy that stands in for the network: what they and those they
//! lead to may learn, and where they may lead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod fake;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_image::registries::Registries;
use cocoon_image::{Descriptor, Digest, Reference};
use cocoon_registry::{Auth, Client, Credentials, Error, Retry};
use cocoon_stage::{Code, Failure};
use fake::{Fake, Fault};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `user:secret`
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// A network in which hosts by name are fakes, over TLS on port 443 and plain on port 80.
struct Network {
    hosts: HashMap<&'static str, Fake>,
    client: Client,
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(got).unwrap())
}

async fn join(mut client: impl AsyncRead + AsyncWrite + Unpin, target: SocketAddr, first: &str) {
    let mut server = TcpStream::connect(target).await.unwrap();
    server.write_all(first.as_bytes()).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

impl Network {
    async fn new(auth: Auth) -> Network {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["r.test", "cdn.test", "auth.test", "mirror.test"];
        let certificate = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let mut hosts = HashMap::new();
        for name in names {
            hosts.insert(name, Fake::start().await);
        }
        let addresses: HashMap<&str, SocketAddr> = hosts.iter().map(|(n, f)| (*n, f.address)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let (addresses, tls) = (addresses.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(head) = head(&mut tcp).await else { return };
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    if head.starts_with("CONNECT ") {
                        let Some(at) = target.strip_suffix(":443").and_then(|n| addresses.get(n)) else {
                            return;
                        };
                        tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                        if let Ok(stream) = tls.accept(tcp).await {
                            join(stream, *at, "").await;
                        }
                    } else {
                        let rest = target.strip_prefix("http://").unwrap();
                        let name = rest.split('/').next().unwrap();
                        let Some(at) = addresses.get(name) else { return };
                        join(tcp, *at, &head.replacen(&format!("http://{name}"), "", 1)).await;
                    }
                });
            }
        });
        let options = cocoon_http::Options {
            idle_timeout: Duration::from_millis(500),
            extra_roots: vec![authority.pem()],
            proxy: Some(cocoon_http::Proxy {
                https: Some(proxy.clone()),
                http: Some(proxy),
                no_proxy: String::new(),
            }),
            ..Default::default()
        };
        let retry = Retry { attempts: 2, pause: Duration::from_millis(1), ..Retry::default() };
        let client = Client::new(cocoon_http::Client::new(options).unwrap(), auth).with_retry(retry);
        Network { hosts, client }
    }

    fn host(&self, name: &str) -> &Fake {
        &self.hosts[name]
    }
}

fn reference() -> Reference {
    Reference::parse("r.test/app:v1").unwrap()
}

fn auth() -> Auth {
    Auth::anonymous().with("r.test", Credentials::new("user", "secret"))
}

fn code(e: Error) -> Code {
    Failure::from(e).code
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_along_and_never_steps_down() {
    let n = Network::new(auth()).await;
    let (r, cdn) = (n.host("r.test"), n.host("cdn.test"));
    let digest = cdn.blob("content");
    let blob = Descriptor::new("", digest, 7);
    r.demand(BASIC, "Basic realm=\"r\"");
    r.fault("blobs", Fault::Redirect(format!("https://cdn.test/v2/app/blobs/{digest}?sig=x")), 1);
    assert_eq!(n.client.blob_bytes(&reference(), &blob, 10).await.unwrap(), "content");
    assert!(cdn.log().iter().all(|l| l.ends_with(" -")), "{:?}", cdn.log());

    // Logged in by now, so that a leak would show.
    let manifest = r.manifest("v1", MANIFEST, "{}");
    assert!(n.client.manifest(&reference(), &manifest).await.is_ok());
    assert!(r.log().last().unwrap().ends_with(BASIC));
    for (bad, led) in [
        (format!("http://cdn.test/v2/app/blobs/{digest}"), "cdn.test"),
        (format!("http://r.test/v2/app/blobs/{digest}"), "r.test"),
        ("https://169.254.169.254/latest".to_owned(), ""),
        ("https://[fd00:ec2::254]/latest".to_owned(), ""),
        ("https://[::ffff:127.0.0.1]/".to_owned(), ""),
        (format!("http://{}/v2/app/blobs/{digest}", cdn.address), "cdn.test"),
        (format!("https://{}/v2/app/blobs/{digest}", cdn.address), "cdn.test"),
        (format!("https://localhost:{}/v2/app/blobs/{digest}", cdn.address.port()), "cdn.test"),
        ("file:///etc/passwd".to_owned(), ""),
        ("gopher://cdn.test/".to_owned(), ""),
        ("https://user:word@cdn.test/".to_owned(), ""),
        ("https://r.test@cdn.test/".to_owned(), ""),
        ("//".to_owned(), ""),
        (String::new(), ""),
    ] {
        r.clear();
        r.fault("blobs", Fault::Redirect(bad.clone()), 99);
        let before = if led == "cdn.test" { cdn.log().len() } else { 0 };
        let e = n.client.blob_bytes(&reference(), &blob, 10).await.unwrap_err();
        assert!(matches!(e, Error::Answer { .. } | Error::Transport(_)), "{bad}: {e}");
        assert!(led != "cdn.test" || cdn.log().len() == before, "{bad}");
    }
    // Another host that asks for credentials does not get them, however often it is led to.
    r.clear();
    r.fault("blobs", Fault::Redirect(format!("https://cdn.test/v2/app/blobs/{digest}")), 99);
    cdn.demand("nothing", "Basic realm=\"r.test\"");
    let e = n.client.blob_bytes(&reference(), &blob, 10).await.unwrap_err();
    assert_eq!(code(e), Code::ImageUnauthorized);
    assert!(cdn.log().iter().all(|l| l.ends_with(" -")), "{:?}", cdn.log());
}

#[tokio::test]
async fn redirect_loops_end() {
    let n = Network::new(auth()).await;
    let blob = Descriptor::new("", Digest::sha256(b"x"), 1);
    n.host("r.test").fault("blobs", Fault::Redirect("https://cdn.test/v2/app/blobs/x".into()), 99);
    n.host("cdn.test").fault("blobs", Fault::Redirect("https://r.test/v2/app/blobs/x".into()), 99);
    let e = n.client.blob_bytes(&reference(), &blob, 10).await.unwrap_err();
    assert_eq!(code(e), Code::ImageRegistryAnswer);
    assert!(n.host("r.test").log().len() <= 3, "{:?}", n.host("r.test").log());
}

#[tokio::test]
async fn a_token_service_elsewhere_is_asked_over_tls_only() {
    let n = Network::new(auth()).await;
    let (r, service) = (n.host("r.test"), n.host("auth.test"));
    r.manifest("v1", MANIFEST, "{}");
    service.token(BASIC, r#"{"token":"t0k","expires_in":300}"#);
    for bad in [
        "http://auth.test/token",
        "http://r.test/token",
        "https://169.254.169.254/token",
        "https://localhost/token",
        "file:///token",
        "https://user:x@auth.test/token",
        "",
    ] {
        r.demand("Bearer t0k", &format!("Bearer realm=\"{bad}\",service=\"s\""));
        let e = n.client.resolve(&reference()).await.unwrap_err();
        assert!(!matches!(e, Error::NotFound { .. }), "{bad}: {e}");
        assert!(service.log().is_empty() && r.log().iter().all(|l| l.ends_with(" -")), "{bad}");
    }
    r.demand("Bearer t0k", "Bearer realm=\"https://auth.test/token\",service=\"s\"");
    assert!(n.client.resolve(&reference()).await.is_ok());
    assert!(service.log()[0].starts_with("GET /token?scope=repository:app:pull&service=s"));
}

#[tokio::test]
async fn tokens_expire_and_are_fetched_anew() {
    let n = Network::new(auth()).await;
    let (r, service) = (n.host("r.test"), n.host("auth.test"));
    r.manifest("v1", MANIFEST, "{}");
    r.demand("Bearer t0k", "Bearer realm=\"https://auth.test/token\",service=\"s\"");
    service.token(BASIC, r#"{"token":"t0k","expires_in":1}"#);
    assert!(n.client.resolve(&reference()).await.is_ok());
    assert!(n.client.resolve(&reference()).await.is_ok());
    assert_eq!(service.log().len(), 1);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(n.client.resolve(&reference()).await.is_ok());
    assert_eq!(service.log().len(), 2);
    // One that the registry no longer takes is replaced once, not without end.
    r.demand("Bearer other", "Bearer realm=\"https://auth.test/token\",service=\"s\"");
    let e = n.client.resolve(&reference()).await.unwrap_err();
    assert_eq!(code(e), Code::ImageUnauthorized);
    assert_eq!(service.log().len(), 3);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_the_token_service() {
    let json = r#"{"auths":{"r.test":{"auth":"MDA6","identitytoken":"re fresh&x"}}}"#;
    let n = Network::new(Auth::from_json(json).unwrap()).await;
    let (r, service) = (n.host("r.test"), n.host("auth.test"));
    r.manifest("v1", MANIFEST, "{}");
    r.demand("Bearer t0k", "Bearer realm=\"https://auth.test/token\",service=\"s\"");
    service.token("", r#"{"access_token":"t0k"}"#);
    assert!(n.client.resolve(&reference()).await.is_ok());
    assert!(service.log()[0].starts_with("POST /token - -"), "{:?}", service.log());
    let form = service.last_body();
    assert!(
        form.contains("grant_type=refresh_token&") && form.contains("refresh_token=re%20fresh%26x"),
        "{form}"
    );
    r.demand("x", "Basic realm=\"r\"");
    assert_eq!(code(n.client.resolve(&reference()).await.unwrap_err()), Code::ImageUnauthorized);
}

#[tokio::test]
async fn plain_http_is_for_named_registries_and_never_gets_credentials() {
    let n = Network::new(auth()).await;
    let r = n.host("r.test");
    let digest = r.manifest("v1", MANIFEST, "{}");
    let conf = "[[registry]]\nlocation='r.test'\ninsecure=true";
    let by_conf = n.client.clone().with_registries(Registries::parse(conf).unwrap());
    let by_list = n.client.clone().allow_plain_http(["r.test".to_owned()]);
    for plain in [by_conf, by_list] {
        assert_eq!(plain.resolve(&reference()).await.unwrap().0, digest);
        for challenge in ["Basic realm=\"r\"", "Bearer realm=\"https://auth.test/token\""] {
            r.demand(BASIC, challenge);
            let e = plain.resolve(&reference()).await.unwrap_err();
            assert!(e.to_string().contains("plain HTTP") || matches!(e, Error::Answer { .. }), "{e}");
        }
        assert!(
            n.host("auth.test").log().iter().all(|l| l.ends_with(" -")),
            "{:?}",
            n.host("auth.test").log()
        );
        assert!(r.log().iter().all(|l| l.ends_with(" -")), "{:?}", r.log());
        r.demand_nothing();
    }
}

#[tokio::test]
async fn huge_heads_and_dripping_lists_end() {
    let n = Network::new(auth()).await;
    let r = n.host("r.test");
    let digest = r.manifest("v1", MANIFEST, "{}");
    let long = "y".repeat(600_000);
    r.fault("manifests", Fault::Field("x-long", long), 99);
    assert!(n.client.manifest(&reference(), &digest).await.is_err());
    r.clear();
    let many = (0..500).map(|_| ("x-many", "y".to_owned())).collect();
    r.fault("manifests", Fault::Answer(200, many), 99);
    assert!(n.client.manifest(&reference(), &digest).await.is_err());
    r.clear();
    // 10,000 bytes at 100 a second would last 100 seconds; four idle timeouts are two.
    r.page(&format!("/v2/app/manifests/{digest}"), MANIFEST, None, format!("{{{}}}", " ".repeat(10_000)));
    r.fault("manifests", Fault::Drip(10), 99);
    let began = std::time::Instant::now();
    let e = n.client.manifest(&reference(), &digest).await.unwrap_err();
    assert_eq!(code(e), Code::ImageRegistryStalled);
    assert!(began.elapsed() < Duration::from_secs(20));
}
