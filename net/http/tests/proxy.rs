//! Proxies, further authorities and addresses that others chose: real sockets, TLS by an authority of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cocoon_http::{Client, Error, Options, Proxy, Request, Roots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority and what it certifies.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

type Log = Arc<Mutex<Vec<String>>>;

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(got).unwrap())
}

/// Answers every request with `hello` and keeps the heads.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, log: Log) {
    while let Some(head) = head(&mut stream).await {
        log.lock().unwrap().push(head);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    }
}

async fn server(tls: Option<TlsAcceptor>) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Log::default());
    let kept = log.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            match &tls {
                None => drop(tokio::spawn(serve(tcp, kept.clone()))),
                Some(tls) => {
                    let (accept, kept) = (tls.accept(tcp), kept.clone());
                    tokio::spawn(async move {
                        if let Ok(stream) = accept.await {
                            serve(stream, kept).await;
                        }
                    });
                }
            }
        }
    });
    (address, log)
}

/// A proxy that finds every server at `target`, wants the `Proxy-Authorization` where one is given, and answers
/// CONNECT with `refusal` where that is not empty.
async fn proxy(
    target: SocketAddr,
    tls: Option<TlsAcceptor>,
    authorization: Option<&'static str>,
    refusal: &'static str,
) -> (SocketAddr, Log) {
    async fn one(
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        target: SocketAddr,
        log: Log,
        authorization: Option<&str>,
        refusal: &str,
    ) {
        let Some(head) = head(&mut client).await else { return };
        log.lock().unwrap().push(head.clone());
        let denied = authorization.is_some_and(|a| {
            !head.to_lowercase().contains(&format!("proxy-authorization: {a}").to_lowercase())
        });
        if denied {
            let _ = client.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
        } else if !refusal.is_empty() {
            let _ = client.write_all(refusal.as_bytes()).await;
            let _ = client.read_u8().await;
        } else {
            let mut server = TcpStream::connect(target).await.unwrap();
            if head.starts_with("CONNECT ") {
                client.write_all(b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n").await.unwrap();
            } else {
                server.write_all(head.as_bytes()).await.unwrap();
            }
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log) = (listener.local_addr().unwrap(), Log::default());
    let kept = log.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (kept, tls) = (kept.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => one(tcp, target, kept, authorization, refusal).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(tcp).await else { return };
                        one(stream, target, kept, authorization, refusal).await;
                    }
                }
            });
        }
    });
    (address, log)
}

fn client(authority: Option<&Authority>, proxy: Option<Proxy>) -> Client {
    let options = Options {
        // Nobody, so that what is trusted comes from `extra_roots`.
        roots: Roots::System("/nonexistent".into()),
        extra_roots: authority.map(|a| a.0.pem()).into_iter().collect(),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(2),
        proxy,
        ..Options::default()
    };
    Client::new(options).unwrap()
}

async fn get(client: &Client, url: &str) -> Result<Bytes, Error> {
    client.send(Request::get(url).body(Bytes::new()).unwrap()).await?.bytes(100).await
}

