//! A vendor on loopback, as well or as badly behaved as a test wants, and documents of our own making.
#![allow(dead_code, missing_docs)]

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_collateral::{
    BackOff, Clock, Config, Endpoint, Folder, Gathered, Online, Policy, Service, Sources, Times, Update,
};
use cocoon_evidence::collateral::{IntelTee, Need};
use cocoon_evidence::snp::Tcb;
use rcgen::{CertificateParams, CertificateRevocationListParams, CustomExtension, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// 2026-06-01T00:00:00Z.
pub const JUNE: u64 = 1_780_272_000;
pub const DAY: u64 = 86_400;

#[derive(Clone, Debug)]
pub enum Reply {
    Ok(Vec<(&'static str, String)>, Vec<u8>),
    Late(Duration, Box<Reply>),
    Status(u16, Vec<(&'static str, String)>),
    /// Takes the request and says nothing.
    Hang,
    /// A byte now and then, for ever.
    Drip,
    /// As fast as it goes, for ever.
    Endless,
    /// Promises more than it sends.
    Cut,
    NotHttp,
}

type Handler = Arc<Mutex<Box<dyn Fn(&str) -> Reply + Send>>>;

pub struct Server {
    pub url: String,
    hits: Arc<Mutex<Vec<String>>>,
    handler: Handler,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(handler: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hits = Arc::new(Mutex::new(Vec::new()));
        let handler: Handler = Arc::new(Mutex::new(Box::new(handler)));
        let (seen, answers) = (hits.clone(), handler.clone());
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, answers) = (seen.clone(), answers.clone());
                tokio::spawn(async move {
                    let _ = serve(tcp, seen, answers).await;
                });
            }
        });
        Server { url, hits, handler, task }
    }

    /// The same behind TLS; gives its certificate, PEM.
    pub async fn start_tls(handler: impl Fn(&str) -> Reply + Send + 'static) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let hits = Arc::new(Mutex::new(Vec::new()));
        let handler: Handler = Arc::new(Mutex::new(Box::new(handler)));
        let (seen, answers) = (hits.clone(), handler.clone());
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, answers, acceptor) = (seen.clone(), answers.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        let _ = serve(stream, seen, answers).await;
                    }
                });
            }
        });
        (Server { url, hits, handler, task }, made.cert.pem())
    }

    pub fn answer(&self, handler: impl Fn(&str) -> Reply + Send + 'static) {
        *self.handler.lock().unwrap() = Box::new(handler);
    }

    /// The paths asked for.
    pub fn hits(&self) -> Vec<String> {
        self.hits.lock().unwrap().clone()
    }

    pub async fn stop(&self) {
        self.task.abort();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut tcp: impl AsyncRead + AsyncWrite + Unpin,
    seen: Arc<Mutex<Vec<String>>>,
    handler: Handler,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if tcp.read(&mut byte).await? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    seen.lock().unwrap().push(path.clone());
    let mut reply = (handler.lock().unwrap())(&path);
    while let Reply::Late(by, next) = reply {
        tokio::time::sleep(by).await;
        reply = *next;
    }
    let head = |status: u16, headers: &[(&str, String)], length: usize| {
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("HTTP/1.1 {status} X\r\n{fields}connection: close\r\ncontent-length: {length}\r\n\r\n")
    };
    match reply {
        Reply::Ok(headers, body) => {
            tcp.write_all(head(200, &headers, body.len()).as_bytes()).await?;
            tcp.write_all(&body).await?;
        }
        Reply::Status(status, headers) => tcp.write_all(head(status, &headers, 0).as_bytes()).await?,
        Reply::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        Reply::Drip => {
            tcp.write_all(head(200, &[], 50_000).as_bytes()).await?;
            loop {
                tcp.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Reply::Endless => {
            tcp.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            loop {
                tcp.write_all(&[b'x'; 65536]).await?;
            }
        }
        Reply::Cut => {
            tcp.write_all(head(200, &[], 1000).as_bytes()).await?;
            tcp.write_all(b"{\"enclaveIdentity\":").await?;
        }
        Reply::NotHttp => tcp.write_all(b"SSH-2.0-no\r\n\r\n").await?,
        Reply::Late(..) => unreachable!(),
    }
    tcp.shutdown().await
}

/// A clock that tests move; milliseconds.
#[derive(Clone)]
pub struct Hands(Arc<AtomicU64>);

impl Hands {
    pub fn at(unix: u64) -> Self {
        Hands(Arc::new(AtomicU64::new(unix * 1000)))
    }

    pub fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let hands = self.0.clone();
        Arc::new(move || hands.load(Ordering::SeqCst))
    }
}

pub fn times() -> Times {
    Times {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(800),
        total: Duration::from_millis(1500),
    }
}

/// All vendors at one server.
pub fn online(server: &Server) -> Online {
    let endpoint = || Endpoint::new(server.url.clone());
    Online {
        amd: endpoint(),
        intel: endpoint(),
        update: Update::Standard,
        nvidia: endpoint(),
        hygon: endpoint(),
        times: times(),
    }
}

/// A configuration that waits for nothing.
pub fn config(folder: Option<Folder>, sources: Sources, hands: &Hands) -> Config {
    Config {
        policy: Policy { refresh: Duration::from_secs(DAY), least: Duration::from_secs(3600) },
        back_off: BackOff::default(),
        patience: Duration::ZERO,
        clock: hands.clock(),
        ..Config::new(folder, sources)
    }
}

pub fn service(server: &Server, folder: Option<Folder>, hands: &Hands) -> Service {
    Service::new(config(folder, Sources::online(&online(server)).unwrap(), hands))
}

pub fn folder(path: &std::path::Path) -> Folder {
    Folder::open(path, cocoon_collateral::Bounds::default()).unwrap()
}

/// Gathers one document within three seconds.
pub async fn one(service: &Service, need: &Need) -> Gathered {
    service.gather(std::slice::from_ref(need), Duration::from_secs(3)).await
}

pub fn body(gathered: &Gathered, need: &Need) -> Option<Vec<u8>> {
    gathered.collateral.get(need).map(|d| d.body.clone())
}

/// Waits for what happens in the background.
pub async fn until<F: Future<Output = bool>>(what: impl Fn() -> F) {
    for _ in 0..300 {
        if what().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

pub const IDENTITY: Need = Need::IntelQeIdentity { tee: IntelTee::Tdx };

/// `YYYY-MM-DDTHH:MM:SSZ`, for days of 2026 and 2027 only.
fn date(unix: u64) -> String {
    let (mut day, second) = ((unix - 1_767_225_600) / DAY, unix % DAY);
    let mut year = 2026;
    if day >= 365 {
        (day, year) = (day - 365, 2027);
    }
    let mut month = 1;
    for length in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", day + 1, second % 60)
}

/// An identity of our own, unsigned: nothing here looks at signatures.
pub fn identity(from: u64, until: u64, note: &str) -> Vec<u8> {
    format!(
        r#"{{"enclaveIdentity":{{"id":"TD_QE","issueDate":"{}","nextUpdate":"{}","note":"{note}"}},"signature":"00"}}"#,
        date(from),
        date(until)
    )
    .into_bytes()
}

pub fn tcb_info(fmspc: &str, from: u64, until: u64) -> Vec<u8> {
    let (from, until) = (date(from), date(until));
    format!(
        r#"{{"tcbInfo":{{"id":"TDX","fmspc":"{}","issueDate":"{from}","nextUpdate":"{until}"}},"signature":"00"}}"#,
        fmspc.to_ascii_uppercase()
    )
    .into_bytes()
}

/// A self-signed certificate (PEM) that holds until 4000.
pub fn chain() -> String {
    use std::sync::LazyLock;
    static CHAIN: LazyLock<String> = LazyLock::new(|| {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(4000, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    });
    CHAIN.clone()
}

/// As it stands in Intel's header fields.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

pub fn identity_reply(document: Vec<u8>) -> Reply {
    Reply::Ok(vec![("SGX-Enclave-Identity-Issuer-Chain", encoded(&chain()))], document)
}

pub fn tcb() -> Tcb {
    Tcb { fmc: None, bootloader: 3, tee: 0, snp: 8, microcode: 115 }
}

pub fn chip(number: u8) -> Need {
    let chip_id = hex::encode([vec![7; 63], vec![number]].concat());
    Need::AmdVcek { product: "Milan".into(), chip_id, tcb: tcb() }
}

/// A certificate that names the chip and levels of a need, signed by nobody that counts.
pub fn vcek(need: &Need) -> Vec<u8> {
    let Need::AmdVcek { chip_id, tcb, .. } = need else { panic!("not a VCEK") };
    let amd = |rest: &[u64]| [&[1, 3, 6, 1, 4, 1, 3704, 1], rest].concat();
    let level = |id: u64, value: u8| {
        CustomExtension::from_oid_content(
            &amd(&[3, id]),
            if value < 128 { vec![2, 1, value] } else { vec![2, 2, 0, value] },
        )
    };
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2033, 1, 1);
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&amd(&[4]), hex::decode(chip_id).unwrap()),
        level(1, tcb.bootloader),
        level(2, tcb.tee),
        level(3, tcb.snp),
        level(8, tcb.microcode),
    ];
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// A revocation list of 2026, next update in 2027.
pub fn crl() -> Vec<u8> {
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2027, 1, 1),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    }
    .signed_by(&issuer)
    .unwrap()
    .der()
    .to_vec()
}