fn both(address: &str, no_proxy: &str) -> Option<Proxy> {
    Some(Proxy { https: Some(address.into()), http: Some(address.into()), no_proxy: no_proxy.into() })
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_the_servers_certificate_counts() {
    let authority = Authority::new();
    let (target, seen) = server(Some(authority.acceptor("registry.test"))).await;
    let (address, log) = proxy(target, None, Some("Basic dTpwOng="), "").await;
    let good = client(Some(&authority), both(&format!("http://u:p%3Ax@{address}"), ""));
    for _ in 0..2 {
        assert_eq!(get(&good, "https://registry.test:5000/v2/").await.unwrap(), "hello");
    }
    assert_eq!(log.lock().unwrap().len(), 1, "the tunnel is used again");
    assert!(log.lock().unwrap()[0].starts_with("CONNECT registry.test:5000 HTTP/1.1\r\n"));
    let heads = seen.lock().unwrap().join("");
    assert!(
        heads.starts_with("GET /v2/ HTTP/1.1") && !heads.to_lowercase().contains("proxy-auth"),
        "{heads}"
    );

    let e = get(&good, "https://other.test/").await.unwrap_err();
    assert!(matches!(e, Error::Certificate { ref host, .. } if host == "other.test"), "{e}");
    let stranger = client(Some(&Authority::new()), both(&format!("http://u:p%3Ax@{address}"), ""));
    assert!(matches!(get(&stranger, "https://registry.test/").await, Err(Error::Certificate { .. })));
    let wrong = client(Some(&authority), both(&format!("http://u:secret@{address}"), ""));
    let e = get(&wrong, "https://registry.test/").await.unwrap_err();
    assert!(matches!(e, Error::Connect { .. }) && e.to_string().contains("407"), "{e}");
    assert!(!format!("{e} {wrong:?}").contains("secret"));
}

#[tokio::test]
async fn http_goes_in_absolute_form_with_the_proxys_credentials() {
    let (target, _) = server(None).await;
    let (address, log) = proxy(target, None, Some("Basic dTpw"), "").await;
    let c = client(None, both(&format!("http://u:p@{address}"), "direct.test"));
    assert_eq!(get(&c, "http://registry.test/a?b=c").await.unwrap(), "hello");
    let head = log.lock().unwrap()[0].to_lowercase();
    assert!(head.starts_with("get http://registry.test/a?b=c http/1.1"), "{head}");
    assert!(head.contains("\r\nhost: registry.test\r\n"), "{head}");
    // Loopback is reached directly, whatever the proxies.
    assert_eq!(get(&c, &format!("http://{target}/")).await.unwrap(), "hello");
    assert_eq!(get(&c, &format!("http://localhost:{}/", target.port())).await.unwrap(), "hello");
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn tls_to_the_proxy_is_checked_too() {
    let authority = Authority::new();
    let (target, _) = server(Some(authority.acceptor("registry.test"))).await;
    let (address, _) = proxy(target, Some(authority.acceptor("localhost")), None, "").await;
    let c = client(Some(&authority), both(&format!("https://localhost:{}", address.port()), ""));
    assert_eq!(get(&c, "https://registry.test/").await.unwrap(), "hello");
    let misnamed = client(Some(&authority), both(&format!("https://{address}"), ""));
    assert!(matches!(get(&misnamed, "https://registry.test/").await, Err(Error::Certificate { .. })));
}

#[tokio::test]
async fn a_hostile_proxy_can_only_deny() {
    let authority = Authority::new();
    let (target, _) = server(None).await;
    let huge: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000)).into_boxed_str());
    for refusal in [
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 2\r\n\r\n",
        "\r\n\r\n",
        huge,
        // Plain HTTP where TLS should begin.
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let (address, _) = proxy(target, None, None, refusal).await;
        let c = client(Some(&authority), both(&format!("http://{address}"), ""));
        let e = get(&c, "https://registry.test/").await.unwrap_err();
        assert!(matches!(e, Error::Connect { .. } | Error::Tls { .. }), "{refusal:.40}: {e}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let c = client(None, both(&format!("http://{closed}"), ""));
    assert!(matches!(get(&c, "https://registry.test/").await, Err(Error::Connect { .. })));
}

#[tokio::test]
async fn further_authorities_are_trusted_beside_the_others() {
    let (one, two) = (Authority::new(), Authority::new());
    let options = Options {
        roots: Roots::Pinned(vec![one.0.pem()]),
        extra_roots: vec![two.0.pem()],
        connect_timeout: Duration::from_secs(5),
        ..Options::default()
    };
    let c = Client::new(options).unwrap();
    for authority in [&one, &two] {
        let (target, _) = server(Some(authority.acceptor("localhost"))).await;
        assert_eq!(get(&c, &format!("https://localhost:{}/", target.port())).await.unwrap(), "hello");
    }
    let (target, _) = server(Some(Authority::new().acceptor("localhost"))).await;
    let e = get(&c, &format!("https://localhost:{}/", target.port())).await.unwrap_err();
    assert!(matches!(e, Error::Certificate { .. }), "{e}");
    for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let options = Options { extra_roots: vec![bad.into()], ..Options::default() };
        assert!(matches!(Client::new(options), Err(Error::Roots(_))), "{bad}");
    }
    let options = Options { proxy: both("ftp://u:secret@p", ""), ..Options::default() };
    assert!(matches!(Client::new(options), Err(Error::Proxy(e)) if !e.contains("secret")));
}

#[tokio::test]
async fn addresses_that_others_chose_are_kept_off_internal_ones() {
    let (target, log) = server(None).await;
    let c = client(None, None);
    let url = format!("http://{target}/");
    // A kept connection must not be lent out either.
    assert_eq!(get(&c, &url).await.unwrap(), "hello");
    let proxied = client(None, both(&format!("http://{target}"), ""));
    for url in [
        url,
        format!("http://localhost:{}/", target.port()),
        format!("http://a.localhost:{}/", target.port()),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://[fe80::1]/".into(),
        "http://[fd00:ec2::254]/".into(),
        "http://168.63.129.16/".into(),
    ] {
        for c in [&c, &proxied] {
            let request = Request::get(&url).body(Bytes::new()).unwrap();
            assert!(matches!(c.send_away(request).await, Err(Error::Forbidden(_))), "{url}");
        }
    }
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dripping_body_and_endless_heads_end() {
    async fn raw(piece: &'static [u8], pause: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = head(&mut tcp).await;
            while tcp.write_all(piece).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
        address
    }
    let options = Options { idle_timeout: Duration::from_millis(200), ..Options::default() };
    let c = Client::new(options).unwrap();
    let drip = raw(b"HTTP/1.1 200 OK\r\n\r\n", 50).await;
    let answer = c.send(Request::get(format!("http://{drip}/")).body(Bytes::new()).unwrap()).await.unwrap();
    assert!(matches!(answer.bytes(1 << 20).await, Err(Error::Stalled(_))));
    for (piece, pause) in
        [(&b"HTTP/1.1 100 Continue\r\n\r\n"[..], 20), (b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", 0)]
    {
        let endless = raw(piece, pause).await;
        let e = get(&c, &format!("http://{endless}/")).await.unwrap_err();
        assert!(matches!(e, Error::Timeout(_) | Error::Protocol(_)), "{e}");
    }
}
